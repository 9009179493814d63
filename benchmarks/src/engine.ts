/**
 * `npm run bench -- engine [--only sasrec|encoder|llm] [--rounds N] [--shared]`
 *
 * Training steps of this engine against the machine's own matrix-product peak and, where it is installed and its script is
 * found (USER_LLM_PEERS), PyTorch. Peak, steps and peer take turns, round by round. The last line is one JSON object; without `--only` it is
 * also written to benchmarks/results/engine-PROCESSOR.json.
 *
 * `--shared` is for a machine on which others work too: waiting threads then do not spin.
 *
 * Operations are 2 m n k over the matrix products that run, forward and backward. `overPeak` compares the fastest step with the
 * fastest 1024-cubed product, `overTorch` the medians of the best rounds: what else runs on the machine then counts for nobody.
 */
import { machineDescription } from '@user-llm/evaluation';
import { graph, Program, sgd, adam, Trainer, type Feeds } from '@user-llm/onnx-autograd';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { decoderShape, decoderWithAdapters, sasrec, type SasrecShape } from './engine/models.js';
import { missingPeer, runPeer } from './engine/peer.js';
import { keepSpeeds } from './record/results.js';

interface Case {
  readonly name: string;
  readonly title: string;
  readonly create: (spinning: boolean) => Promise<Trainer>;
  readonly feeds: () => Feeds;
  /** Steps per round. The first ones of all fill the arena and are not counted. */
  readonly steps: number;
  readonly peer: { readonly script: string; readonly args: readonly string[]; readonly modules: readonly string[] };
}

interface Figures {
  readonly shape: unknown;
  readonly gflopPerStep: number;
  readonly medianMs: number;
  readonly fastestMs: number;
  readonly gflops: number;
  readonly peakGflops: number;
  readonly overPeak: number;
  readonly torchMedianMs: number | null;
  readonly torchFastestMs: number | null;
  readonly overTorch: number | null;
}

const threads = Math.min(2, os.availableParallelism());
const warmUp = 3;
const cube = 1024;

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const integers = (length: number, below: number): Int32Array =>
  Int32Array.from({ length }, () => Math.floor(Math.random() * below));

function sasrecCase(name: string, shape: SasrecShape): Case & { shape: SasrecShape } {
  const { batch: B, events: T, items: V } = shape;
  return {
    name,
    shape,
    title: `next-item transformer, ${B} x ${T} events, width ${shape.width}, ${shape.layers} layers, ${V} items, dropout ${shape.dropout}, Adam in the graph`,
    create: (spinning) =>
      Trainer.create(sasrec(shape), {
        minimize: 'loss',
        optimizer: adam({ learningRate: 1e-3 }),
        seed: 1,
        threads,
        spinning,
      }) as unknown as Promise<Trainer>,
    feeds: () => ({
      ids: { dtype: 'int32', shape: [B, T], data: integers(B * T, V) },
      labels: { dtype: 'int32', shape: [B * T], data: integers(B * T, V) },
      weights: { dtype: 'float32', shape: [B * T], data: new Float32Array(B * T).fill(1) },
    }),
    steps: 10,
    peer: {
      script: 'torch_sasrec_step.py',
      args: (['batch', 'events', 'width', 'heads', 'layers', 'items', 'dropout'] as const).flatMap((key) => [
        `--${key}`,
        String(shape[key]),
      ]),
      modules: ['torch'],
    },
  };
}

function decoderCase(B: number, S: number): Case & { shape: unknown } {
  const { vocabulary, userTokens, userWidth } = decoderShape;
  return {
    name: 'llm',
    shape: { batch: B, tokens: S, ...decoderShape },
    title: `frozen 135M decoder with gated cross-attention before every fourth layer, ${B} x ${S} tokens, gradients to the adapters`,
    create: (spinning) =>
      Trainer.create(decoderWithAdapters(S), {
        minimize: 'loss',
        optimizer: sgd({ learningRate: 1e-3 }),
        seed: 1,
        threads,
        spinning,
        trainable: (name) => name.startsWith('adapter.'),
        frozenWeights: 'packed',
      }) as unknown as Promise<Trainer>,
    feeds: () => ({
      ids: { dtype: 'int32', shape: [B, S], data: integers(B * S, vocabulary) },
      labels: { dtype: 'int32', shape: [B * S], data: integers(B * S, vocabulary) },
      user: {
        dtype: 'float32',
        shape: [B, userTokens, userWidth],
        data: Float32Array.from({ length: B * userTokens * userWidth }, Math.random),
      },
    }),
    steps: 4,
    peer: { script: 'torch_llm_step.py', args: [], modules: ['torch', 'transformers'] },
  };
}

