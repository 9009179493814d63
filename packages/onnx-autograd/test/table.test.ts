import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  adam,
  adamW,
  AutogradError,
  CheckpointError,
  FeedError,
  graph,
  linearCrossEntropy,
  normal,
  Program,
  Random,
  readSafetensors,
  sgd,
  ShapeError,
  Trainer,
  zeros,
  type Feeds,
  type GraphDefinition,
  type Optimizer,
  type Tensor,
  type TrainerOptions,
} from '../src/index.js';
import { difference, i32, numbers, randomTensor } from './support.js';

type Rows = (ids: Tensor) => Tensor;
const width = 3;

/** A next-item model with sampled negatives: the same rows as a table, or as a parameter, which every step reads and changes whole. */
const nextItem = (rows: number, kind: 'table' | 'parameter', name = 'items'): GraphDefinition<{ loss: Tensor; scores: Tensor }> =>
  graph(({ input, table, parameter }) => {
    const shape: [number, number] = [rows, width];
    const gather: Rows =
      kind === 'table'
        ? (ids) => table(name, shape, normal(0.5)).gather(ids)
        : (ids) => parameter(name, shape, normal(0.5)).gather(ids);
    const history = gather(input('ids', ['batch', 2], 'int32')); // [B, 2, D]
    const mixed = history.mean(1).matmul(parameter('mix', [width, width], normal(0.5))); // [B, D]
    const candidates = gather(input('candidates', ['choices'], 'int32')); // [C, D]
    const losses = linearCrossEntropy(mixed, candidates, input('targets', ['batch'], 'int32'));
    return { loss: losses.mean(), scores: mixed.matmul(candidates, { transposeB: true }) };
  });

function feeds(step: number, rows: number, batch = 4): Feeds {
  const random = Random.of('table', step);
  const pick = (count: number, below: number): number[] => Array.from({ length: count }, () => random.integer(below));
  return {
    ids: i32(pick(batch * 2, rows), [batch, 2]),
    candidates: i32(pick(5, rows)),
    targets: i32(pick(batch, 5)),
  };
}

const create = (
  definition: GraphDefinition<{ loss: Tensor; scores: Tensor }>,
  options: Partial<TrainerOptions<{ loss: Tensor; scores: Tensor }>> = {},
): Promise<Trainer> =>
  Trainer.create(definition, {
    minimize: 'loss',
    optimizer: adam({ learningRate: 0.05 }),
    seed: 3,
    threads: 1,
    ...options,
  }) as unknown as Promise<Trainer>;

let folder: string;
const file = (name: string): string => path.join(folder, `${name}.safetensors`);
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'table-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('a table whose every row is touched at every step', () => {
  const rows = 6;
  /** All six rows, among the candidates or the histories. */
  const touching = (step: number): Feeds => ({ ...feeds(step, rows), candidates: i32([0, 1, 2, 3, 4, 5]) });

  const optimizers: [string, Optimizer][] = [
    ['Adam', adam({ learningRate: 0.05 })],
    ['AdamW with decay', adamW({ learningRate: 0.05, weightDecay: 0.2 })],
    ['momentum', sgd({ learningRate: 0.05, momentum: 0.9 })],
  ];
  test.each(optimizers)('is a dense parameter: %s, with clipping', async (_, optimizer) => {
    const sparse = await create(nextItem(rows, 'table'), { optimizer, clipNorm: 0.1 });
    const dense = await create(nextItem(rows, 'parameter'), { optimizer, clipNorm: 0.1 });
    for (let step = 1; step <= 20; step++) {
      const [a, b] = [await sparse.step(touching(step)), await dense.step(touching(step))];
      expect(a.loss).toBeCloseTo(b.loss, 5);
      // The norm is over the table's gradient too.
      expect(a.metrics.gradientNorm).toBeCloseTo(b.metrics.gradientNorm, 5);
    }
    expect([...sparse.weights().keys()].sort()).toEqual(['items', 'mix']);
    for (const [name, weight] of dense.weights()) expect(difference(sparse.weights().get(name)!, weight)).toBeLessThan(5e-6);
    await sparse.dispose();
    await dense.dispose();
  });
});

