import { describe, expect, test } from '@jest/globals';
import {
  attention,
  causalBias,
  concat,
  crossEntropy,
  differentiableOperations,
  GraphBuilder,
  gradients,
  graph,
  linearCrossEntropy,
  mergeHeads,
  NotDifferentiableError,
  Program,
  Random,
  rotary,
  rotaryTables,
  scatterAddRows,
  splitHeads,
  weightedMean,
  where,
  type Dim,
  type HostTensor,
  type Node,
  type Tensor,
} from '../src/index.js';
import { compute, f32, i32, numbers, randomTensor } from './support.js';

/** One use of an operation. Named axes get random sizes, and stay named in the graph that runs. */
interface Case {
  /** Shapes of the float inputs. */
  readonly shapes: readonly (readonly Dim[])[];
  readonly build: (inputs: Tensor[], indices: Tensor) => Tensor;
  /** Where the operation is smooth. */
  readonly range?: readonly [number, number];
  /** Shape of an index input with values below 3. */
  readonly indices?: readonly Dim[];
}

const one = (build: (x: Tensor) => Tensor, range?: readonly [number, number]): Case[] => [
  { shapes: [['a', 3, 'b']], build: ([x]) => build(x), ...(range ? { range } : {}) },
];

/** A binary operation with and without broadcasting, with a scalar, and with the same operand twice. */
const two = (build: (x: Tensor, y: Tensor) => Tensor, range?: readonly [number, number]): Case[] =>
  [
    [
      ['a', 'b'],
      ['a', 'b'],
    ],
    [['a', 3], [3]],
    [
      ['a', 1, 'b'],
      [3, 1],
    ],
    [[], ['a', 2]],
    [
      ['a', 2],
      [1, 1],
    ],
  ].map((shapes) => ({ shapes, build: ([x, y]: Tensor[]) => build(x, y), ...(range ? { range } : {}) }));

