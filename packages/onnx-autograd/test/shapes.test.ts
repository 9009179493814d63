import { describe, expect, test } from '@jest/globals';
import {
  AutogradError,
  concat,
  crossEntropy,
  GraphBuilder,
  gradients,
  graph,
  linearCrossEntropy,
  matrixFlops,
  ones,
  Program,
  ShapeError,
  splitHeads,
  weightedMean,
  where,
  zeros,
  type Dim,
  type Tensor,
} from '../src/index.js';
import { addDims, bind, canonical, divideDims, multiplyDims, namesOf, sizeOf, subtractDims } from '../src/dim.js';
import { compute, f32, i32, numbers } from './support.js';

describe('named axes', () => {
  test('have one spelling', () => {
    expect(canonical('events*batch')).toBe('batch*events');
    expect(canonical(' 2 * a + 3*a - a ')).toBe('4*a');
    expect(canonical('a-a')).toBe(0);
    expect(canonical('1+2')).toBe(3);
    expect(addDims('b', addDims('a', 1))).toBe('a+b+1');
    expect(subtractDims('a+b', 'b')).toBe('a');
    expect(multiplyDims('a+1', 'b')).toBe('a*b+b');
    expect(sizeOf(['a', 2, 'b', 3])).toBe('6*a*b');
    expect(namesOf('2*a*b+c')).toEqual(['a', 'b', 'c']);
  });

  test('divide where they can', () => {
    expect(divideDims('6*a*b', '2*b')).toBe('3*a');
    expect(divideDims('a*b+b', 'b')).toBe('a+1');
    expect(divideDims('a+1', 'b')).toBeUndefined();
    expect(divideDims(7, 2)).toBeUndefined();
  });

  test('take sizes', () => {
    expect(bind('2*a*b+c', { a: 3, b: 5, c: 1 })).toBe(31);
    expect(bind('2*a*b+c', { a: 3 })).toBe('6*b+c');
    expect(bind('a', { toString: 1 } as unknown as Record<string, number>)).toBe('a');
  });

  test('a word that is no axis is refused', () => {
    expect(() => canonical('a/2')).toThrow(
      "'a/2' is not an axis: use a number, a name, or a sum of products such as '2*batch*events'",
    );
  });

  test('reshape and expand by two axes that are known only when the graph runs', async () => {
    const data = Float32Array.from({ length: 2 * 3 * 4 }, (_, i) => i);
    const results = await compute({ x: { tensor: f32(data, [2, 3, 4]), shape: ['batch', 'events', 4] } }, ({ x }) => ({
      flat: x.reshape(['batch*events', 4]),
      free: x.reshape(['batch', -1]),
      back: x.reshape(['batch*events', 2, 2]).transpose([0, 2, 1]).reshape(['batch', 'events', 4]),
      grown: x.slice(-1, 0, 1).reshape(['batch', 'events', 1]).expand(['batch', 'events', 'events']),
      both: x.graph.filled(['events', 'batch'], 2),
      mean: x.mean([0, 1]),
      count: x.graph.dimension('2*batch*events+1'),
      range: x.graph.range('batch*events'),
      end: x.slice(1, 'events-1', 'events'),
    }));
    expect(Object.fromEntries(Object.entries(results).map(([name, { shape }]) => [name, shape]))).toEqual({
      flat: [6, 4],
      free: [2, 12],
      back: [2, 3, 4],
      grown: [2, 3, 3],
      both: [3, 2],
      mean: [4],
      count: [],
      range: [6],
      end: [2, 1, 4],
    });
    expect(numbers(results.flat)).toEqual([...data]);
    expect(numbers(results.back).slice(0, 4)).toEqual([0, 2, 1, 3]);
    expect(numbers(results.grown).slice(0, 6)).toEqual([0, 0, 0, 4, 4, 4]);
    expect(numbers(results.mean)).toEqual([10, 11, 12, 13]);
    expect(numbers(results.count)).toEqual([13]);
    expect(numbers(results.range)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(numbers(results.end)).toEqual([8, 9, 10, 11, 20, 21, 22, 23]);
  });

  test('an axis that an operator made is known behind it', async () => {
    const definition = graph(({ builder }) => {
      const x = builder.input('x', ['n', 2]);
      const [places] = builder.operator('NonZero', [x.sum(-1)], { outputs: [{ dtype: 'int64', shape: [1, 'kept'] }] });
      const kept = x.gather(places.reshape(['kept']));
      return { y: kept.mul(2).reshape(['2*kept']), ones: kept.add(0).mul(builder.filled(['kept', 1], 3)) };
    });
    const program = await Program.create(definition, { weights: new Map() });
    const { y, ones } = await program.run({ x: f32([1, 2, 0, 0, 3, 4], [3, 2]) });
    expect(numbers(y)).toEqual([2, 4, 6, 8]);
    expect(numbers(ones)).toEqual([3, 6, 9, 12]);
    await program.dispose();
  });

  test('an axis that no input shows is refused when the graph is written', async () => {
    const definition = graph(({ builder }) => ({ y: builder.filled(['somewhere', 2]) }));
    await expect(Program.create(definition, { weights: new Map() })).rejects.toThrow(
      "no input has the axis 'somewhere' on its own, so its size is not known when the graph runs; give an input with that axis, or fix it",
    );
  });
});

test('numbers become constants of the element type that is asked for', async () => {
  const builder = GraphBuilder.create();
  for (const dtype of ['float32', 'float16', 'int64', 'int32', 'int8', 'uint8', 'bool'] as const)
    expect(builder.constant([1, 0], [2], dtype)).toMatchObject({ dtype, shape: [2] });
  const { doubled } = await compute({ x: { tensor: f32([1.5, -2]) } }, ({ x }) => ({
    doubled: x.cast('float16').mul(2).cast('float32'),
  }));
  expect(numbers(doubled)).toEqual([3, -4]);
});

describe('shapes that do not fit are refused while the graph is built', () => {
  const builder = GraphBuilder.create();
  const x = builder.input('x', ['n', 3]);
  const weight = builder.scope('encoder').parameter('weight', [4, 5], ones());
  const ids = builder.input('ids', ['n'], 'int32');
  const mask = builder.input('mask', ['n'], 'bool');
  const other = builder.input('y', ['m', 3]);
  const node = x.exp();

  // What is wrong, both shapes, and who they are.
  const cases: [string, () => unknown, string | RegExp][] = [
    ['matmul', () => x.matmul(weight), 'matmul of x [n, 3] and encoder.weight [4, 5]: inner axes 3 and 4 differ'],
    ['matmul, transposed', () => x.matmul(weight, { transposeB: true }), 'inner axes 3 and 5 differ (after transposing)'],
    [
      'matmul of a vector',
      () => x.matmul(ids.cast('float32')),
      /^matmul of x \[n, 3\] and Cast#\d+ \[n\]: both need two axes or more$/,
    ],
    [
      'broadcasting',
      () => node.add(weight),
      /^Add of Exp#\d+ \[n, 3\] and encoder\.weight \[4, 5\]: n and 4 differ, and neither is 1$/,
    ],
    ['named axes', () => x.add(other), 'Add of x [n, 3] and y [m, 3]: n and m differ'],
    ['element types', () => x.add(ids), 'element types float32 and int32 differ; cast one'],
    [
      'a fraction beside integers',
      () => ids.mul(0.5),
      /^Mul of \S+ \[.*\]: int32 holds no fraction, and 0.5 is one; cast it to float32 first$/,
    ],
    ['a comparison of integers with a fraction', () => ids.less(2.5), 'int32 holds no fraction, and 2.5 is one'],
    ['integers by a fraction', () => ids.div(1.5), 'cast it to float32 first'],
    ['a mean of integers', () => ids.mean(), /^mean of .*: int32 holds no fraction; cast it to float32 first$/],
    ['a constant of integers', () => builder.constant([1, 2.5], [2], 'int32'), 'constant of [2]: int32 holds no fraction'],
    [
      'a constant that is too large',
      () => builder.constant([1, 2 ** 31], [2], 'int32'),
      'constant of [2]: int32 does not hold 2147483648',
    ],
    ['a number beside integers that is too large', () => ids.add(3e9), 'int32 does not hold 3000000000'],
    ['a constant below 0 of bytes', () => builder.constant(-1, [], 'uint8'), 'uint8 does not hold -1'],
    ['linear', () => x.linear(weight, weight), "the last axis, 3, must be the weight's first, 4, and the bias [5]"],
    ['where', () => where(ids, x, x), 'the condition is int32 and must be bool'],
    ['reshape', () => x.reshape(['n', 4]), 'reshape of x [n, 3] and [n, 4]: 3*n elements become 4*n'],
    ['reshape with a rest', () => x.reshape([2, -1, 'm']), '3*n elements do not divide by 2*m'],
    ['expand', () => weight.expand([1, 5]), 'expand of encoder.weight [4, 5] and [1, 5]: an axis can grow from 1 only'],
    ['transpose', () => x.transpose([0, 0]), '[0,0] is no permutation of its axes'],
    ['squeeze', () => x.squeeze(1), 'axis 1 is 3, not 1'],
    ['an axis', () => x.sum(2), 'ReduceSum of x [n, 3]: there is no axis 2'],
    ['an axis twice', () => x.mean([1, -1]), 'mean of x [n, 3]: [1,-1] names an axis twice'],
    ['slice past the end', () => x.slice(1, 0, 4), '0..4 runs past axis 1'],
    ['slice past the end of a named axis', () => x.slice(0, 1, 'n+1'), '1..n+1 runs past axis 0'],
    ['slice backwards', () => x.slice(1, 2, 1), '2..1 of axis 1 is empty'],
    ['slice before the start', () => x.slice(1, -1, 2), 'a start of -1 is before axis 1'],
    ['split', () => x.split(1, [1, 1]), 'split of x [n, 3]: parts of 1 + 1 do not make axis 1'],
    ['concat', () => concat([x, weight], 0), 'concat of x [n, 3] and encoder.weight [4, 5]: they differ off axis 0'],
    ['gather', () => x.gather(x), 'indices are float32, and must be int32 or int64'],
    ['gatherElements', () => x.gatherElements(ids), 'they may differ in the last axis alone'],
    [
      'norms',
      () => x.rmsNorm(builder.parameter('g', [4], ones())),
      'rmsNorm of x [n, 3] and g [4]: the weight must have the width of the last axis',
    ],
    ['heads', () => splitHeads(x.unsqueeze(1), 2), 'a width of 3 does not divide by 2 heads'],
    ['linearCrossEntropy', () => linearCrossEntropy(x, weight, ids), 'give x [N, D], a table [V, D] and targets [N]'],
    ['crossEntropy', () => crossEntropy(ids.cast('float32'), ids), 'give logits [N, V] and targets [N]'],
    ['weightedMean', () => weightedMean(x, mask.cast('float32')), 'one weight per value'],
    [
      'a tied weight',
      () => builder.scope('encoder').parameter('weight', [5, 4], ones()),
      'parameter of encoder.weight [4, 5] and [5, 4]: one name, two shapes',
    ],
    ['a constant', () => builder.constant([1, 2, 3], [2]), 'constant of [2] and [3]: the shape holds another number of elements'],
  ];
  test.each(cases)('%s', (_, build, message) => {
    expect(build).toThrow(message);
    try {
      build();
    } catch (error) {
      expect(ShapeError.isInstance(error) && AutogradError.isInstance(error)).toBe(true);
    }
  });

  test('the error has its parts as fields', () => {
    const error = new ShapeError('add', [x, [2]], 'why');
    expect([error.operation, error.shapes, error.nodes, error.reason]).toEqual(['add', [['n', 3], [2]], ['x'], 'why']);
  });

  test('a name twice is a tied weight, an input twice is a mistake', () => {
    expect(builder.scope('encoder').parameter('weight', [4, 5], zeros())).toBe(weight);
    expect(() => builder.input('x', [1])).toThrow(
      "the graph has an input 'x' already; give the second one another name or a scope",
    );
  });

  test('one name for an input and a parameter is a mistake: the feed would be taken for the weight', () => {
    expect(() => builder.parameter('x', [3], zeros())).toThrow(
      "the graph has an input 'x' already; give the parameter another name or a scope",
    );
    expect(() => builder.scope('encoder').input('weight', [4, 5])).toThrow(
      "the graph has a parameter 'encoder.weight' already; give the input another name or a scope",
    );
    expect(builder.scope('decoder').parameter('x', [3], zeros()).name).toBe('decoder.x');
  });

  test('a dropout rate outside [0, 1) is refused', () => {
    expect(() => x.dropout(1)).toThrow('a dropout rate of 1 is outside [0, 1)');
  });
});

describe('the cost of a graph', () => {
  const model = (builder: GraphBuilder): { loss: Tensor; frozen: Tensor; learned: Tensor } => {
    const frozen = builder.parameter('frozen', [8, 16], ones());
    const learned = builder.parameter('learned', [16, 4], ones());
    return {
      frozen,
      learned,
      loss: builder
        .input('x', ['n', 8] as Dim[])
        .matmul(frozen)
        .matmul(learned)
        .sum(),
    };
  };

  test('is counted as 2 m n k over the products that run', () => {
    const { loss } = model(GraphBuilder.create());
    expect(matrixFlops([loss], { n: 3 })).toBe(2 * 3 * 8 * 16 + 2 * 3 * 16 * 4);
    expect(() => matrixFlops([loss], {})).toThrow('give a size for every named axis');
  });

  test('a frozen weight costs no gradient', () => {
    const { loss, learned, frozen } = model(GraphBuilder.create());
    const [first, second] = [2 * 3 * 8 * 16, 2 * 3 * 16 * 4];
    expect(matrixFlops([loss, ...gradients(loss, [learned])], { n: 3 })).toBe(first + 2 * second);
    expect(matrixFlops([loss, ...gradients(loss, [learned, frozen])], { n: 3 })).toBe(2 * first + 3 * second);
  });
});

test('indices of either integer type read rows', async () => {
  const { y } = await compute(
    { table: { tensor: f32([1, 2, 3, 4], [2, 2]) }, ids: { tensor: i32([1, 0, 1]) } },
    ({ table, ids }) => ({ y: table.gather(ids).add(table.gather(ids.cast('int64'))) }),
  );
  expect(numbers(y)).toEqual([6, 8, 2, 4, 6, 8]);
});
