// Runs the pinned pnpm (the packageManager field) with the given arguments; pnpm itself need not be installed.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const pinned = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).packageManager;

// No downloads by install scripts, and nothing sent to anybody.
const settings = { ONNXRUNTIME_NODE_INSTALL: 'skip', TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' };

/** The command line and environment that run `pnpm ...args`. */
export function pnpmCommand(args, extra = {}) {
  const env = { ...process.env, ...settings, ...extra };
  // Set by `npm run --silent`; it would silence pnpm's errors too.
  delete env.npm_config_loglevel;
  const installed = spawnSync('pnpm', ['--version'], { encoding: 'utf8', cwd: root, env });
  if (installed.status === 0 && `pnpm@${installed.stdout.trim()}` === pinned) return { command: 'pnpm', args, env };
  return { command: 'npm', args: ['exec', '--yes', `--package=${pinned}`, '--', 'pnpm', ...args], env };
}

/** Runs `pnpm ...args` in the repository root and returns its exit code. */
export function pnpm(args, { env: extra = {}, stdio = 'inherit' } = {}) {
  const { command, args: all, env } = pnpmCommand(args, extra);
  return spawnSync(command, all, { cwd: root, stdio, env }).status ?? 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(pnpm(process.argv.slice(2)));
