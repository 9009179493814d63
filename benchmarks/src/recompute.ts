/**
 * `npm run bench -- recompute [--layers N] [--width N] [--tokens N] [--rows N] [--steps N]`
 *
 * What computing layers again for their gradients saves in memory and costs in time: a decoder is trained for some steps with and without
 * it, each in a process of its own, from the same seed on the same batches. The last line is one JSON object; it is also written to
 * benchmarks/results/recompute-PROCESSOR.json.
 *
 * `peakMiB` is the most resident memory of the process; `activationsMiB` is what of that came with the steps.
 */
import { adaptJointModel, createDecoder } from '@user-llm/cross-attention';
import { machineDescription } from '@user-llm/evaluation';
import { Random } from '@user-llm/onnx-autograd';
import { spawn } from 'node:child_process';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { keepSpeeds } from './record/results.js';

interface Figures {
  readonly peakMiB: number;
  readonly activationsMiB: number;
  readonly medianMs: number;
  readonly losses: readonly number[];
}

const { values } = parseArgs({
  options: {
    layers: { type: 'string', default: '12' },
    width: { type: 'string', default: '256' },
    tokens: { type: 'string', default: '256' },
    rows: { type: 'string', default: '16' },
    steps: { type: 'string', default: '5' },
    child: { type: 'string' },
  },
});
const [layers, width, tokens, rows, steps] = [values.layers, values.width, values.tokens, values.rows, values.steps].map(Number);
const vocabularySize = 2048;
const threads = Math.min(2, os.availableParallelism());

const peakMiB = (): number => process.resourceUsage().maxRSS / 1024;

/** Trains in this process. */
async function measured(recompute: boolean): Promise<Figures> {
  const decoder = createDecoder({ vocabularySize, width, layers, heads: width / 64, context: tokens + 1 }, 1);
  const before = peakMiB();
  const batch = (step: number) => {
    const random = Random.of('recompute', step);
    const ids = (count: number): number[] => Array.from({ length: count }, () => random.integer(vocabularySize));
    return Array.from({ length: rows }, () => ({ promptIds: ids(1), answerIds: ids(tokens) }));
  };
  const losses: number[] = [];
  const times: number[] = [];
  let last = performance.now();
  const options = { strategy: 'full', steps, threads, recompute, tokensPerPart: rows * tokens } as const;
  for await (const { loss } of adaptJointModel({ decoder }, batch, options)) {
    losses.push(loss);
    times.push(performance.now() - last);
    last = performance.now();
  }
  const sorted = times.slice(1).sort((a, b) => a - b);
  return { peakMiB: peakMiB(), activationsMiB: peakMiB() - before, medianMs: sorted[Math.floor(sorted.length / 2)], losses };
}

function inOwnProcess(kind: string): Promise<Figures> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2), '--child', kind], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (piece: Buffer) => (text += piece.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0
        ? resolve(JSON.parse(text.trim().split('\n').at(-1)!) as Figures)
        : reject(new Error(`the '${kind}' process ended with ${code}`)),
    );
  });
}

async function main(): Promise<void> {
  if (values.child !== undefined) {
    console.log(JSON.stringify(await measured(values.child === 'recomputed')));
    return;
  }
  const [kept, recomputed] = [await inOwnProcess('kept'), await inOwnProcess('recomputed')];
  for (const [name, { activationsMiB, medianMs }] of Object.entries({ kept, recomputed }))
    console.log(`${name}: ${activationsMiB.toFixed(0)} MiB for the steps, ${medianMs.toFixed(0)} ms a step`);
  const largestDifference = Math.max(...kept.losses.map((loss, i) => Math.abs(loss - recomputed.losses[i])));
  const result = {
    shape: { layers, width, tokens, rows, vocabularySize, steps },
    kept,
    recomputed,
    memoryRatio: kept.activationsMiB / recomputed.activationsMiB,
    timeRatio: recomputed.medianMs / kept.medianMs,
    largestDifference,
    machine: { ...machineDescription(), threads },
  };
  await keepSpeeds('recompute', result);
  console.log(JSON.stringify(result));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