const table: Record<string, Case[]> = {
  Add: [...two((x, y) => x.add(y)), ...one((x) => x.add(x)), ...one((x) => x.add(2))],
  Sub: [...two((x, y) => x.sub(y)), ...one((x) => x.sub(0.5))],
  Mul: [...two((x, y) => x.mul(y)), ...one((x) => x.square()), ...one((x) => x.mul(x).mul(x))],
  Div: [...two((x, y) => x.div(y), [0.5, 2]), ...one((x) => x.div(x.square().add(1)))],
  Pow: [...two((x, y) => x.pow(y), [0.5, 2]), ...one((x) => x.pow(3)), ...one((x) => x.pow(0).add(x.mul(x)).pow(1.5))],
  Max: [...two((x, y) => x.maximum(y)), ...one((x) => x.maximum(2), [0, 1.5])],
  Min: two((x, y) => x.minimum(y)),
  Where: two((x, y) => where(y.greater(0.3), x, y)).concat(two((x, y) => where(x.sub(y).less(0), x.mul(y), y))),
  Neg: one((x) => x.neg()),
  Exp: one((x) => x.exp()),
  Log: one((x) => x.log(), [0.5, 2]),
  Sqrt: one((x) => x.sqrt(), [0.5, 2]),
  Reciprocal: one((x) => x.reciprocal(), [0.5, 2]),
  Abs: [...one((x) => x.abs(), [0.3, 2]), ...one((x) => x.abs(), [-2, -0.3])],
  Sin: one((x) => x.sin()),
  Cos: one((x) => x.cos()),
  Erf: one((x) => x.erf()),
  Tanh: one((x) => x.tanh()),
  Sigmoid: one((x) => x.sigmoid()),
  Softplus: one((x) => x.softplus()),
  Relu: [...one((x) => x.relu(), [0.3, 2]), ...one((x) => x.relu().add(x.square()), [-2, -0.3])],
  Cast: one((x) => x.mul(x.greater(0.1).cast('float32')).cast('float32').add(x.cast('float16').cast('float32').mul(0))),
  Softmax: one((x) => x.softmax()),
  LogSoftmax: one((x) => x.logSoftmax()),
  Gelu: [
    ...one((x) => x.gelu()),
    ...one((x) => x.gelu('tanh')),
    ...one((x) => x.graph.operator('Gelu', [x], { outputs: [x] })[0]),
  ],
  QuickGelu: one((x) => x.silu()),
  ReduceSum: [
    ...one((x) => x.sum()),
    ...one((x) => x.sum(1)),
    ...one((x) => x.sum([0, -1], true)),
    ...one((x) => x.mean([0, 2])),
    ...one((x) => x.mean()),
  ],
  ReduceMax: [...one((x) => x.max(-1)), ...one((x) => x.max([0, 1], true)), ...one((x) => x.max())],
  Reshape: [
    { shapes: [['a', 3, 'b']], build: ([x]) => x.reshape(['a*b', 3]).mul(x.reshape([-1, 3])) },
    { shapes: [['a', 3, 'b']], build: ([x]) => x.unsqueeze(1).squeeze(1).reshape([3, -1]) },
  ],
  Transpose: [...one((x) => x.transpose()), ...one((x) => x.transpose([1, 0, 2])), ...one((x) => x.transpose([2, 0, 1]))],
  Expand: [
    { shapes: [['a', 1, 3]], build: ([x]) => x.expand(['a', 'b', 3]) },
    { shapes: [[3]], build: ([x]) => x.expand(['a', 'b', 3]) },
  ],
  Slice: [
    ...one((x) => x.slice(1, 1, 3)),
    { shapes: [['a', 'a+b']], build: ([x]) => x.slice(1, 'a', 'a+b') },
    { shapes: [['a', 'a+b']], build: ([x]) => x.slice(-1, 0, 'b').add(x.slice(1, 'a', 'a+b')) },
  ],
  Split: [
    { shapes: [['a', 6]], build: ([x]) => concatenated(x.split(1, [1, 2, 3])) },
    { shapes: [['a', 6]], build: ([x]) => x.split(-1, [1, 2, 3])[1] },
    { shapes: [[5, 'a']], build: ([x]) => x.split(0, [2, 3])[0].square() },
  ],
  Concat: [
    {
      shapes: [
        ['a', 2],
        ['a', 3],
      ],
      build: ([x, y]) => concat([x, y, x], 1),
    },
    {
      shapes: [
        ['a', 'b'],
        ['b', 'b'],
      ],
      build: ([x, y]) => concat([x, y], 0),
    },
    {
      shapes: [
        ['a', 2],
        ['a', 3],
      ],
      build: ([x, y]) => concat([x, y.tanh(), y], -1),
    },
  ],
  Pad: [
    {
      shapes: [['a', 3]],
      build: ([x]) =>
        x.graph.operator('Pad', [x, x.graph.dims([1, 'b', 0, 2])], {
          attributes: { mode: 'constant' },
          outputs: [{ dtype: 'float32', shape: ['a+1', 'b+5'] }],
        })[0],
    },
  ],
  MatMul: [
    {
      shapes: [
        ['a', 3],
        [3, 'b'],
      ],
      build: ([x, y]) => x.matmul(y),
    },
    {
      shapes: [
        ['a', 'b', 3],
        [3, 4],
      ],
      build: ([x, y]) => x.matmul(y),
    },
    {
      shapes: [
        [2, 1, 'a', 3],
        ['b', 3, 4],
      ],
      build: ([x, y]) => x.matmul(y),
    },
    { shapes: [['b', 'b']], build: ([x]) => x.matmul(x) },
    {
      shapes: [
        ['a', 3],
        ['b', 3, 2],
      ],
      build: ([x, y]) => x.matmul(y),
    },
  ],
  FusedMatMul: [
    {
      shapes: [
        ['a', 'b', 3],
        ['a', 4, 3],
      ],
      build: ([x, y]) => x.matmul(y, { transposeB: true, scale: 0.7 }),
    },
    {
      shapes: [
        ['a', 3, 'b'],
        ['a', 3, 4],
      ],
      build: ([x, y]) => x.matmul(y, { transposeA: true }),
    },
    {
      shapes: [
        [2, 'a', 3, 'b'],
        ['a', 4, 3],
      ],
      build: ([x, y]) => x.matmul(y, { transposeA: true, transposeB: true, scale: -2 }),
    },
    {
      shapes: [
        ['a', 2, 'b', 3],
        ['a', 1, 4, 3],
      ],
      build: ([x, y]) => x.matmul(y, { transposeB: true }),
    },
    {
      shapes: [
        ['a', 3, 'b'],
        [3, 4],
      ],
      build: ([x, y]) => x.matmul(y, { transposeA: true }),
    },
    {
      shapes: [
        ['a', 'b', 3],
        [4, 3],
      ],
      build: ([x, y]) =>
        x.graph.operator('FusedMatMul', [x, y], {
          domain: 'com.microsoft',
          attributes: { transB: 1 },
          outputs: [{ dtype: 'float32', shape: ['a', 'b', 4] }],
        })[0],
    },
  ],
  Gemm: [
    { shapes: [['a', 'b', 3], [3, 4], [4]], build: ([x, w, b]) => x.linear(w, b) },
    {
      shapes: [
        ['a', 'b', 3],
        [4, 3],
      ],
      build: ([x, w]) => x.matmul(w, { transposeB: true, scale: 3 }),
    },
    {
      shapes: [
        [3, 'a'],
        ['b', 3],
      ],
      build: ([x, y]) => x.matmul(y, { transposeA: true, transposeB: true, scale: 0.5 }),
    },
    {
      shapes: [
        [3, 'a'],
        [3, 'b'],
      ],
      build: ([x, y]) => x.matmul(y, { transposeA: true }),
    },
  ],
  Gather: [
    { shapes: [[3, 'a']], indices: ['b', 2], build: ([x], indices) => x.gather(indices) },
    { shapes: [[3]], indices: ['b'], build: ([x], indices) => x.gather(indices).mul(x.gather(indices.reshape(['b'])).exp()) },
  ],
  GatherElements: [{ shapes: [['a', 3]], indices: ['a', 2], build: ([x], indices) => x.gatherElements(indices) }],
  ScatterND: [
    {
      shapes: [
        [3, 2],
        ['b', 2],
      ],
      indices: ['b'],
      build: ([x, updates], indices) => scatterAddRows(x, indices, updates),
    },
  ],
  custom: [
    { shapes: [['a', 'b', 8], [8], [8]], build: ([x, w, b]) => x.layerNorm(w, b) },
    { shapes: [['a', 'b', 8], [8]], build: ([x, w]) => x.rmsNorm(w) },
    {
      shapes: [
        ['a', 2, 'b', 4],
        ['a', 2, 3, 4],
        ['a', 2, 3, 5],
      ],
      build: ([q, k, v]) => attention(q, k, v),
    },
    // Grouped heads share keys and values; the bias is learned.
    {
      shapes: [
        ['a', 2, 2, 'b', 4],
        ['a', 2, 1, 'b', 4],
        ['a', 2, 1, 'b', 4],
        ['b', 'b'],
      ],
      build: ([q, k, v, bias]) => attention(q, k, v, { bias, scale: 0.3 }),
    },
    {
      shapes: [['a', 'b', 4]],
      build: ([x]) =>
        mergeHeads(attention(splitHeads(x, 2), splitHeads(x, 2), splitHeads(x, 2), { bias: causalBias(x.graph, 'b') })),
    },
    {
      shapes: [['a', 'b', 4]],
      build: ([x]) =>
        mergeHeads(attention(splitHeads(x, 2), splitHeads(x, 2), splitHeads(x, 2), { bias: causalBias(x.graph, 'b', 'b', 2) })),
    },
    {
      shapes: [['b', 4], [3, 4], [3]],
      indices: ['b'],
      build: ([x, rows, bias], targets) => linearCrossEntropy(x, rows, targets, bias),
    },
    // A tied table: read as an embedding too.
    {
      shapes: [[3, 4]],
      indices: ['b'],
      build: ([rows], targets) => linearCrossEntropy(rows.gather(targets).tanh(), rows, targets),
    },
    {
      shapes: [
        ['b', 3],
        ['b', 1],
      ],
      indices: ['b'],
      build: ([logits, weights], targets) => weightedMean(crossEntropy(logits, targets), weights.square()),
    },
    {
      shapes: [['a', 'b', 4]],
      build: ([x]) => {
        const { cosine, sine } = rotaryTables(x.graph, x.graph.range('b'), 4);
        return rotary(x, cosine, sine);
      },
    },
    {
      shapes: [['a', 2, 'b', 6]],
      build: ([x]) => {
        const { cosine, sine } = rotaryTables(x.graph, x.graph.range('b'), 6);
        return rotary(x.square(), cosine, sine);
      },
    },
    { shapes: [['a', 3]], build: ([x]) => x.graph.custom([x], [x.square()], (_, [g]) => [g!.mul(x).mul(2)])[0] },
  ],
};

