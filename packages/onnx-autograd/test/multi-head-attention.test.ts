import { describe, expect, test } from '@jest/globals';
import {
  attention,
  causalBias,
  graph,
  GraphBuilder,
  mergeHeads,
  multiHeadAttention,
  normal,
  Program,
  Random,
  sgd,
  splitHeads,
  Trainer,
  type Feeds,
  type GraphDefinition,
  type Tensor,
} from '../src/index.js';
import { difference, randomTensor } from './support.js';

type Attend = (q: Tensor, k: Tensor, v: Tensor, heads: number, bias?: Tensor) => Tensor;
/** All heads in one product. */
const whole: Attend = (q, k, v, heads, bias) => {
  const [query, keys, values] = [q, k, v].map((x) => splitHeads(x, heads));
  return mergeHeads(attention(query, keys, values, bias ? { bias } : {}));
};
const byHeads: Attend = (q, k, v, heads, bias) => multiHeadAttention(q, k, v, heads, bias ? { bias } : {});

const width = 12;
type Bias = 'none' | 'causal' | 'learned' | 'learned for each head';

/** Attention to x [batch, places, 12], with everything around it learned. */
const network = (attend: Attend, heads: number, kind: Bias): GraphDefinition<{ loss: Tensor; y: Tensor }> =>
  graph(({ builder, input, parameter }) => {
    const places = kind.startsWith('learned') ? 5 : 'places';
    const x = input('x', ['batch', places, width]);
    const bias: Record<Bias, () => Tensor | undefined> = {
      none: () => undefined,
      causal: () => causalBias(builder, places),
      learned: () => parameter('bias', [5, 5], normal(0.5)),
      'learned for each head': () => parameter('bias', [heads, 5, 5], normal(0.5)),
    };
    const [q, k, v] = ['q', 'k', 'v'].map((name) => x.matmul(parameter(name, [width, width], normal(0.4))));
    const y = attend(q, k, v, heads, bias[kind]());
    return {
      y,
      loss: y
        .matmul(parameter('out', [width, 1], normal(1)))
        .square()
        .mean(),
    };
  });

const feeds: Feeds = { x: randomTensor(Random.of('x'), [3, 5, width]) };

describe('attention of several heads', () => {
  test.each<[number, Bias]>([
    [4, 'causal'],
    [6, 'none'],
    [4, 'learned'],
    [4, 'learned for each head'],
    [3, 'causal'],
    [1, 'none'],
  ])('is that of all of them at once, gradients included: %d heads, bias %s', async (heads, bias) => {
    const trained = [];
    for (const attend of [whole, byHeads]) {
      const options = { minimize: 'loss', optimizer: sgd({ learningRate: 0.1 }), seed: 3, threads: 1 } as const;
      await using trainer = await Trainer.create(network(attend, heads, bias), options);
      const losses = [(await trainer.step(feeds)).loss, (await trainer.step(feeds)).loss];
      trained.push({ losses, weights: trainer.weights() });
    }
    const [expected, found] = trained;
    found.losses.forEach((loss, i) => expect(loss).toBeCloseTo(expected.losses[i], 5));
    for (const [name, weight] of found.weights) expect(difference(weight, expected.weights.get(name)!)).toBeLessThan(1e-5);
  });

  test('is one graph with it where nothing is trained', async () => {
    const weights = new Map(
      ['q', 'k', 'v', 'out'].map((name) => [name, randomTensor(Random.of(name), [width, name === 'out' ? 1 : width])]),
    );
    const outputs = [];
    for (const attend of [whole, byHeads]) {
      await using program = await Program.create(network(attend, 4, 'causal'), { weights, threads: 1 });
      outputs.push((await program.run(feeds)).y);
    }
    expect(outputs[1].data).toEqual(outputs[0].data);
  });

  test('refuses a width that does not divide by the heads', () => {
    const x = GraphBuilder.create({ training: true }).input('x', ['batch', 5, 12]);
    expect(() => multiHeadAttention(x, x, x, 5)).toThrow('a width of 12 does not divide by 5 heads');
  });
});
