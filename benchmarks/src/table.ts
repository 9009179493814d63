/**
 * `npm run bench -- table [--items N] [--width D] [--steps N]`
 *
 * A training step of a next-item transformer over a large item table: windows of events, their next items and sampled negatives, of
 * which a step gathers, trains and puts back only the rows that occur. The last line is one JSON object, with the same step over a
 * table of 10,000 items beside it: it must not cost less.
 */
import {
  adam,
  attention,
  causalBias,
  concat,
  crossEntropy,
  graph,
  mergeHeads,
  normal,
  ones,
  splitHeads,
  Trainer,
  weightedMean,
  zeros,
  type Feeds,
  type GraphDefinition,
  type Tensor,
} from '@user-llm/onnx-autograd';
import os from 'node:os';
import { parseArgs } from 'node:util';

interface Shape {
  readonly items: number;
  readonly width: number;
  readonly batch: number;
  readonly events: number;
  readonly negatives: number;
  readonly layers: number;
  readonly heads: number;
}

/** Softmax over each position's next item and negatives that all positions share. */
function nextItem({ items, width: D, events: T, negatives, layers, heads }: Shape): GraphDefinition<{ loss: Tensor }> {
  return graph(({ builder, input, parameter, table }) => {
    const rows = table('item', [items, D], normal(0.02));
    const norm = (x: Tensor, name: string): Tensor =>
      x.layerNorm(parameter(`${name}.weight`, [D], ones()), parameter(`${name}.bias`, [D], zeros()));
    const weight = (name: string, from: number, to: number): Tensor => parameter(name, [from, to], normal(0.02));
    const bias = causalBias(builder, T);
    let x = rows.gather(input('ids', ['batch', T], 'int32')).add(parameter('position', [T, D], normal(0.02))); // [B, T, D]
    for (let layer = 0; layer < layers; layer++) {
      const [q, k, v] = norm(x, `${layer}.n1`)
        .matmul(weight(`${layer}.qkv`, D, 3 * D))
        .split(-1, [D, D, D])
        .map((part) => splitHeads(part, heads));
      x = x.add(mergeHeads(attention(q, k, v, { bias })).matmul(weight(`${layer}.o`, D, D)));
      const up = norm(x, `${layer}.n2`)
        .matmul(weight(`${layer}.up`, D, 4 * D))
        .relu();
      x = x.add(up.matmul(weight(`${layer}.down`, 4 * D, D)));
    }
    const count = `batch*${T}`;
    const last = norm(x, 'norm').reshape([count, D]);
    const next = rows.gather(input('next', ['batch', T], 'int32')).reshape([count, D]);
    const sampled = rows.gather(input('negatives', [negatives], 'int32')); // [N, D]
    const logits = concat([last.mul(next).sum(1, true), last.matmul(sampled, { transposeB: true })], 1); // [B * T, 1 + N]
    const first = builder.constant(0, [1], 'int32').expand([count]);
    return { loss: weightedMean(crossEntropy(logits, first), input('weights', [count])) };
  });
}

function feeds({ items, batch, events, negatives }: Shape): Feeds {
  const ids = (...shape: number[]) => ({
    dtype: 'int32' as const,
    shape,
    data: Int32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => Math.floor(Math.random() * items)),
  });
  return {
    ids: ids(batch, events),
    next: ids(batch, events),
    negatives: ids(negatives),
    weights: { dtype: 'float32', shape: [batch * events], data: new Float32Array(batch * events).fill(1) },
  };
}

async function medianStep(shape: Shape, steps: number): Promise<number> {
  const trainer = await Trainer.create(nextItem(shape), {
    minimize: 'loss',
    optimizer: adam({ learningRate: 1e-3 }),
    seed: 1,
    clipNorm: 1,
    threads: Math.min(2, os.availableParallelism()),
  });
  const times: number[] = [];
  for (let step = 0; step < steps + 3; step++) {
    const batch = feeds(shape);
    const start = performance.now();
    await trainer.step(batch);
    if (step >= 3) times.push(performance.now() - start);
  }
  await trainer.dispose();
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      items: { type: 'string', default: '1000000' },
      width: { type: 'string', default: '64' },
      steps: { type: 'string', default: '10' },
    },
  });
  const shape = {
    items: Number(values.items),
    width: Number(values.width),
    batch: 24,
    events: 200,
    negatives: 1000,
    layers: 2,
    heads: 2,
  };
  const small = await medianStep({ ...shape, items: 10_000 }, Number(values.steps));
  const large = await medianStep(shape, Number(values.steps));
  const result = {
    table: {
      shape,
      tableBytes: shape.items * (12 * shape.width + 8),
      medianMs: Number(large.toPrecision(4)),
      medianMsOf10000Items: Number(small.toPrecision(4)),
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
    },
    machine: { cpu: os.cpus()[0].model, node: process.version },
  };
  console.log(JSON.stringify(result));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
