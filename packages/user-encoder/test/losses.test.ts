import { describe, expect, test } from '@jest/globals';
import {
  graph,
  normal,
  Random,
  sgd,
  Trainer,
  type Feeds,
  type GraphBuilder,
  type HostTensor,
  type Tensor,
} from '@user-llm/onnx-autograd';
import { agreement } from '../src/objectives/contrastive.js';
import { calibratedBinary, calibration, candidateSoftmax, smoothedSoftmax, untakenSoftmax } from '../src/objectives/item-loss.js';
import { drawDistinct, drawWeighted, WeightedIds } from '../src/objectives/negatives.js';

type Matrix = number[][];
type Matrices = Record<string, Matrix>;

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const logSumExp = (values: readonly number[]): number => Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0));
const softplus = (x: number): number => Math.log1p(Math.exp(x));

const int32 = (data: readonly number[]): HostTensor => ({ dtype: 'int32', shape: [data.length], data: Int32Array.from(data) });
const float32 = (data: readonly number[]): HostTensor => ({
  dtype: 'float32',
  shape: [data.length],
  data: Float32Array.from(data),
});

/** A loss and its gradient as training computes them: with a rate of 1, plain descent moves a weight by its gradient. */
async function trained(
  weights: Matrices,
  feeds: Feeds,
  build: (parameters: Record<string, Tensor>, builder: GraphBuilder) => Tensor,
): Promise<{ loss: number; gradients: Matrices }> {
  const shapes = Object.fromEntries(Object.entries(weights).map(([name, rows]) => [name, [rows.length, rows[0].length]]));
  const model = graph(({ builder }) => {
    const parameters = Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => [name, builder.parameter(name, shape, normal(1))]),
    );
    return { loss: build(parameters, builder) };
  });
  const given = new Map(
    Object.entries(weights).map(([name, rows]) => [
      name,
      { dtype: 'float32' as const, shape: shapes[name], data: Float32Array.from(rows.flat()) },
    ]),
  );
  const trainer = await Trainer.create(model, {
    minimize: 'loss',
    optimizer: sgd({ learningRate: 1 }),
    seed: 1,
    weights: given,
    threads: 1,
  });
  const { loss } = await trainer.step(feeds);
  const after = trainer.weights();
  await trainer.dispose();
  const gradients = Object.fromEntries(
    Object.entries(weights).map(([name, rows]) => {
      const moved = after.get(name)!.data as Float32Array;
      return [name, rows.map((row, i) => row.map((value, j) => Math.fround(value) - moved[i * row.length + j]))];
    }),
  );
  return { loss, gradients };
}

/** The loss equals its reference in double precision, and every gradient the reference's central difference. */
async function check(
  weights: Matrices,
  feeds: Feeds,
  build: (parameters: Record<string, Tensor>, builder: GraphBuilder) => Tensor,
  reference: (weights: Matrices) => number,
): Promise<void> {
  const { loss, gradients } = await trained(weights, feeds, build);
  expect(Math.abs(loss / reference(weights) - 1)).toBeLessThan(1e-5);
  const h = 1e-5;
  let largest = 0;
  for (const [name, rows] of Object.entries(weights))
    rows.forEach((row, i) =>
      row.forEach((value, j) => {
        row[j] = value + h;
        const above = reference(weights);
        row[j] = value - h;
        const below = reference(weights);
        row[j] = value;
        const slope = (above - below) / (2 * h);
        largest = Math.max(largest, Math.abs(slope));
        expect(Math.abs(gradients[name][i][j] - slope)).toBeLessThan(2e-6);
      }),
    );
  // A gradient that is nothing anywhere would agree with anything.
  expect(largest).toBeGreaterThan(0.01);
}

const random = Random.of('losses');
const matrix = (rows: number, columns: number): Matrix =>
  Array.from({ length: rows }, () => Array.from({ length: columns }, () => random.normal()));

// Four special ids and nine items; rows without a target (0, 2) take no part.
const query = matrix(7, 5);
const table = matrix(13, 5);
const targets = [4, 0, 12, 9, 2, 9, 7];
const rows = targets.flatMap((target, row) => (target >= 4 ? [{ row, target }] : []));
const items = Array.from({ length: 9 }, (_, i) => i + 4);

