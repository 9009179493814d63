// npm test: installs and builds where needed, runs every test (arguments go to jest), and ends with the totals.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { become, prepare, root } from './workspace.mjs';

await prepare();
// Kept for whoever wants the figures, .ci/run among them.
const results = path.join(root, 'node_modules/.user-llm/jest.json');
mkdirSync(path.dirname(results), { recursive: true });
rmSync(results, { force: true });

function totals() {
  try {
    const run = JSON.parse(readFileSync(results, 'utf8'));
    // A file that could not even be loaded has no tests to count; it is a failure all the same.
    return {
      passed: run.numPassedTests,
      failed: run.numFailedTests + run.numRuntimeErrorTestSuites,
      skipped: run.numPendingTests,
    };
  } catch {
    return undefined;
  }
}

// Jest hands its tests a copy of the environment; onnxruntime reads the true one, which the serving engine would have set.
process.env.ORT_GQA_DISABLE_FLASH_ATTENTION ??= '1';
const flags = ['--disable-warning=ExperimentalWarning', '--experimental-vm-modules'];
const jest = [path.join(root, 'node_modules/jest/bin/jest.js'), '--config', path.join(root, 'jest.config.mjs')];
become([...flags, ...jest, '--json', `--outputFile=${results}`, ...process.argv.slice(2)], {
  onExit(status) {
    const counted = totals();
    if (!counted) return status || 1;
    const { passed, failed, skipped } = counted;
    process.stdout.write(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}\n`);
    return status === 0 && failed > 0 ? 1 : status;
  },
});