/** Operations that choose between their operands. */
const kinked = new Set(['Max', 'Min', 'Where']);

const concatenated = (parts: Tensor[]): Tensor => concat([parts[2].exp(), parts[0], parts[1].tanh()], 1);

describe('every gradient equals central finite differences', () => {
  for (const [operation, cases] of Object.entries(table))
    for (const [number, { shapes, build, range, indices }] of cases.entries())
      test(`${operation} ${number + 1}: ${shapes.map((shape) => `[${shape}]`).join(' ')}`, async () => {
        const random = Random.of('finite differences', operation, number);
        const sizes: Record<string, number> = { a: 2 + random.integer(3), b: 2 + random.integer(3) };
        sizes['a+b'] = sizes.a + sizes.b;
        const concrete = (shape: readonly Dim[]): number[] => shape.map((dim) => (typeof dim === 'number' ? dim : sizes[dim]));
        const definition = graph(({ input }) => {
          // The axes themselves, for cases whose float inputs do not show them.
          input('axes', ['a', 'b']);
          const inputs = shapes.map((shape, i) => input(`x${i}`, shape));
          const value = build(inputs, input('indices', indices ?? ['a'], 'int32'));
          const upstream = input('upstream', value.shape);
          return {
            value,
            ...Object.fromEntries(gradients(value, inputs, upstream).map((gradient, i) => [`gradient${i}`, gradient])),
          };
        });
        const { outputs } = definition.build({ training: false });
        if (operation !== 'custom' || !shapes.some((shape) => shape.length === 3))
          expect(operationsOf(outputs.value)).toContain(operation);

        const feeds: Record<string, HostTensor> = {
          axes: randomTensor(random, [sizes.a, sizes.b]),
          indices: i32(
            Int32Array.from({ length: concrete(indices ?? ['a']).reduce((x, y) => x * y, 1) }, () => random.integer(3)),
            concrete(indices ?? ['a']),
          ),
          upstream: randomTensor(random, sizesOf(outputs.value.shape, sizes), 0.5, 1.5),
        };
        shapes.forEach((shape, i) => {
          const tensor = randomTensor(random, concrete(shape), ...(range ?? []));
          // Where an operation has a kink, operands keep away from each other: quarters for one, eighths between them for the next.
          if (kinked.has(operation) && shapes.length > 1)
            (tensor.data as Float32Array).forEach((value, j, data) => (data[j] = Math.round(value * 4) / 4 + i / 8));
          feeds[`x${i}`] = tensor;
        });
        const whole = await Program.create(definition, { weights: new Map(), threads: 1 });
        const forward = await Program.create(definition, { weights: new Map(), outputs: ['value'], threads: 1 });
        const analytic = await whole.run(feeds);
        const upstream = feeds.upstream.data as Float32Array;
        const objective = async (): Promise<number> => {
          const { value } = await forward.run(feeds);
          return (value.data as Float32Array).reduce((sum, element, i) => sum + element * upstream[i], 0);
        };
        for (let input = 0; input < shapes.length; input++) {
          const x = feeds[`x${input}`].data as Float32Array;
          const gradient = analytic[`gradient${input}`].data as Float32Array;
          expect(analytic[`gradient${input}`].shape).toEqual(concrete(shapes[input]));
          for (let i = 0; i < x.length; i++) {
            const at = x[i];
            const slope = async (h: number): Promise<number> => {
              x[i] = at + h;
              const [high, above] = [x[i], await objective()];
              x[i] = at - h;
              const below = await objective();
              const width = high - x[i];
              x[i] = at;
              return (above - below) / width;
            };
            // Two widths cancel the error of second order.
            const numeric = (4 * (await slope(1 / 64)) - (await slope(1 / 32))) / 3;
            expect(Math.abs(gradient[i] - numeric)).toBeLessThan(
              4e-4 * Math.max(1, Math.abs(numeric)) * Math.max(1, Math.sqrt(upstream.length)),
            );
          }
        }
        await whole.dispose();
        await forward.dispose();
      });

  test('no operation with a gradient is left out', () => {
    expect(differentiableOperations.filter((operation) => !(operation in table))).toEqual([]);
  });
});