const cases = [
  sasrecCase('sasrec', { batch: 128, events: 50, width: 64, heads: 2, layers: 2, items: 3707, dropout: 0 }),
  sasrecCase('encoder', { batch: 24, events: 200, width: 64, heads: 2, layers: 2, items: 3707, dropout: 0.2 }),
  decoderCase(8, 48),
];

/** Milliseconds of the fastest of a few products. */
async function fastestProduct(): Promise<number> {
  const definition = graph(({ input }) => ({ product: input('a', [cube, cube]).matmul(input('b', [cube, cube])) }));
  const program = await Program.create(definition, { weights: new Map(), threads });
  const operand = { dtype: 'float32', shape: [cube, cube], data: new Float32Array(cube * cube).fill(0.5) } as const;
  let fastest = Infinity;
  for (let i = 0; i < 15; i++) {
    const start = performance.now();
    await program.run({ a: operand, b: operand });
    fastest = Math.min(fastest, performance.now() - start);
  }
  await program.dispose();
  return fastest;
}

async function measure(it: Case & { shape: unknown }, rounds: number, spinning: boolean): Promise<Figures> {
  console.log(`${it.name}: ${it.title}`);
  const missing = await missingPeer(it.peer.script, it.peer.modules);
  if (missing) console.log(`  no PyTorch beside it: ${missing}`);
  const trainer = await it.create(spinning);
  const flops = trainer.flops(it.feeds());
  for (let i = 0; i < warmUp; i++) await trainer.step(it.feeds());
  const steps: number[] = [];
  const medians: number[] = [];
  const products: number[] = [];
  const peers: { median_ms: number; min_ms: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    products.push(await fastestProduct());
    for (let i = 0; i < it.steps; i++) {
      const feeds = it.feeds();
      const start = performance.now();
      await trainer.step(feeds);
      steps.push(performance.now() - start);
    }
    medians.push(median(steps.slice(-it.steps)));
    products.push(await fastestProduct());
    const peer = missing ? null : await runPeer(it.peer.script, it.peer.args);
    if (peer) peers.push(peer);
    console.log(
      `  round ${round + 1}: step ${medians[round].toFixed(1)} ms, product ${Math.min(...products.slice(-2)).toFixed(1)} ms${peer ? `, ${peer.peer} ${peer.median_ms} ms` : ''}`,
    );
  }
  await trainer.dispose();
  const fastestMs = Math.min(...steps);
  const peakGflops = (2 * cube ** 3) / Math.min(...products) / 1e6;
  const torchMedianMs = peers.length > 0 ? Math.min(...peers.map(({ median_ms }) => median_ms)) : null;
  const figures = {
    shape: it.shape,
    gflopPerStep: flops / 1e9,
    medianMs: Math.min(...medians),
    fastestMs,
    gflops: flops / fastestMs / 1e6,
    peakGflops,
    overPeak: flops / fastestMs / 1e6 / peakGflops,
    torchMedianMs,
    torchFastestMs: peers.length > 0 ? Math.min(...peers.map(({ min_ms }) => min_ms)) : null,
    overTorch: torchMedianMs === null ? null : torchMedianMs / Math.min(...medians),
  };
  console.log(
    `  ${figures.gflops.toFixed(0)} of ${peakGflops.toFixed(0)} GFLOP/s = ${figures.overPeak.toFixed(2)} of the peak${figures.overTorch === null ? '' : `, ${figures.overTorch.toFixed(2)} times PyTorch`}`,
  );
  return rounded(figures);
}

const rounded = <T extends object>(figures: T): T =>
  Object.fromEntries(
    Object.entries(figures).map(([name, value]) => [name, typeof value === 'number' ? Number(value.toPrecision(4)) : value]),
  ) as T;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { only: { type: 'string' }, rounds: { type: 'string', default: '3' }, shared: { type: 'boolean', default: false } },
  });
  const chosen = cases.filter(({ name }) => values.only === undefined || values.only === name);
  if (chosen.length === 0) throw new Error(`there is no case '${values.only}'; use ${cases.map(({ name }) => name).join(', ')}`);
  const figures: Record<string, Figures | null> = { llm: null, sasrec: null, encoder: null };
  for (const it of chosen) figures[it.name] = await measure(it, Math.max(1, Number(values.rounds)), !values.shared);
  const result = { ...figures, machine: { ...machineDescription(), threads, spinning: !values.shared } };
  if (values.only === undefined) await keepSpeeds('engine', result);
  console.log(JSON.stringify(result));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