describe('losses equal their references, and so do their gradients', () => {
  for (const smoothing of [0, 0.1, 0.5])
    test(`full softmax, smoothing ${smoothing}`, () =>
      check(
        { query, table },
        { targets: int32(targets) },
        (p, builder) => smoothedSoftmax(p.query, p.table, builder.input('targets', [7], 'int32'), smoothing),
        (w) =>
          mean(
            rows.map(({ row, target }) => {
              const scores = w.table.map((vector) => dot(w.query[row], vector));
              const all = logSumExp(scores);
              return (1 - smoothing) * (all - scores[target]) + smoothing * mean(items.map((id) => all - scores[id]));
            }),
          ),
      ));

  // Two windows of three targets; 5 and 12 had been taken before and are taken again.
  const windows = { targets: [9, 5, 7, 6, 0, 12], taken: [4, 9, 5, 11, 12, 0], before: [1, 3, 3, 0, 1, 2] };
  const takenBy = (row: number): number[] => windows.taken.slice(3 * Math.floor(row / 3)).slice(0, windows.before[row]);
  for (const smoothing of [0, 0.25])
    test(`full softmax over what was not taken, smoothing ${smoothing}`, () =>
      check(
        { query: query.slice(0, 6), table },
        {
          targets: { ...int32(windows.targets), shape: [2, 3] },
          taken: { ...int32(windows.taken), shape: [2, 3] },
          before: { ...int32(windows.before), shape: [2, 3] },
        },
        (p, builder) =>
          untakenSoftmax(
            p.query,
            { all: () => p.table, of: (ids) => p.table.gather(ids) },
            builder.input('targets', [2, 3], 'int32'),
            { ids: builder.input('taken', [2, 3], 'int32'), before: builder.input('before', [2, 3], 'int32') },
            smoothing,
          ),
        (w) =>
          mean(
            windows.targets.flatMap((target, row) => {
              if (target < 4) return [];
              const out = takenBy(row).filter((id) => id !== target);
              const scores = w.table.map((vector) => dot(w.query[row], vector));
              const all = logSumExp(scores.filter((_, id) => !out.includes(id)));
              const even = mean(items.filter((id) => !out.includes(id)).map((id) => all - scores[id]));
              return [(1 - smoothing) * (all - scores[target]) + smoothing * even];
            }),
          ),
      ));

  test('softmax over candidates', () => {
    const ids = [9, 5, 5, 12, 6];
    const correction = [0.5, -0.25, 1, 2, -1];
    return check(
      { query, table },
      { targets: int32(targets), ids: int32(ids), correction: float32(correction) },
      (p, builder) => {
        const target = builder.input('targets', [7], 'int32');
        const candidates = builder.input('ids', [5], 'int32');
        return candidateSoftmax(
          p.query,
          p.table.gather(target),
          { vectors: p.table.gather(candidates), ids: candidates, correction: builder.input('correction', [5]) },
          target,
        );
      },
      (w) =>
        mean(
          rows.map(({ row, target }) => {
            const right = dot(w.query[row], w.table[target]);
            const others = ids.flatMap((id, i) => (id === target ? [] : [dot(w.query[row], w.table[id]) + correction[i]]));
            return logSumExp([right, ...others]) - right;
          }),
        ),
    );
  });

  test('calibrated binary cross-entropy', () => {
    const ids = [9, 5, 12, 6];
    const beta = calibration(4, 9, 0.75);
    return check(
      { query, table },
      { targets: int32(targets), ids: int32(ids) },
      (p, builder) => {
        const target = builder.input('targets', [7], 'int32');
        const candidates = builder.input('ids', [4], 'int32');
        const others = { vectors: p.table.gather(candidates), ids: candidates };
        return calibratedBinary(p.query, p.table.gather(target), others, target, beta);
      },
      (w) =>
        mean(
          rows.map(({ row, target }) => {
            const score = (id: number): number => dot(w.query[row], w.table[id]);
            const wrong = ids.filter((id) => id !== target).map((id) => softplus(score(id)));
            return (beta * softplus(-score(target)) + wrong.reduce((a, b) => a + b, 0)) / 5;
          }),
        ),
    );
  });

  test.each([
    ['of three users', [7, 8, -1, 7, 8, -1], [3, 1, 0, 2, 4, 0]],
    ['of a user with two windows and another', [7, 7, 8, 7, 7, 8], [3, 1, 2, 2, 4, 1]],
  ])('agreement of the views %s', (_, owners, lengths) => {
    const views = matrix(6, 4);
    const partners = [3, 4, 5, 0, 1, 2];
    const input = (builder: GraphBuilder, name: string) => builder.input(name, [6], 'int32');
    const cosine = (a: number[], b: number[]): number => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    const present = [0, 1, 2, 3, 4, 5].filter((i) => lengths[i] > 0);
    return check(
      { views },
      { partners: int32(partners), owners: int32(owners), lengths: int32(lengths) },
      (p, builder) =>
        agreement(
          p.views,
          {
            partners: input(builder, 'partners'),
            owners: input(builder, 'owners'),
            present: input(builder, 'lengths').greater(0),
          },
          0.5,
        ),
      (w) =>
        mean(
          present.map((i) => {
            const others = present.filter((j) => j === partners[i] || owners[j] !== owners[i]);
            return (
              logSumExp(others.map((j) => cosine(w.views[i], w.views[j]) / 0.5)) - cosine(w.views[i], w.views[partners[i]]) / 0.5
            );
          }),
        ),
    );
  });
});

