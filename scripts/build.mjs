// npm run build: installs what is missing and builds every package.
import { prepare } from './workspace.mjs';

await prepare();
