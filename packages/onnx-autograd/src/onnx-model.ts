import { bind, namesOf, termsOf, type Bindings, type Dim } from './dim.js';
import { AutogradError, ModelSizeError } from './errors.js';
import type { AttributeValue, Node } from './graph-builder.js';
import { onnxTypes, type DType, type HostTensor, type TypedArray } from './host-tensor.js';
import { macroDomain } from './macro.js';
import { macros } from './macros.js';
import { writeAttribute, writeExternal, type ExternalValue } from './onnx-parts.js';
import { MessageWriter } from './protobuf.js';
import { forwardInputs, reachable } from './reachable.js';
import type { Tensor } from './tensor.js';

const opset = 21;
const irVersion = 10;

/** A message of protocol buffers is no longer. */
const mostModelBytes = 2 ** 31 - 1;

export interface OnnxOptions {
  /** Graph outputs by name. */
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** Sizes of named axes to fix; others stay named and are known when the graph runs. */
  readonly bindings?: Bindings;
  /** Weights to store in the model. Parameters that are not among them become inputs. */
  readonly weights?: ReadonlyMap<string, HostTensor>;
  /** Notes written into the model's metadata. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Inputs that are none, and parameters, whose values lie in a file. A session finds it in the folder that it is told. */
  readonly external?: ReadonlyMap<string, ExternalValue>;
  /** Inputs that are none, because these are their values; `onnxValues` finds them again by their names. */
  readonly values?: ReadonlyMap<string, HostTensor>;
  /** Most bytes of the model. Default 2^31 - 1, beyond which no runtime reads one. */
  readonly mostBytes?: number;
}

export interface OnnxModel {
  readonly bytes: Uint8Array;
  /** Names of the inputs that the model reads, parameters included. */
  readonly inputs: readonly string[];
}

/**
 * Writes the part of a graph that leads to the outputs as an ONNX model.
 *
 * @throws ModelSizeError when weights and values make it larger than a model can be
 */
export function toOnnx(options: OnnxOptions): OnnxModel {
  return new Emitter(options).emit();
}

/** Operations whose outputs after the first may be left out. */
const optionalOutputs = new Set([
  'LayerNormalization',
  'SimplifiedLayerNormalization',
  'SkipLayerNormalization',
  'SkipSimplifiedLayerNormalization',
]);

/** A reshape of a reshape reads the first value. (Merged here, not while building: gradients may be asked for the one between.) */
function beforeReshapes(tensor: Tensor): Tensor {
  let source = tensor;
  while (source.producer?.operation === 'Reshape') source = source.producer.inputs[0]!;
  return source;
}

/** A custom node stands for its forward values. */
function forwardValue(tensor: Tensor): Tensor {
  let value = tensor;
  while (value.producer?.operation === 'custom') {
    const { inputs, outputs } = value.producer;
    value = inputs[inputs.length - outputs.length + value.outputIndex]!;
  }
  return value;
}

class Emitter {
  private readonly bindings: Bindings;
  private readonly weights: ReadonlyMap<string, HostTensor>;
  private readonly names = new Map<Tensor, string>();
  private readonly initializers: { name: string; dtype: DType; shape: readonly number[]; bytes: Uint8Array }[] = [];
  private readonly writers: ((writer: MessageWriter) => void)[] = [];
  private readonly symbols = new Map<string, string>();
  private inputsOfModel: Tensor[] = [];
  /** What the nodes written so far give. */
  private readonly computed: Tensor[] = [];
  /** Values that a node or an output of the model reads. */
  private readonly read = new Set<Tensor>();

  constructor(private readonly options: OnnxOptions) {
    this.bindings = options.bindings ?? {};
    this.weights = options.weights ?? new Map();
  }

  emit(): OnnxModel {
    const tensors = Object.values(this.options.outputs);
    if (tensors.length === 0) throw new AutogradError('a model without outputs computes nothing; name at least one');
    const { nodes, leaves } = reachable(tensors);
    for (const tensor of tensors) this.read.add(tensor);
    for (const node of nodes) for (const input of forwardInputs(node)) if (input) this.read.add(input);
    const symbolsUsed = this.symbolsOf(nodes);
    const [first] = tensors;
    for (const { tensor } of first.graph.inputs.values())
      if (
        !leaves.has(tensor) &&
        tensor.shape.some((dim) => namesOf(bind(dim, this.bindings)).some((name) => symbolsUsed.has(name))) &&
        !this.canResolve(symbolsUsed, leaves)
      )
        leaves.add(tensor);
    for (const tensor of [...leaves].sort((a, b) => a.id - b.id)) {
      const name = tensor.name!;
      this.names.set(tensor, name);
      if (this.options.external?.has(name)) continue;
      const weight = first.graph.parameters.has(name) ? this.weights.get(name) : this.options.values?.get(name);
      if (weight) this.initializers.push({ name, dtype: weight.dtype, shape: weight.shape, bytes: bytesOf(weight.data) });
      else this.inputsOfModel.push(tensor);
    }
    const outputs = Object.entries(this.options.outputs);
    const taken = new Set(this.names.values());
    for (const [name] of outputs)
      if (taken.has(name))
        throw new AutogradError(
          `the model reads an input or a parameter '${name}' and also has an output '${name}'; give the output another name`,
        );
    this.nameOutputs(outputs);
    for (const node of nodes) this.node(node);
    for (const [name, tensor] of outputs)
      if (this.nameOf(tensor) !== name) this.write('Identity', [this.nameOf(tensor)], [name], name);
    return { bytes: this.model(outputs), inputs: this.inputsOfModel.map((tensor) => tensor.name!) };
  }