test('gSASRec: t 0 is plain binary cross-entropy, t 1 takes the share of items drawn', () => {
  expect(calibration(10, 1001, 0)).toBeCloseTo(1, 12);
  expect(calibration(10, 1001, 1)).toBeCloseTo(0.01, 12);
  // Nothing to calibrate where every other item is drawn.
  expect(calibration(1000, 1001, 0.5)).toBeCloseTo(1, 12);
  // One item has no others.
  expect(calibration(0, 1, 0.75)).toBeCloseTo(0.25, 12);
});

describe('what is drawn', () => {
  test('different numbers, every one as often as the others', () => {
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 6000; i++) {
      const drawn = drawDistinct(10, 4, Random.of('distinct', i));
      expect(new Set(drawn).size).toBe(4);
      for (const id of drawn) counts[id]++;
    }
    for (const count of counts) expect(Math.abs(count / 2400 - 1)).toBeLessThan(0.08);
    expect([...drawDistinct(5, 5, Random.of(1))]).toEqual([0, 1, 2, 3, 4]);
  });

  test('weighted ids, as often as their share', () => {
    const ids = new WeightedIds(Float64Array.of(1, 0, 3, 4));
    const drawn = drawWeighted(ids, 20_000, Random.of('weighted'));
    const shares = [0, 1, 2, 3].map((id) => drawn.filter((other) => other === id).length / drawn.length);
    expect([0, 1, 2, 3].map((id) => ids.share(id))).toEqual([0.125, 0, 0.375, 0.5]);
    shares.forEach((share, id) => expect(Math.abs(share - ids.share(id))).toBeLessThan(0.01));
  });

  test('corrected samples estimate the sum over all items without bias', () => {
    // sum over drawn of e^{s - log(expected count)} has the expectation sum over all of e^s.
    const scores = Array.from({ length: 40 }, (_, i) => Math.sin(i));
    const all = Math.exp(logSumExp(scores));
    const popular = new WeightedIds(Float64Array.from(scores, (_, i) => i + 1));
    const [alike, weighted] = [1, 2].map((kind) => {
      const estimates = Array.from({ length: 4000 }, (_, i) => {
        const stream = Random.of('estimate', kind, i);
        return kind === 1
          ? [...drawDistinct(40, 8, stream)].reduce((sum, id) => sum + Math.exp(scores[id]) / (8 / 40), 0)
          : [...drawWeighted(popular, 8, stream)].reduce((sum, id) => sum + Math.exp(scores[id]) / (8 * popular.share(id)), 0);
      });
      return mean(estimates);
    });
    expect(Math.abs(alike / all - 1)).toBeLessThan(0.02);
    expect(Math.abs(weighted / all - 1)).toBeLessThan(0.04);
  });
});
