// Runs the pinned pnpm (the packageManager field) with the given arguments; pnpm itself need not be installed.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const pinned = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).packageManager;

/** Runs `pnpm ...args` in the repository root and returns its exit code. */
export function pnpm(args, { env = {}, stdio = 'inherit' } = {}) {
  const environment = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip', TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1', ...env };
  const installed = spawnSync('pnpm', ['--version'], { encoding: 'utf8', cwd: root, env: environment });
  const [command, prefix] =
    installed.status === 0 && `pnpm@${installed.stdout.trim()}` === pinned
      ? ['pnpm', []]
      : ['npm', ['exec', '--yes', `--package=${pinned}`, '--', 'pnpm']];
  return spawnSync(command, [...prefix, ...args], { cwd: root, stdio, env: environment }).status ?? 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(pnpm(process.argv.slice(2)));
