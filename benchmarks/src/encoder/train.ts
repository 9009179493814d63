import { adam, graph, Program, Trainer, type Feeds } from '@user-llm/onnx-autograd';
import { sasrec, type SasrecShape } from '../engine/models.js';
import { missingPeer, runPeer } from '../engine/peer.js';
import { median } from './statistics.js';

export interface TrainOptions {
  readonly shape: SasrecShape;
  readonly rounds: number;
  readonly threads: number;
  readonly spinning: boolean;
}

export interface TrainFigures {
  readonly shape: SasrecShape;
  readonly gflopPerStep: number;
  readonly medianMs: number;
  readonly fastestMs: number;
  readonly eventsPerSecond: number;
  readonly gflops: number;
  readonly peakGflops: number;
  readonly overPeak: number;
  readonly torchMedianMs: number | null;
  readonly overTorch: number | null;
}

const cube = 1024;
const warmUp = 3;
const stepsPerRound = 5;

/**
 * Training steps beside the fastest 1024-cubed product of the same minutes and, where it is installed, PyTorch. All take turns.
 * Operations are 2 m n k over the matrix products that run. `overPeak` compares the fastest of each, `overTorch` the medians of the best
 * rounds.
 */
export async function trainFigures({ shape, rounds, threads, spinning }: TrainOptions): Promise<TrainFigures> {
  const { batch: B, events: T } = shape;
  const args = (['batch', 'events', 'width', 'heads', 'layers', 'items', 'dropout'] as const).flatMap((key) => [
    `--${key}`,
    String(shape[key]),
  ]);
  const missing = await missingPeer('torch_sasrec_step.py', ['torch']);
  if (missing) console.log(`  no PyTorch beside it: ${missing}`);
  const trainer = await Trainer.create(sasrec(shape), {
    minimize: 'loss',
    optimizer: adam({ learningRate: 1e-3 }),
    seed: 1,
    threads,
    spinning,
  });
  const steps: number[] = [];
  const medians: number[] = [];
  const products: number[] = [];
  const peers: number[] = [];
  const flops = trainer.flops(feedsOf(shape));
  for (let i = 0; i < warmUp; i++) await trainer.step(feedsOf(shape));
  for (let round = 0; round < rounds; round++) {
    products.push(await fastestProduct(threads));
    for (let i = 0; i < stepsPerRound; i++) steps.push(await timed(() => trainer.step(feedsOf(shape))));
    medians.push(median(steps.slice(-stepsPerRound)));
    products.push(await fastestProduct(threads));
    const peer = missing ? null : await runPeer('torch_sasrec_step.py', args);
    if (peer) peers.push(peer.median_ms);
    console.log(
      `  round ${round + 1}: step ${medians[round].toFixed(1)} ms, product ${Math.min(...products.slice(-2)).toFixed(1)} ms${peer ? `, ${peer.peer} ${peer.median_ms} ms` : ''}`,
    );
  }
  await trainer.dispose();
  const fastestMs = Math.min(...steps);
  const medianMs = Math.min(...medians);
  const gflops = flops / fastestMs / 1e6;
  const peakGflops = (2 * cube ** 3) / Math.min(...products) / 1e6;
  const torchMedianMs = peers.length > 0 ? Math.min(...peers) : null;
  return {
    shape,
    gflopPerStep: flops / 1e9,
    medianMs,
    fastestMs,
    eventsPerSecond: (1000 * B * T) / medianMs,
    gflops,
    peakGflops,
    overPeak: gflops / peakGflops,
    torchMedianMs,
    overTorch: torchMedianMs === null ? null : torchMedianMs / medianMs,
  };
}

function feedsOf({ batch: B, events: T, items: V }: SasrecShape): Feeds {
  const ids = (): Int32Array => Int32Array.from({ length: B * T }, () => Math.floor(Math.random() * V));
  return {
    ids: { dtype: 'int32', shape: [B, T], data: ids() },
    labels: { dtype: 'int32', shape: [B * T], data: ids() },
    weights: { dtype: 'float32', shape: [B * T], data: new Float32Array(B * T).fill(1) },
  };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function fastestProduct(threads: number): Promise<number> {
  const definition = graph(({ input }) => ({ product: input('a', [cube, cube]).matmul(input('b', [cube, cube])) }));
  const program = await Program.create(definition, { weights: new Map(), threads });
  const operand = { dtype: 'float32', shape: [cube, cube], data: new Float32Array(cube * cube).fill(0.5) } as const;
  let fastest = Infinity;
  for (let i = 0; i < 15; i++) fastest = Math.min(fastest, await timed(() => program.run({ a: operand, b: operand })));
  await program.dispose();
  return fastest;
}
