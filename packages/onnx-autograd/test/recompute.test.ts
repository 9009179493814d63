import { describe, expect, test } from '@jest/globals';
import {
  adam,
  attention,
  graph,
  normal,
  ones,
  recompute,
  sgd,
  splitHeads,
  mergeHeads,
  Trainer,
  type Outputs,
  type Tensor,
} from '../src/index.js';

/** Three transformer layers that share a scale and read a value made before them; recomputed or not. */
const network = (again: boolean) =>
  graph<Outputs & { loss: Tensor }>(({ input, parameter }) => {
    const shared = parameter('shared', [1], ones()).tanh();
    const x = input('x', ['rows', 5, 8]);
    const read = x.matmul(parameter('read', [8, 8], normal(0.4)));
    const layer = (name: string) => (y: Tensor) => {
      const h = y.rmsNorm(parameter(`${name}.norm`, [8], ones())).dropout(0.3);
      const [q, k, v] = h
        .matmul(parameter(`${name}.qkv`, [8, 24], normal(0.3)))
        .split(-1, [8, 8, 8])
        .map((part) => splitHeads(part, 2));
      const mixed = mergeHeads(attention(q, k, v))
        .mul(shared)
        .add(read);
      return y.add(
        mixed
          .matmul(parameter(`${name}.out`, [8, 8], normal(0.3)))
          .gelu()
          .dropout(0.2),
      );
    };
    let y = x.matmul(parameter('in', [8, 8], normal(0.5)));
    for (const name of ['a', 'b', 'c']) y = again ? recompute([y], layer(name)) : layer(name)(y);
    return { loss: y.square().mean() };
  });

const feeds = {
  x: { dtype: 'float32', shape: [3, 5, 8], data: Float32Array.from({ length: 120 }, (_, i) => Math.sin(3 * i)) },
} as const;

async function train(
  again: boolean,
  trainable: (name: string) => boolean = () => true,
): Promise<[number[], Map<string, Float32Array>]> {
  const options = {
    minimize: 'loss',
    optimizer: adam({ learningRate: 0.02 }),
    seed: 4,
    clipNorm: 0.5,
    threads: 1,
    trainable,
  } as const;
  await using trainer = await Trainer.create(network(again), options);
  const seen: number[] = [];
  for (let step = 0; step < 5; step++) {
    const { loss, metrics } = await trainer.step(step === 3 ? [feeds, feeds] : feeds);
    seen.push(loss, metrics.gradientNorm);
  }
  return [seen, new Map([...trainer.weights()].map(([name, { data }]) => [name, data as Float32Array]))];
}

describe('a recomputed segment', () => {
  test('gives the losses, gradients and dropout of one that was kept', async () => {
    const [kept, keptWeights] = await train(false);
    const [again, weights] = await train(true);
    again.forEach((value, i) => expect(value).toBeCloseTo(kept[i], 5));
    for (const [name, data] of weights) data.forEach((value, i) => expect(value).toBeCloseTo(keptWeights.get(name)![i], 4));
  });

  test('trains only what is trainable, in it and outside of it', async () => {
    const some = (name: string): boolean => name === 'b.qkv' || name === 'read' || name === 'shared';
    const [kept, keptWeights] = await train(false, some);
    const [again, weights] = await train(true, some);
    again.forEach((value, i) => expect(value).toBeCloseTo(kept[i], 5));
    for (const [name, data] of weights) data.forEach((value, i) => expect(value).toBeCloseTo(keptWeights.get(name)![i], 4));
  });

  test('may read from outside what it is given, too', async () => {
    const reading = (again: boolean) =>
      graph<Outputs & { loss: Tensor }>(({ input, parameter }) => {
        const rows = parameter('rows', [6, 4], normal(1));
        const ids = input('ids', ['n'], 'int32');
        const looked = (): Tensor => rows.gather(ids);
        // Equal operations are one node: what is looked up again within is the very input.
        const segment = (x: Tensor, y: Tensor): Tensor => x.gelu().add(looked().mul(y)).sub(x.mul(looked().tanh()));
        let x = looked();
        for (let i = 0; i < 2; i++) x = again ? recompute([x, x], segment) : segment(x, x);
        const whole = again ? recompute([x], () => x) : x;
        return { loss: whole.square().mean() };
      });
    const weights: Float32Array[] = [];
    for (const again of [false, true]) {
      await using trainer = await Trainer.create(reading(again), {
        minimize: 'loss',
        optimizer: sgd({ learningRate: 0.5 }),
        seed: 2,
        threads: 1,
      });
      await trainer.step({ ids: { dtype: 'int32', shape: [4], data: Int32Array.of(0, 3, 3, 5) } });
      weights.push(trainer.weights().get('rows')!.data as Float32Array);
    }
    weights[1].forEach((value, i) => expect(value).toBeCloseTo(weights[0][i], 5));
  });

  test('costs its products once more, but for those whose results nothing asks for', async () => {
    const of = async (again: boolean): Promise<number> => {
      await using trainer = await Trainer.create(network(again), {
        minimize: 'loss',
        optimizer: adam({ learningRate: 1 }),
        seed: 1,
      });
      return trainer.flops(feeds);
    };
    const [kept, again] = [await of(false), await of(true)];
    expect(again).toBeGreaterThan(1.2 * kept);
    expect(again).toBeLessThan(1.4 * kept);
  });
});
