// npm start: installs and builds where needed, then runs the whole proof of concept with the given arguments.
import path from 'node:path';
import { become, prepare, root } from './workspace.mjs';

await prepare();
become([path.join(root, 'apps/reference/dist/cli.js'), 'poc', ...process.argv.slice(2)]);