  /** What a node makes has the output's name at once, where it can: an `Identity` would be a copy. */
  private nameOutputs(outputs: readonly [string, Tensor][]): void {
    for (const [name, output] of outputs) {
      const tensor = forwardValue(output);
      if (tensor.producer && !tensor.producer.payload && !this.names.has(tensor)) this.names.set(tensor, name);
    }
  }

  private symbolsOf(nodes: readonly Node[]): Set<string> {
    const used = new Set<string>();
    for (const { payload } of nodes)
      if (payload?.kind === 'dims')
        for (const dim of payload.dims) for (const name of namesOf(bind(dim, this.bindings))) used.add(name);
    return used;
  }

  private canResolve(symbols: Set<string>, leaves: Set<Tensor>): boolean {
    return [...symbols].every((symbol) => [...leaves].some((tensor) => tensor.shape.includes(symbol)));
  }

  private nameOf(tensor: Tensor): string {
    const known = this.names.get(tensor);
    if (known !== undefined) return known;
    const node = tensor.producer;
    if (!node) throw new AutogradError(`internal: ${tensor.name} was not declared`);
    const value = forwardValue(tensor);
    if (value !== tensor) return this.nameOf(value);
    throw new AutogradError(`internal: ${node.name} was not emitted`);
  }

  private node(node: Node): void {
    if (node.operation === 'custom') return;
    const outputs = node.outputs.map((output) => {
      const name = this.names.get(output) ?? `#${output.id}`;
      this.names.set(output, name);
      return name;
    });
    if (node.payload?.kind === 'constant') {
      const [output] = node.outputs;
      this.initializers.push({
        name: outputs[0],
        dtype: output.dtype,
        shape: output.shape as number[],
        bytes: bytesOf(node.payload.data),
      });
    } else if (node.payload?.kind === 'dims') this.dims(node.payload.dims, outputs[0]);
    else if (node.domain === macroDomain) this.macro(node, outputs);
    else
      this.write(
        node.operation,
        node.inputs.map((input, i) =>
          input ? this.nameOf(node.operation === 'Reshape' && i === 0 ? beforeReshapes(input) : input) : '',
        ),
        optionalOutputs.has(node.operation) ? this.withoutUnused(node, outputs) : outputs,
        node.name,
        node.attributes,
        node.domain,
      );
    this.computed.push(node.outputs[0]);
  }

  private macro(node: Node, outputs: string[]): void {
    const { bindings } = this;
    macros[node.operation].emit({
      node,
      inputs: node.inputs.map((input) => this.nameOf(input!)),
      outputs,
      read: node.outputs.map((output) => this.read.has(output)),
      bindings,
      write: (operation, inputs, output, attributes) => {
        this.write(operation, [...inputs], [output], output, attributes);
        return output;
      },
      int64: (name, values) => this.int64(name, values),
      bool: (name, value) => {
        this.initializers.push({ name, dtype: 'bool', shape: [], bytes: Uint8Array.of(Number(value)) });
        return name;
      },
      float32: (name, shape, data) => {
        this.initializers.push({ name, dtype: 'float32', shape, bytes: bytesOf(data) });
        return name;
      },
    });
  }

  /** Statistics that only the gradient reads are left out of a graph without it: the kernels then skip them. */
  private withoutUnused(node: Node, names: string[]): string[] {
    const kept = names.map((name, i) => (i === 0 || this.read.has(node.outputs[i]) ? name : ''));
    while (kept.at(-1) === '') kept.pop();
    return kept;
  }

  private write(
    operation: string,
    inputs: string[],
    outputs: string[],
    name: string,
    attributes: Readonly<Record<string, AttributeValue>> = {},
    domain = '',
  ): void {
    this.writers.push((writer) => {
      for (const input of inputs) writer.string(1, input);
      for (const output of outputs) writer.string(2, output);
      writer.string(3, name);
      writer.string(4, operation);
      for (const [key, value] of Object.entries(attributes)) writer.message(5, (inner) => writeAttribute(inner, key, value));
      if (domain) writer.string(7, domain);
    });
  }

