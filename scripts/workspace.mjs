// Installs and builds the workspace for the other scripts: short lines on stderr, the tools' own output only when they fail,
// and nothing at all where nothing has changed since the last time.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { pnpmCommand } from './pnpm.mjs';

export const root = fileURLToPath(new URL('..', import.meta.url));

// Inside node_modules: whoever deletes that to start afresh deletes the stamps too.
const stamps = path.join(root, 'node_modules/.user-llm');
const groups = ['packages', 'apps'];

/** The workspace's folders, relative to the root. */
function folders() {
  const found = groups.flatMap((group) =>
    readdirSync(path.join(root, group), { withFileTypes: true }).map((entry) => path.join(group, entry.name)),
  );
  return [...found, 'benchmarks'].filter((folder) => existsSync(path.join(root, folder, 'package.json')));
}

function installKey() {
  const files = [
    'package.json',
    'pnpm-lock.yaml',
    'pnpm-workspace.yaml',
    '.npmrc',
    ...folders().map((folder) => `${folder}/package.json`),
  ];
  const hash = createHash('sha256').update(process.platform + process.arch);
  for (const file of files) if (existsSync(path.join(root, file))) hash.update(file).update(readFileSync(path.join(root, file)));
  return hash.digest('hex');
}

function buildKey(installed) {
  const hash = createHash('sha256').update(installed);
  const addFile = (file) => {
    const { mtimeMs, size } = statSync(path.join(root, file));
    hash.update(`${file} ${mtimeMs} ${size}\n`);
  };
  const addFolder = (folder) => {
    for (const entry of readdirSync(path.join(root, folder), { withFileTypes: true })) {
      const child = path.join(folder, entry.name);
      if (entry.isDirectory() && entry.name !== 'node_modules') addFolder(child);
      else if (entry.isFile()) addFile(child);
    }
  };
  for (const file of ['tsconfig.base.json', 'tsconfig.json', 'turbo.json']) addFile(file);
  for (const folder of folders()) {
    hash.update(`${folder} ${existsSync(path.join(root, folder, 'dist'))}\n`);
    if (existsSync(path.join(root, folder, 'tsconfig.json'))) addFile(path.join(folder, 'tsconfig.json'));
    if (existsSync(path.join(root, folder, 'src'))) addFolder(path.join(folder, 'src'));
  }
  return hash.digest('hex');
}

function stamped(name) {
  const file = path.join(stamps, name);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

function stamp(name, key) {
  mkdirSync(stamps, { recursive: true });
  writeFileSync(path.join(stamps, name), key);
}

/** Runs a command whose output matters only when it fails. */
function runQuietly(command, args, env) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const keep = (piece) => (output = (output + piece).slice(-100_000));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => resolve({ code: 1, output: `${command}: ${error.message}\n` }));
    child.on('close', (code, signal) => resolve({ code: code ?? 128 + (constants.signals[signal] ?? 0), output }));
  });
}

async function step(what, commands) {
  const began = Date.now();
  process.stderr.write(process.stderr.isTTY ? `${what}…` : `${what}…\n`);
  for (const { command, args, env } of commands) {
    const { code, output } = await runQuietly(command, args, env);
    if (code === 0) continue;
    process.stderr.write(`\n${output}\n${what} failed (${path.basename(command)}, exit ${code}); its output stands above.\n`);
    process.exit(code);
  }
  const seconds = ((Date.now() - began) / 1000).toFixed(0);
  process.stderr.write(process.stderr.isTTY ? ` ${seconds} s\n` : `${what}: done in ${seconds} s\n`);
}

/** Installs the dependencies and builds every package, where that is not done already. Ends the process where one of them fails. */
export async function prepare() {
  const wanted = installKey();
  if (stamped('install') !== wanted || !existsSync(path.join(root, 'node_modules/.pnpm'))) {
    // Nobody is there to answer when node_modules of another package store has to go.
    const flags = ['--frozen-lockfile', '--prefer-offline', '--reporter=append-only', '--config.confirmModulesPurge=false'];
    const install = ['install', ...flags];
    await step('Installing dependencies', [pnpmCommand(install)]);
    stamp('install', wanted);
  }
  if (stamped('build') === buildKey(wanted)) return;
  // One compiler over all projects shares what the nine of turbo would each load again: 10 s for 22 on two cores. turbo then
  // finds every package up to date, and runs whatever else a package's build script does.
  await step('Building', [
    { command: process.execPath, args: [path.join(root, 'node_modules/typescript/bin/tsc'), '-b'], env: process.env },
    pnpmCommand(['exec', 'turbo', 'run', 'build', '--output-logs=errors-only']),
  ]);
  stamp('build', buildKey(wanted));
}

/**
 * Runs node in the foreground and ends this process as that one ended. Signals sent to this process reach it; Ctrl-C in a
 * terminal reaches both by itself.
 */
export function become(args, { onExit = () => {}, env = process.env } = {}) {
  const child = spawn(process.execPath, args, { stdio: 'inherit', env });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.on('error', (error) => {
    process.stderr.write(`Could not start node: ${error.message}\n`);
    process.exit(1);
  });
  child.on('close', (code, signal) => {
    const status = code ?? 128 + (constants.signals[signal] ?? 0);
    process.exit(onExit(status) ?? status);
  });
}
