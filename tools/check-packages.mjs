// Runs publint and arethetypeswrong on every packed package. Prints one line per check, and ends with "N passed, N failed".
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { packAll } from './pack.mjs';

const binaries = fileURLToPath(new URL('../node_modules/.bin', import.meta.url));

function run(command, args) {
  return new Promise((resolve) => {
    const child = spawn(path.join(binaries, command), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (piece) => (output += piece));
    child.stderr.on('data', (piece) => (output += piece));
    child.on('error', (error) => resolve({ code: 1, output: error.message }));
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

const folder = mkdtempSync(path.join(tmpdir(), 'user-llm-packed-'));
let passed = 0;
let failed = 0;
try {
  const checks = packAll(folder).flatMap(({ name, tarball }) => [
    { name, tool: 'publint', args: ['run', '--strict', tarball] },
    // The packages are ES modules only, so resolution from CommonJS by old resolvers is not asked for.
    { name, tool: 'attw', args: [tarball, '--profile', 'esm-only'] },
  ]);
  const worker = async () => {
    for (let check = checks.shift(); check; check = checks.shift()) {
      const { code, output } = await run(check.tool, check.args);
      if (code === 0) passed++;
      else failed++;
      process.stdout.write(
        code === 0 ? `ok      ${check.tool} ${check.name}\n` : `FAILED  ${check.tool} ${check.name}\n${output}\n`,
      );
    }
  };
  await Promise.all([worker(), worker()]);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
