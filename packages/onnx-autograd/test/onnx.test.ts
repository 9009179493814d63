import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import {
  AutogradError,
  FeedError,
  float,
  gradients,
  graph,
  initialWeights,
  ModelSizeError,
  normal,
  ones,
  onnxValues,
  onnxWeights,
  Program,
  tensorOfValue,
  toOnnx,
  WeightError,
  zeros,
  type Weights,
} from '../src/index.js';
import { f32, i32, numbers } from './support.js';

const model = graph(({ builder, input, parameter }) => {
  const x = input('x', ['batch', 4]);
  const hidden = x
    .layerNorm(parameter('norm', [4], ones()), parameter('shift', [4], zeros()))
    .rmsNorm(parameter('scale', [4], ones()));
  const [rounded] = builder.operator('LeakyRelu', [hidden.matmul(parameter('weight', [4, 2], normal(1)))], {
    attributes: { alpha: float(0.5) },
    outputs: [{ dtype: 'float32', shape: ['batch', 2] }],
  });
  return { y: rounded, hidden };
});
const weights = initialWeights(model.parameters, 3);

describe('an ONNX model', () => {
  const built = model.build({ training: false });
  const { bytes, inputs } = toOnnx({ outputs: built.outputs, weights, metadata: { encoder: 'abc', note: 'größer' } });
  const text = Buffer.from(bytes).toString('utf8');

  test('opens in onnxruntime with its weights inside, and reads the named axis from the feed', async () => {
    expect(inputs).toEqual(['x']);
    const session = await InferenceSession.create(bytes);
    expect(session.inputNames).toEqual(['x']);
    expect(session.outputNames).toEqual(['y', 'hidden']);
    expect(session.inputMetadata[0]).toMatchObject({ name: 'x', type: 'float32', shape: ['batch', 4] });
    for (const batch of [1, 3]) {
      const { y } = await session.run({ x: new OrtTensor('float32', new Float32Array(batch * 4).fill(1), [batch, 4]) });
      expect(y.dims).toEqual([batch, 2]);
    }
    await session.release();
  });

  test('gives its weights back, and says when it is no model', () => {
    // From a file, the bytes lie anywhere in a larger buffer.
    for (const file of [bytes, Buffer.concat([Buffer.of(1), bytes]).subarray(1)]) expect(onnxWeights(file)).toEqual(weights);
    expect(() => onnxWeights(bytes.subarray(0, bytes.length / 2))).toThrow(AutogradError);
    expect(() => onnxWeights(Uint8Array.of(7, 7, 7))).toThrow('no ONNX model');
    const half = { dtype: 'float16', data: new Uint16Array(8), shape: [4, 2] } as const;
    const foreign = toOnnx({ outputs: built.outputs, weights: new Map([...weights, ['weight', half]]) });
    expect(() => onnxWeights(foreign.bytes)).toThrow("the weight 'weight' is not in the form");
  });

  test('holds named values beside the weights, where they can be found', async () => {
    const open = graph(({ input, parameter }) => ({
      y: input('x', ['batch', 4])
        .matmul(parameter('weight', [4, 2], normal(1)))
        .add(input('shift', [2])),
      wide: input('codes', [3], 'uint8').cast('float32'),
    }));
    const values = new Map([
      ['shift', f32([1, 2], [2])],
      ['codes', { dtype: 'uint8', data: Uint8Array.of(7, 8, 9), shape: [3] } as const],
    ]);
    const { bytes: model, inputs: read } = toOnnx({ outputs: open.build({ training: false }).outputs, weights, values });
    expect(read).toEqual(['x']);
    const { shift, codes } = Object.fromEntries(onnxValues(model));
    expect(codes).toMatchObject({ dtype: 'uint8', shape: [3] });
    expect([...codes.bytes]).toEqual([7, 8, 9]);
    expect([...model.subarray(codes.bytes.byteOffset, codes.bytes.byteOffset + 3)]).toEqual([7, 8, 9]);
    expect(tensorOfValue(shift)).toEqual(values.get('shift'));
    expect(onnxWeights(model).get('codes')).toEqual(values.get('codes'));
    const session = await InferenceSession.create(model);
    const outputs = await session.run({ x: new OrtTensor('float32', new Float32Array(4), [1, 4]) });
    expect([[...(outputs.y.data as Float32Array)], [...(outputs.wide.data as Float32Array)]]).toEqual([
      [1, 2],
      [7, 8, 9],
    ]);
    await session.release();
  });

  test('finds the values of a parameter in a file', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'onnx-'));
    const { weight, ...others } = Object.fromEntries(weights);
    const values = new Uint8Array(weight.data.buffer, weight.data.byteOffset, weight.data.byteLength);
    await writeFile(path.join(folder, 'weight.bin'), Buffer.concat([new Uint8Array(64), values]));
    const outside = toOnnx({
      outputs: built.outputs,
      weights: new Map(Object.entries(others)),
      external: new Map([['weight', { file: 'weight.bin', offset: 64, bytes: values.length }]]),
    });
    expect(outside.inputs).toEqual(['x']);
    const feeds = { x: new OrtTensor('float32', Float32Array.of(1, 2, 3, 5), [1, 4]) };
    const [inside, apart] = await Promise.all([
      InferenceSession.create(bytes),
      InferenceSession.create(outside.bytes, { extra: { session: { model_external_initializers_file_folder_path: folder } } }),
    ]);
    expect((await apart.run(feeds)).y.data).toEqual((await inside.run(feeds)).y.data);
    for (const session of [inside, apart]) await session.release();
    await rm(folder, { recursive: true });
  });

  test('is refused, with its size, before it is larger than one file can be', () => {
    const options = { outputs: built.outputs, weights, metadata: { encoder: 'abc', note: 'größer' } };
    expect(toOnnx({ ...options, mostBytes: bytes.length }).bytes).toEqual(bytes);
    const write = () => toOnnx({ ...options, mostBytes: bytes.length - 1 });
    expect(write).toThrow(ModelSizeError);
    expect(write).toThrow(`the model would have ${bytes.length} bytes, and an ONNX file holds ${bytes.length - 1} at most`);
  });

  test('holds its metadata', () => {
    for (const word of ['encoder', 'abc', 'größer', '@user-llm/onnx-autograd']) expect(text).toContain(word);
  });

  test('leaves out the statistics that only gradients read', () => {
    const norm = built.outputs.hidden.producer!.inputs.at(-1)!.producer!;
    expect(norm.operation).toBe('SimplifiedLayerNormalization');
    const [value, statistic] = norm.outputs;
    expect(text).not.toContain(`#${value.id}`); // it is an output, and made under that name: a copy would be a pass over it
    expect(text).not.toContain(`#${statistic.id}`);
    const backward = gradients(built.outputs.hidden.sum(), [built.builder.inputs.get('x')!.tensor]);
    const training = toOnnx({ outputs: { gradient: backward[0] } }).bytes;
    expect(Buffer.from(training).toString('latin1')).toContain(`#${statistic.id}`);
  });

  test('without weights, parameters are inputs', async () => {
    const open = toOnnx({ outputs: { y: built.outputs.y } });
    expect([...open.inputs].sort()).toEqual(['norm', 'scale', 'shift', 'weight', 'x']);
  });

  test('fixed axes are written as numbers', async () => {
    const session = await InferenceSession.create(toOnnx({ outputs: built.outputs, weights, bindings: { batch: 2 } }).bytes);
    expect(session.inputMetadata[0]).toMatchObject({ shape: [2, 4] });
    await session.release();
  });

  test('no two values share a name', () => {
    const clash = graph(({ input, parameter }) => ({ weight: input('x', [2]).mul(parameter('weight', [2], ones())) }));
    expect(() => toOnnx({ outputs: clash.build({ training: false }).outputs })).toThrow(
      "the model reads an input or a parameter 'weight' and also has an output 'weight'; give the output another name",
    );
    expect(() => toOnnx({ outputs: {} })).toThrow('a model without outputs computes nothing');
    expect(() => graph(() => ({})).build({ training: false })).toThrow('returned no outputs');
  });

  test('one value may have two names', async () => {
    const twice = graph(({ input }) => {
      const y = input('x', [2]).neg();
      return { one: y, other: y, t5: y.neg() };
    });
    const program = await Program.create(twice, { weights: new Map() });
    const { one, other, t5 } = await program.run({ x: f32([1, 2]) });
    expect([numbers(one), numbers(other), numbers(t5)]).toEqual([
      [-1, -2],
      [-1, -2],
      [1, 2],
    ]);
    await program.dispose();
  });
});