  private int64(name: string, values: readonly number[]): string {
    this.initializers.push({
      name,
      dtype: 'int64',
      shape: [values.length],
      bytes: bytesOf(BigInt64Array.from(values.map(BigInt))),
    });
    return name;
  }

  /** A vector of sizes: a constant where all are known, otherwise computed from the shapes of the inputs. */
  private dims(dims: readonly Dim[], output: string): void {
    const bound = dims.map((dim) => bind(dim, this.bindings));
    if (bound.every((dim) => typeof dim === 'number')) {
      this.int64(output, bound);
      return;
    }
    const parts = bound.map((dim, i) =>
      typeof dim === 'number' ? this.int64(`${output}.${i}`, [dim]) : this.dimension(dim, `${output}.${i}`),
    );
    this.write('Concat', parts, [output], output, { axis: 0 });
  }

  private dimension(dim: string, prefix: string): string {
    const terms = termsOf(dim).map(({ coefficient, names }, i) => {
      let value = names.length === 0 ? this.int64(`${prefix}.constant${i}`, [coefficient]) : this.symbol(names[0]);
      names.slice(1).forEach((name, j) => {
        const product = `${prefix}.product${i}.${j}`;
        this.write('Mul', [value, this.symbol(name)], [product], product);
        value = product;
      });
      if (names.length > 0 && coefficient !== 1) {
        const scaled = `${prefix}.scaled${i}`;
        this.write('Mul', [value, this.int64(`${scaled}.factor`, [coefficient])], [scaled], scaled);
        value = scaled;
      }
      return value;
    });
    return terms.reduce((sum, term, i) => {
      const total = `${prefix}.sum${i}`;
      this.write('Add', [sum, term], [total], total);
      return total;
    });
  }

  /** A named axis, read off an input that has it, or else off what an operator gave it: axes of its own are known behind it. */
  private symbol(name: string): string {
    const known = this.symbols.get(name);
    if (known) return known;
    for (const tensor of [...this.inputsOfModel, ...this.computed]) {
      const axis = tensor.shape.indexOf(name);
      if (axis < 0) continue;
      const output = `#axis.${name}`;
      this.write('Shape', [this.nameOf(tensor)], [output], output, { start: axis, end: axis + 1 });
      this.symbols.set(name, output);
      return output;
    }
    throw new AutogradError(
      `no input has the axis '${name}' on its own, so its size is not known when the graph runs; give an input with that axis, or fix it`,
    );
  }

  private model(outputs: [string, Tensor][]): Uint8Array {
    const [[, first]] = outputs;
    const writer = new MessageWriter();
    writer.integer(1, irVersion);
    writer.string(2, '@user-llm/onnx-autograd');
    writer.message(7, (graph) => {
      for (const write of this.writers) graph.message(1, write);
      graph.string(2, 'graph');
      for (const { name, dtype, shape, bytes } of this.initializers)
        graph.message(5, (tensor) => {
          for (const size of shape) tensor.integer(1, size);
          tensor.integer(2, onnxTypes[dtype]);
          tensor.string(8, name);
          tensor.bytes(9, bytes);
        });
      for (const [name, value] of this.options.external ?? []) {
        const info = first.graph.inputs.get(name) ?? first.graph.parameters.get(name);
        if (info !== undefined) graph.message(5, (tensor) => writeExternal(tensor, info, value));
      }
      for (const tensor of this.inputsOfModel) graph.message(11, (info) => this.valueInfo(info, tensor.name!, tensor));
      for (const [name, tensor] of outputs) graph.message(12, (info) => this.valueInfo(info, name, tensor));
    });
    writer.message(8, (set) => {
      set.string(1, '');
      set.integer(2, opset);
    });
    writer.message(8, (set) => {
      set.string(1, 'com.microsoft');
      set.integer(2, 1);
    });
    for (const [key, value] of Object.entries(this.options.metadata ?? {}))
      writer.message(14, (entry) => {
        entry.string(1, key);
        entry.string(2, value);
      });
    const { mostBytes = mostModelBytes } = this.options;
    if (writer.length > mostBytes) throw new ModelSizeError(writer.length, mostBytes);
    return writer.finish();
  }

  private valueInfo(writer: MessageWriter, name: string, tensor: Tensor): void {
    writer.string(1, name);
    writer.message(2, (type) =>
      type.message(1, (tensorType) => {
        tensorType.integer(1, onnxTypes[tensor.dtype]);
        tensorType.message(2, (shape) => {
          for (const dim of tensor.shape) {
            const size = bind(dim, this.bindings);
            shape.message(1, (axis) => (typeof size === 'number' ? axis.integer(1, size) : axis.string(2, size)));
          }
        });
      }),
    );
  }
}

const bytesOf = (data: TypedArray): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