describe('a table of which a step touches some rows', () => {
  const rows = 40;

  test("follows Adam row by row: a row's moments and its bias correction know the steps that touched it alone", async () => {
    // loss = sum over ids of |row - 1|^2, so that the gradient of a row is 2 (row - 1) for each time that it is named.
    const model = graph(({ input, table }) => ({
      loss: table('rows', [rows, width], normal(1))
        .gather(input('ids', ['n'], 'int32'))
        .sub(1)
        .square()
        .sum(),
    }));
    const trainer = await Trainer.create(model, {
      minimize: 'loss',
      optimizer: adam({ learningRate: 0.1 }),
      seed: 1,
      threads: 1,
    });
    const start = numbers(trainer.weights().get('rows')!);
    const expected = start.map((value) => ({ value, mean: 0, variance: 0, touches: 0 }));
    const touched = new Set<number>();
    for (let step = 1; step <= 30; step++) {
      const random = Random.of('sparse', step);
      const ids = Array.from({ length: 6 }, () => random.integer(rows - 10));
      await trainer.step({ ids: i32(ids) });
      for (const id of new Set(ids)) {
        touched.add(id);
        for (let j = 0; j < width; j++) {
          const state = expected[id * width + j];
          const gradient = ids.filter((other) => other === id).length * 2 * (state.value - 1);
          state.touches++;
          state.mean = 0.9 * state.mean + 0.1 * gradient;
          state.variance = 0.999 * state.variance + 0.001 * gradient ** 2;
          const [mean, variance] = [state.mean / (1 - 0.9 ** state.touches), state.variance / (1 - 0.999 ** state.touches)];
          state.value -= (0.1 * mean) / (Math.sqrt(variance) + 1e-8);
        }
      }
    }
    expect(touched.size).toBeGreaterThan(25);
    const values = numbers(trainer.weights().get('rows')!);
    values.forEach((value, i) => expect(Math.abs(value - expected[i].value)).toBeLessThan(2e-5));
    // Rows that were never named are what they were, to the bit.
    values.slice((rows - 10) * width).forEach((value, i) => expect(value).toBe(start[(rows - 10) * width + i]));
    await trainer.saveCheckpoint(file('touches'));
    const { tensors } = await readSafetensors(file('touches'));
    expect([...tensors.keys()].sort()).toEqual(['mean/rows', 'rows', 'touches/rows', 'variance/rows']);
    expect(Array.from(tensors.get('touches/rows')!.data as Int32Array)).toEqual(
      Array.from({ length: rows }, (_, row) => expected[row * width].touches),
    );
    await trainer.dispose();
  });

  test('one graph for all sizes gives the same numbers as one for each', async () => {
    const fixed = await create(nextItem(rows, 'table'));
    const dynamic = await create(nextItem(rows, 'table'), { shapes: 'dynamic' });
    for (const [step, batch] of [4, 7, 4, 2].entries()) {
      const [a, b] = [await fixed.step(feeds(step, rows, batch)), await dynamic.step(feeds(step, rows, batch))];
      expect(b.loss).toBeCloseTo(a.loss, 6);
    }
    for (const [name, weight] of fixed.weights()) expect(difference(dynamic.weights().get(name)!, weight)).toBeLessThan(1e-6);
    await fixed.dispose();
    await dynamic.dispose();
  });

  test('the average gradient of several batches is that of one big batch, on the rows of all of them', async () => {
    const options = { clipNorm: 0.05, optimizer: adamW({ learningRate: 0.1, weightDecay: 0.1 }) };
    const [whole, parts] = [await create(nextItem(rows, 'table'), options), await create(nextItem(rows, 'table'), options)];
    for (let step = 1; step <= 4; step++) {
      const all = feeds(step, rows, 6);
      const piece = (from: number, to: number): Feeds => ({
        ...all,
        ids: i32((all.ids.data as Int32Array).slice(from * 2, to * 2), [to - from, 2]),
        targets: i32((all.targets.data as Int32Array).slice(from, to)),
      });
      const a = await whole.step(all);
      const b = await parts.step([piece(0, 2), piece(2, 4), piece(4, 6)]);
      expect(b.loss).toBeCloseTo(a.loss, 5);
      expect(b.metrics.gradientNorm).toBeCloseTo(a.metrics.gradientNorm, 5);
    }
    for (const [name, weight] of whole.weights()) expect(difference(parts.weights().get(name)!, weight)).toBeLessThan(2e-5);
    await whole.dispose();
    await parts.dispose();
  });

  test('costs the same whatever the number of rows', async () => {
    const [small, large] = [await create(nextItem(rows, 'table')), await create(nextItem(1_000_000, 'table'))];
    expect(large.flops(feeds(1, rows))).toBe(small.flops(feeds(1, rows)));
    const before = large.weights().get('items')!;
    const { loss } = await large.step(feeds(1, 1_000_000));
    expect(loss).toBeGreaterThan(0);
    const after = large.weights().get('items')!.data as Float32Array;
    const changed = new Set<number>();
    after.forEach((value, i) => value !== before.data[i] && changed.add(Math.floor(i / width)));
    const { ids, candidates } = feeds(1, 1_000_000);
    expect(changed).toEqual(new Set([...(ids.data as Int32Array), ...(candidates.data as Int32Array)]));
    await small.dispose();
    await large.dispose();
  });

  test('is evaluated, saved and served by its own ids, as a parameter', async () => {
    const model = nextItem(rows, 'table');
    const trainer = await create(model);
    for (let step = 1; step <= 3; step++) await trainer.step(feeds(step, rows));
    const { scores, loss } = await trainer.evaluate(feeds(9, rows));
    const program = await Program.create(model, { weights: trainer.weights() });
    const served = await program.run(feeds(9, rows));
    expect(difference(served.scores, scores)).toBeLessThan(1e-6);
    expect(numbers(served.loss)[0]).toBeCloseTo(numbers(loss)[0], 6);
    await trainer.saveWeights(file('weights'));
    expect((await readSafetensors(file('weights'))).tensors).toEqual(trainer.weights());
    expect(trainer.trainable.map(({ name, shape }) => [name, shape])).toEqual([
      ['mix', [width, width]],
      ['items', [rows, width]],
    ]);
    expect(model.parameters.map(({ name }) => name)).toEqual(['items', 'mix']);
    await program.dispose();
    await trainer.dispose();
  });

  test('starts from given weights; a frozen table stands still', async () => {
    const items = randomTensor(Random.of(8), [rows, width]);
    const trainer = await create(nextItem(rows, 'table'), {
      weights: new Map([['items', items]]),
      trainable: (name) => name !== 'items',
    });
    const { loss } = await trainer.step(feeds(1, rows));
    await trainer.step([feeds(1, rows), feeds(2, rows)]);
    expect(loss).toBeGreaterThan(0);
    expect(trainer.weights().get('items')).toEqual(items);
    expect([...trainer.weights({ trainableOnly: true }).keys()]).toEqual(['mix']);
    await trainer.dispose();
  });

  test('ids that the loss does not read name no rows', async () => {
    const model = graph(({ input, table }) => {
      const items = table('rows', [rows, width], normal(1));
      const read = (name: string): Tensor =>
        items
          .gather(input(name, [`of_${name}`], 'int32'))
          .square()
          .sum();
      return { loss: read('ids'), other: read('elsewhere') };
    });
    const optimizer = sgd({ learningRate: 0.1, momentum: 0.9 });
    const trainer = await Trainer.create(model, { minimize: 'loss', optimizer, seed: 1, threads: 1 });
    await trainer.step({ ids: i32([1, 2]) });
    const before = trainer.weights().get('rows')!;
    await trainer.step({ ids: i32([1]), elsewhere: i32([2, 3]) });
    const after = numbers(trainer.weights().get('rows')!);
    const changed = after.flatMap((value, i) => (value === before.data[i] ? [] : [Math.floor(i / width)]));
    expect(new Set(changed)).toEqual(new Set([1]));
    await trainer.dispose();
  });

  test('a step that fails changes no row', async () => {
    const trainer = await create(nextItem(rows, 'table'), { optimizer: sgd({ learningRate: 0.1, momentum: 0.5 }) });
    await trainer.step(feeds(1, rows));
    const before = trainer.weights();
    const wrong = { ...feeds(2, rows), candidates: i32([1, 2, rows, 3, 4]) };
    const failing = trainer.step(wrong);
    await expect(failing).rejects.toThrow(
      `input 'candidates': has the id ${rows} at element 2, and the table 'items' has rows 0 to ${rows - 1}`,
    );
    await failing.catch((error: unknown) => expect(FeedError.isInstance(error)).toBe(true));
    await expect(trainer.step({ ...feeds(2, rows), ids: i32([0, -1], [1, 2]), targets: i32([0]) })).rejects.toThrow('the id -1');
    expect(trainer.weights()).toEqual(before);
    expect(trainer.steps).toBe(1);
    await trainer.dispose();
  });
});

