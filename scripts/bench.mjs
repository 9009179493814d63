// npm run bench -- NAME ...args: installs and builds where needed, then runs benchmarks/src/NAME.ts. With --help it shows what that file says
// of itself.
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { become, prepare, root } from './workspace.mjs';

// A benchmark is a file directly in benchmarks/src; what several of them share lies in folders below it.
const names = readdirSync(path.join(root, 'benchmarks/src'))
  .filter((file) => file.endsWith('.ts') && file !== 'index.ts')
  .map((file) => file.slice(0, -'.ts'.length));

const [name, ...args] = process.argv.slice(2);
if (!names.includes(name)) {
  const problem = name === undefined || name.startsWith('-') ? 'Name a benchmark' : `There is no benchmark "${name}"`;
  process.stderr.write(`${problem}: npm run bench -- NAME [options]\nBenchmarks: ${names.join(', ') || 'none'}\n`);
  process.exit(2);
}
if (args.includes('--help')) {
  const [, about] = /^\/\*\*\n(.*?)\n \*\//s.exec(readFileSync(path.join(root, `benchmarks/src/${name}.ts`), 'utf8')) ?? [];
  process.stdout.write(`${about.replaceAll(/^ \* ?/gm, '')}\n`);
  process.exit(0);
}
await prepare();
become([path.join(root, `benchmarks/dist/${name}.js`), ...args]);
