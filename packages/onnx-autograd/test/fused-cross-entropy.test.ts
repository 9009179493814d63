import { describe, expect, test } from '@jest/globals';
import {
  crossEntropy,
  graph,
  gradients,
  linearCrossEntropy,
  normal,
  Program,
  Random,
  sgd,
  toOnnx,
  Trainer,
  weightedMean,
  type Dim,
  type HostTensor,
} from '../src/index.js';
import { fromOrt, openSession, toOrt } from '../src/session.js';
import { difference, f32, i32, randomTensor } from './support.js';

const [width, classes] = [8, 16_000];

/** A classifier whose input is learned too; its mean loss is fused in a graph for training, and plain in one for inference. */
const classifier = (rows: Dim) =>
  graph(({ input, parameter }) => {
    const x = input('x', [rows, width]).matmul(parameter('project', [width, width], normal(0.5)));
    const losses = linearCrossEntropy(x, parameter('table', [classes, width], normal(0.5)), input('targets', [rows], 'int32'));
    return { loss: weightedMean(losses, input('weights', [rows])) };
  });

const largest = ({ data }: HostTensor): number =>
  (data as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

describe('the fused mean of a cross-entropy', () => {
  // 256 rows of 16,000 probabilities fit one chunk: these are one chunk, two (the smallest number that splits), and several with a rest.
  test.each([1, 100, 512, 700])('of %d rows has the loss and the gradients of the plain one', async (rows) => {
    const random = Random.of('fused', rows);
    const feeds = {
      x: randomTensor(random, [rows, width]),
      targets: i32(Int32Array.from({ length: rows }, () => random.integer(classes))),
      weights: f32(Float32Array.from({ length: rows }, (_, i) => (i % 7 === 3 ? 0 : random.next()))),
    };
    const definition = classifier('n');
    const trainer = await Trainer.create(definition, {
      minimize: 'loss',
      optimizer: sgd({ learningRate: 1 }),
      seed: 4,
      threads: 1,
    });
    const weights = trainer.weights();
    const { loss } = await trainer.step(feeds);
    const stepped = trainer.weights();
    expect(trainer.flops(feeds)).toBe(2 * rows * width * (3 * classes + 2 * width));
    await trainer.dispose();

    const plain = graph((scope) => {
      const { builder } = scope;
      const { loss: mean } = {
        loss: weightedMean(
          linearCrossEntropy(
            scope.input('x', ['n', width]).matmul(scope.parameter('project', [width, width], normal(1))),
            scope.parameter('table', [classes, width], normal(1)),
            scope.input('targets', ['n'], 'int32'),
          ),
          scope.input('weights', ['n']),
        ),
      };
      const [project, table] = gradients(mean, [
        builder.parameters.get('project')!.tensor,
        builder.parameters.get('table')!.tensor,
      ]);
      return { mean, project, table_: table, project_: project };
    });
    const program = await Program.create(plain, { weights, outputs: ['mean', 'project_', 'table_'], threads: 1 });
    const expected = await program.run(feeds);
    await program.dispose();
    expect(loss).toBeCloseTo((expected.mean.data as Float32Array)[0], 5);
    for (const name of ['project', 'table']) {
      const change: HostTensor = f32(
        (weights.get(name)!.data as Float32Array).map((value, i) => value - (stepped.get(name)!.data as Float32Array)[i]),
        weights.get(name)!.shape,
      );
      expect(largest(expected[`${name}_`])).toBeGreaterThan(1e-3);
      expect(difference(change, expected[`${name}_`])).toBeLessThan(8e-7);
    }
  });

  test('never holds all probabilities: every chunk reuses the memory of the one before', () => {
    const { builder, outputs } = classifier('n').fresh({ training: true });
    const all = [
      outputs.loss,
      ...gradients(
        outputs.loss,
        [...builder.parameters.values()].map(({ tensor }) => tensor),
      ),
    ];
    const text = (rows: number): string =>
      Buffer.from(
        toOnnx({ outputs: Object.fromEntries(all.map((tensor, i) => [`o${i}`, tensor])), bindings: { n: rows } }).bytes,
      ).toString('latin1');
    const chunks = (rows: number): number => new Set(text(rows).match(/probabilities\.\d+/g)).size;
    expect([1, 100, 511, 512, 700, 2080].map(chunks)).toEqual([1, 1, 1, 2, 3, 9]);
  });

  test.each([
    ['fixed', 'n'],
    ['dynamic', 'n'],
    ['dynamic', 2],
  ] as const)('takes a number of classes that the feeds tell: %s shapes, %s rows', async (shapes, rows) => {
    const model = graph(({ input, table }) => {
      const items = table('items', [20, width], normal(0.5));
      const x = items.gather(input('ids', [rows], 'int32'));
      const losses = linearCrossEntropy(
        x,
        items.gather(input('candidates', ['choices'], 'int32')),
        input('targets', [rows], 'int32'),
      );
      return { loss: weightedMean(losses, input('weights', [rows])) };
    });
    const trainer = await Trainer.create(model, {
      minimize: 'loss',
      optimizer: sgd({ learningRate: 1 }),
      seed: 1,
      threads: 1,
      shapes,
    });
    const feeds = { ids: i32([7, 19]), candidates: i32([5, 4, 3]), targets: i32([0, 2]), weights: f32([1, 1]) };
    const { loss } = await trainer.evaluate(feeds);
    expect((await trainer.step(feeds)).loss).toBeCloseTo((loss.data as Float32Array)[0], 5);
    await trainer.dispose();
  });

  test('a frozen table, a frozen input and learned weights of the rows', async () => {
    const rows = 600;
    const random = Random.of('parts');
    const given = {
      x: randomTensor(random, [rows, width]),
      table: randomTensor(random, [classes, width]),
      share: randomTensor(random, [rows], 0.1, 1),
    };
    const model = graph(({ input, parameter }) => {
      const [x, table, share] = [
        parameter('x', [rows, width], normal(1)),
        parameter('table', [classes, width], normal(1)),
        parameter('share', [rows], normal(1)),
      ];
      return { loss: weightedMean(linearCrossEntropy(x, table, input('targets', [rows], 'int32')), share.square()).mul(2) };
    });
    const feeds = { targets: i32(Int32Array.from({ length: rows }, () => random.integer(classes))) };
    const weights = new Map(Object.entries(given));
    const plain = graph((scope) => {
      const { loss } = {
        loss: weightedMean(
          linearCrossEntropy(
            scope.parameter('x', [rows, width], normal(1)),
            scope.parameter('table', [classes, width], normal(1)),
            scope.input('targets', [rows], 'int32'),
          ),
          scope.parameter('share', [rows], normal(1)).square(),
        ).mul(2),
      };
      const names = ['x', 'table', 'share'];
      return {
        loss,
        ...Object.fromEntries(
          gradients(
            loss,
            names.map((name) => scope.builder.parameters.get(name)!.tensor),
          ).map((gradient, i) => [`d ${names[i]}`, gradient]),
        ),
      };
    });
    const program = await Program.create(plain, { weights, threads: 1 });
    const expected = await program.run(feeds);
    await program.dispose();
    for (const name of ['x', 'table', 'share']) {
      const trainer = await Trainer.create(model, {
        minimize: 'loss',
        optimizer: sgd({ learningRate: 1 }),
        seed: 1,
        threads: 1,
        weights,
        trainable: (other) => other === name,
      });
      const { loss } = await trainer.step(feeds);
      expect(loss).toBeCloseTo((expected.loss.data as Float32Array)[0], 4);
      const after = trainer.weights().get(name)!.data as Float32Array;
      const change = f32(
        (weights.get(name)!.data as Float32Array).map((value, i) => value - after[i]),
        weights.get(name)!.shape,
      );
      expect(largest(expected[`d ${name}`])).toBeGreaterThan(1e-3);
      expect(difference(change, expected[`d ${name}`])).toBeLessThan(8e-7);
      await trainer.dispose();
    }
  });
});

test.each([
  ['their mean alone', false],
  ['their mean and something else', true],
])('the losses have a gradient of their own, and x and the table theirs, where the loss reads %s', async (_, twice) => {
  const build = graph((scope) => {
    const [x, table] = [scope.parameter('x', [2, 2], normal(1)), scope.parameter('table', [3, 2], normal(1))];
    const losses = linearCrossEntropy(x, table, scope.input('targets', [2], 'int32'));
    const mean = weightedMean(losses, scope.input('weights', [2]));
    const found = gradients(twice ? mean.add(losses.square().sum()) : mean.mul(2), [losses, x, table]);
    return { losses, ofLosses: found[0], ofX: found[1], ofTable: found[2] };
  });
  const given = new Map(Object.entries({ x: f32([1, 2, 3, 4], [2, 2]), table: f32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [3, 2]) }));
  const feeds = { targets: toOrt(i32([0, 2])), weights: toOrt(f32([1, 3])) };
  const run = async (training: boolean): Promise<Record<string, HostTensor>> => {
    const { bytes } = toOnnx({ outputs: build.fresh({ training }).outputs, weights: given });
    const session = await openSession(bytes, { threads: 1 });
    const results = await session.run(feeds);
    await session.release();
    return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, fromOrt(tensor)]));
  };
  const [fused, plain] = [await run(true), await run(false)];
  for (const [name, expected] of Object.entries(plain)) expect(difference(fused[name], expected)).toBeLessThan(1e-6);
  const losses = plain.losses.data as Float32Array;
  const slopes = [0.25, 0.75].map((share, i) => (twice ? share + 2 * losses[i] : 2 * share));
  expect(difference(fused.ofLosses, f32(slopes))).toBeLessThan(1e-6);
});

test('a target of probability zero costs 87 at most, and nothing where its row has no weight', async () => {
  const model = graph(({ input, parameter }) => {
    const logits = parameter('logits', [2, 3], normal(1));
    return { loss: weightedMean(crossEntropy(logits, input('targets', [2], 'int32')), input('weights', [2])) };
  });
  const weights = new Map([['logits', f32([0, 0, -1e9, 1, 2, 3], [2, 3])]]);
  const trainer = await Trainer.create(model, {
    minimize: 'loss',
    optimizer: sgd({ learningRate: 1 }),
    seed: 1,
    threads: 1,
    weights,
  });
  const targets = i32([2, 1]);
  expect((await trainer.step({ targets, weights: f32([0, 1]) })).loss).toBeCloseTo(Math.log(1 + Math.exp(1) + Math.exp(-1)), 5);
  expect((await trainer.step({ targets, weights: f32([1, 0]) })).loss).toBeCloseTo(87.3, 1);
  await trainer.dispose();
});