describe('a checkpoint with a table', () => {
  const rows = 40;

  test('resumes to the same numbers', async () => {
    const losses = async (trainer: Trainer, from: number, to: number): Promise<number[]> => {
      const result: number[] = [];
      for (let step = from; step <= to; step++) result.push((await trainer.step(feeds(step, rows))).loss);
      return result;
    };
    const whole = await create(nextItem(rows, 'table'));
    const expected = await losses(whole, 1, 10);
    const first = await create(nextItem(rows, 'table'));
    await losses(first, 1, 6);
    await first.saveCheckpoint(file('resume'));
    const second = await create(nextItem(rows, 'table'));
    await second.resume(file('resume'));
    expect(await losses(second, 7, 10)).toEqual(expected.slice(6));
    expect(second.weights()).toEqual(whole.weights());
    for (const trainer of [whole, first, second]) await trainer.dispose();
  });

  test('is refused by a table of other rows, by a dense parameter, and where the table is frozen with other values', async () => {
    const trainer = await create(nextItem(rows, 'table'));
    await trainer.saveCheckpoint(file('refuse'));
    const frozen = (seed: number): Promise<Trainer> =>
      create(nextItem(rows, 'table'), {
        weights: new Map([['items', randomTensor(Random.of(seed), [rows, width])]]),
        trainable: (name) => name === 'mix',
      });
    const still = await frozen(1);
    await still.saveCheckpoint(file('frozen'));
    const cases: [string, Promise<Trainer>, RegExp][] = [
      ['refuse', create(nextItem(rows + 1, 'table')), /'items' is \[40, 3\], and this model has \[41, 3\]/],
      ['refuse', create(nextItem(rows, 'parameter')), /has 7 tensors, and this model has 6/],
      ['frozen', frozen(2), /was made with other frozen weights/],
    ];
    for (const [name, made, message] of cases) {
      const other = await made;
      const failing = other.resume(file(name));
      await expect(failing).rejects.toThrow(message);
      await failing.catch((error: unknown) => expect(CheckpointError.isInstance(error)).toBe(true));
      await other.dispose();
    }
    await trainer.dispose();
    await still.dispose();
  });
});