/** The sizes of a shape with named axes. */
const sizesOf = (shape: readonly Dim[], sizes: Record<string, number>): number[] =>
  shape.map((dim) => (typeof dim === 'number' ? dim : evaluateAxis(dim, sizes)));

const evaluateAxis = (dim: string, sizes: Record<string, number>): number =>
  dim
    .split('+')
    .reduce((sum, term) => sum + term.split('*').reduce((product, factor) => product * (sizes[factor] ?? Number(factor)), 1), 0);

function operationsOf(root: Tensor): Set<string> {
  const found = new Set<string>();
  const seen = new Set<Node>();
  const stack = [root];
  while (stack.length > 0) {
    const node = stack.pop()!.producer;
    if (!node || seen.has(node)) continue;
    seen.add(node);
    found.add(node.operation);
    for (const input of node.inputs) if (input) stack.push(input);
  }
  return found;
}

describe('the structure of gradients', () => {
  const x = (shape: readonly Dim[] = [3]): Tensor => GraphBuilder.create().input('x', shape);
  const valueOf = async (build: (x: Tensor) => Tensor, data: number[]): Promise<number[]> =>
    numbers((await compute({ x: { tensor: f32(data) } }, ({ x }) => ({ gradient: gradients(build(x), [x])[0] }))).gradient);

  test('a tensor between two reshapes has a gradient of its own', async () => {
    const { gradient } = await compute({ x: { tensor: f32([1, 2, 3, 4]) } }, ({ x }) => {
      const between = x.square().reshape([2, 2]);
      return { gradient: gradients(between.reshape([4]).square().sum(), [between])[0] };
    });
    expect(gradient.shape).toEqual([2, 2]);
    expect(numbers(gradient)).toEqual([2, 8, 18, 32]);
  });

  test('nothing flows through stopGradient', async () => {
    expect(await valueOf((x) => x.stopGradient().mul(x).sum(), [1, 2, 3])).toEqual([1, 2, 3]);
    expect(await valueOf((x) => x.stopGradient().mul(2).sum(), [1, 2, 3])).toEqual([0, 0, 0]);
  });

  test('uses of one tensor add up, rows gathered twice included', async () => {
    expect(await valueOf((x) => x.square().add(x).add(x).sum(), [1, 2, 3])).toEqual([4, 6, 8]);
    expect(
      await valueOf(
        (x) =>
          x
            .gather(x.graph.constant([2, 2, 0], [3], 'int32'))
            .sum()
            .add(x.mul(10).sum()),
        [1, 2, 3],
      ),
    ).toEqual([11, 10, 12]);
  });

  test('where two are the largest: max() shares the gradient, maximum() and minimum() give it to the first', async () => {
    expect(await valueOf((x) => x.max(), [3, 1, 3])).toEqual([0.5, 0, 0.5]);
    expect(await valueOf((x) => x.mul(2).maximum(x.add(x)).sum(), [1, 2])).toEqual([2, 2]);
    const ties = await compute({ a: { tensor: f32([1, 2]) }, b: { tensor: f32([1, 3]) } }, ({ a, b }) => {
      const [high, low] = [gradients(a.maximum(b).sum(), [a, b]), gradients(a.minimum(b).sum(), [a, b])];
      return { highA: high[0], highB: high[1], lowA: low[0], lowB: low[1] };
    });
    expect(Object.values(ties).map(numbers)).toEqual([
      [1, 0],
      [0, 1],
      [1, 1],
      [0, 0],
    ]);
  });

  test('powers of 0 have the slopes that PyTorch gives them', async () => {
    const feeds = { a: { tensor: f32([0, 0, 0, 0, 2]) }, b: { tensor: f32([2, 1, 0, -1, 3]) } };
    const slopes = await compute(feeds, ({ a, b }) => {
      const [byBase, byExponent] = gradients(a.pow(b).sum(), [a, b]);
      return { byBase, byExponent };
    });
    expect(numbers(slopes.byBase)).toEqual([0, 1, 0, -Infinity, 12]);
    expect(numbers(slopes.byExponent)).toEqual([0, 0, 0, -Infinity, expect.closeTo(8 * Math.log(2), 5)]);
  });

  test('equal operations on equal inputs are one node', () => {
    const input = x();
    expect(input.exp().add(1)).toBe(input.exp().add(1));
    expect(input.exp()).not.toBe(input.tanh());
  });

  test('a loss that is no scalar, and an operation or a setting without a gradient, are refused by name', () => {
    const input = x(['n', 3]);
    expect(() => gradients(input, [input])).toThrow(
      'gradients of x [n, 3]: a loss is a scalar; take its sum or mean, or give the upstream gradient',
    );
    const [rounded] = input.graph.scope('head').operator('Round', [input], { outputs: [input] });
    expect(() => gradients(rounded.sum(), [input])).toThrow(
      /^head\.Round#\d+: Round has no gradient; take it off the path to the loss, or cut it with stopGradient\(\)$/,
    );
    const [column] = input.graph.operator('Softmax', [input], { attributes: { axis: 0 }, outputs: [input] });
    let error: unknown;
    try {
      gradients(column.sum(), [input]);
    } catch (caught) {
      error = caught;
    }
    expect(NotDifferentiableError.isInstance(error) && error.setting).toBe('an axis other than the last');
  });

  test('an operator by name with a setting that its rule does not cover is refused, where a number would be wrong', () => {
    const x = GraphBuilder.create().input('x', [2, 3]);
    const { graph: builder } = x;
    const int64 = (values: readonly number[]): Tensor => builder.constant(values, [values.length], 'int64');
    const made = (operation: string, inputs: (Tensor | null)[], shape: readonly Dim[], attributes = {}): Tensor =>
      builder.operator(operation, inputs, { attributes, outputs: [{ dtype: 'float32', shape }] })[0];
    const cases: [Tensor, string][] = [
      [made('Max', [x, x.mul(2), x.mul(3)], [2, 3]), 'another number of operands than two'],
      [made('Min', [x], [2, 3]), 'another number of operands than two'],
      [made('Slice', [x, builder.dims([0]), builder.dims([1]), int64([-1])], [2, 1]), 'a bound or an axis counted from the end'],
      [made('Slice', [x, builder.dims([-1]), builder.dims([3]), int64([1])], [2, 1]), 'a bound or an axis counted from the end'],
      [made('ReduceSum', [x, int64([-1])], [2], { keepdims: 0 }), 'an axis counted from the end'],
      [made('ReduceMax', [x, int64([-1])], [2], { keepdims: 0 }), 'an axis counted from the end'],
      [made('Concat', [x, x], [2, 6], { axis: -1 }), 'no axis, or one counted from the end'],
      [made('Split', [x, int64([1, 1])], [1, 3]), 'no axis, or one counted from the end'],
      [made('Transpose', [x], [3, 2]), 'no permutation'],
      [made('GatherElements', [x, int64([0, 1, 1]).reshape([1, 3])], [1, 3]), 'no axis'],
      [made('Pad', [x, builder.dims([0, 1, 0, 1]), x.sum()], [2, 5]), 'a computed value'],
      [made('Pad', [x, builder.dims([2, 1]), null, int64([1])], [2, 6]), 'axes of its own'],
    ];
    for (const [y, setting] of cases)
      expect(() => gradients(y.sum(), [x])).toThrow(`${y.producer!.operation} with ${setting} has no gradient`);
  });

  test('integers to the power of 0 are integers', () => {
    expect(GraphBuilder.create().input('i', [3], 'int32').pow(0)).toMatchObject({ dtype: 'int32', shape: [3] });
  });
});