describe('a program', () => {
  test('needs the weights of what it computes, in their shapes', async () => {
    const partly: Weights = new Map([...weights].filter(([name]) => name !== 'weight'));
    await expect(Program.create(model, { weights: partly })).rejects.toThrow(
      "weight 'weight': is missing; the model needs it as [4, 2]",
    );
    await (await Program.create(model, { weights: partly, outputs: ['hidden'] })).dispose();
    const wrong = Program.create(model, { weights: new Map([...weights, ['weight', f32([1, 2])]]) });
    await expect(wrong).rejects.toThrow("weight 'weight': is [2], and the model needs [4, 2]");
    await wrong.catch((error: unknown) => expect(WeightError.isInstance(error) && error.parameter).toBe('weight'));
    await expect(Program.create(model, { weights, outputs: ['z'] })).rejects.toThrow(
      "the model has no output 'z'; it has y, hidden",
    );
  });

  test('takes half-precision weights as the float32 they mean', async () => {
    const scaled = graph(({ input, parameter }) => ({ y: input('x', [2]).mul(parameter('w', [2], ones())) }));
    const program = await Program.create(scaled, {
      weights: new Map([['w', { dtype: 'float16', shape: [2], data: Uint16Array.of(0x3c00, 0xc000) }]]),
    });
    expect(numbers((await program.run({ x: f32([3, 3]) })).y)).toEqual([3, -6]);
    await program.dispose();
  });

  test('says which feed is wrong, and how', async () => {
    const program = await Program.create(model, { weights });
    const cases: [Parameters<Program['run']>[0], string][] = [
      [{}, "input 'x': is not fed; it is float32 [batch, 4]"],
      [{ x: i32([1, 2, 3, 4], [1, 4]) }, "input 'x': is fed int32, and takes float32"],
      [{ x: f32([1, 2, 3], [1, 3]) }, "input 'x': is fed [1, 3], and takes [batch, 4]"],
      [{ x: f32([1, 2, 3, 4]) }, "input 'x': is fed [4], and takes [batch, 4]"],
      [{ x: { dtype: 'float32', data: new Float32Array(3), shape: [1, 4] } }, "input 'x': has 3 elements for shape [1, 4]"],
      [{ x: f32([1, 2, 3, 4], [1, 4]), y: f32([1]) }, "input 'y': is no input of the model; it takes x"],
    ];
    for (const [feeds, message] of cases) {
      const failing = program.run(feeds);
      await expect(failing).rejects.toThrow(message);
      await failing.catch((error: unknown) => expect(FeedError.isInstance(error)).toBe(true));
    }
    await program.dispose();
  });

  test('named axes agree across inputs, and one that stands in products alone is found', async () => {
    const sums = graph(({ input }) => ({
      y: input('a', ['2*rows'])
        .sum()
        .add(input('b', ['rows*3']).sum()),
    }));
    const program = await Program.create(sums, { weights: new Map() });
    expect(numbers((await program.run({ a: f32([1, 1]), b: f32([1, 1, 1]) })).y)).toEqual([5]);
    await expect(program.run({ a: f32([1, 1]), b: f32([1, 1]) })).rejects.toThrow("input 'b': has 2 where '3*rows' is 3");
    await program.dispose();
    const pair = graph(({ input }) => ({ y: input('a', ['n']).add(input('b', ['n'])) }));
    const second = await Program.create(pair, { weights: new Map() });
    await expect(second.run({ a: f32([1, 1]), b: f32([1]) })).rejects.toThrow(
      "input 'b': is fed [1], and takes [n], where 'n' is 2 in 'a'",
    );
    await second.dispose();
  });

  test('does not run after its dispose', async () => {
    const program = await Program.create(model, { weights });
    await program.dispose();
    await program.dispose();
    await expect(program.run({ x: f32([1, 2, 3, 4], [1, 4]) })).rejects.toThrow('this program was disposed; create a new one');
  });
});