describe('a table is refused', () => {
  const build = (model: Parameters<typeof graph>[0]): unknown => graph(model).build({ training: true });

  test('ids that the graph computes, or that are not int32', () => {
    for (const [dtype, change, message] of [
      ['int32', (ids: Tensor) => ids.reshape([-1]), /int32 input of the graph, and this is computed; gather by the input/],
      ['int64', (ids: Tensor) => ids, /and this is int64/],
    ] as const) {
      const model = (): unknown =>
        build(({ input, table }) => ({ y: table('t', [5, 2], zeros()).gather(change(input('ids', ['a', 2], dtype))) }));
      expect(model).toThrow(message);
      expect(model).toThrow(ShapeError);
    }
  });

  test('one name for two tables, or for a table and a parameter', () => {
    expect(() => build(({ table }) => [table('t', [5, 2], zeros()), table('t', [6, 2], zeros())] as never)).toThrow(
      "one name, 't', two shapes",
    );
    expect(() =>
      build(({ table, parameter }) => [table('t', [5, 2], zeros()), parameter('t', [5, 2], zeros())] as never),
    ).toThrow(AutogradError);
    expect(() =>
      build(({ table, parameter }) => [parameter('t', [5, 2], zeros()), table('t', [5, 2], zeros())] as never),
    ).toThrow("a parameter 't' already");
  });

  test('two tables with names alike have rows of their own', async () => {
    const model = graph(({ input, table }) => {
      const ids = input('ids', ['n'], 'int32');
      const other = input('other', ['m'], 'int32');
      const a = table('a.b', [9, 2], normal(1)).gather(ids).sum();
      return { loss: a.add(table('a_b', [9, 2], normal(1)).gather(other).sum()) };
    });
    const trainer = await Trainer.create(model, { minimize: 'loss', optimizer: sgd({ learningRate: 1 }), seed: 1, threads: 1 });
    const before = trainer.weights();
    await trainer.step({ ids: i32([1, 1]), other: i32([2, 3, 4]) });
    const moved = (name: string): number[] =>
      numbers(trainer.weights().get(name)!).map((value, i) => Math.round((before.get(name)!.data[i] as number) - value));
    expect(moved('a.b')).toEqual([0, 0, 2, 2, ...new Array<number>(14).fill(0)]);
    expect(moved('a_b')).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, ...new Array<number>(8).fill(0)]);
    await trainer.dispose();
  });
});
