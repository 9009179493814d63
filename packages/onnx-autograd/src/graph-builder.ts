import { addDims, bind, canonical, multiplyDims, namesOf, sizeOf, type Dim } from './dim.js';
import { AutogradError, ShapeError } from './errors.js';
import { elementCount, isFloat, type DType, type TypedArray } from './host-tensor.js';
import type { Initializer } from './initializers.js';
import { checkIds, Table, type TableInfo } from './table.js';
import { Tensor } from './tensor.js';

/** ONNX attributes. Plain numbers are written as integers; wrap a float with `float(x)`. */
export type AttributeValue =
  number | string | readonly number[] | { readonly float: number } | { readonly floats: readonly number[] };
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** Marks an attribute as a float32, where a bare number means an integer. */
export const float = (value: number): { readonly float: number } => ({ float: value });

/** The gradient rule of a node: upstream gradients (one per output, null where none arrives) to gradients of its inputs. */
export type GradientRule = (
  node: Node,
  upstream: readonly (Tensor | null)[],
  needed: readonly boolean[],
) => readonly (Gradient | null)[];

/** A contribution to a gradient; `into` adds itself to what is there already, without first becoming a dense tensor. */
export type Gradient = Tensor | { into(accumulated: Tensor | null): Tensor };

/** One operation of the graph. */
export interface Node {
  readonly id: number;
  readonly operation: string;
  readonly domain: string;
  /** Path for people: the scopes, the operation, a number. */
  readonly name: string;
  readonly inputs: readonly (Tensor | null)[];
  readonly outputs: Tensor[];
  readonly attributes: Attributes;
  /** What `dims` and `constant` nodes hold. */
  readonly payload?: DimsPayload | ConstantPayload | undefined;
  /** A gradient rule of its own, in place of the operation's. */
  readonly rule?: GradientRule | undefined;
}

export interface DimsPayload {
  readonly kind: 'dims';
  readonly dims: readonly Dim[];
}
export interface ConstantPayload {
  readonly kind: 'constant';
  readonly data: TypedArray;
}

export interface InputInfo {
  readonly name: string;
  readonly shape: readonly Dim[];
  readonly dtype: DType;
  readonly tensor: Tensor;
  /** `noise` inputs are dropout masks, which the trainer makes itself. */
  readonly noise?: { readonly rate: number } | undefined;
  /** The table whose rows, or whose positions of rows, the trainer feeds here. */
  readonly table?: string | undefined;
}

export interface ParameterInfo {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly initializer: Initializer;
  readonly tensor: Tensor;
}

export interface OutputSpec {
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** What becomes of the dropout masks that are asked for: see `GraphBuilder.withNoise`. */
export type Noises = { readonly record: Tensor[] } | { readonly replay: Tensor[] };

interface Shared {
  nextId: number;
  readonly noises: Noises[];
  readonly inputs: Map<string, InputInfo>;
  readonly parameters: Map<string, ParameterInfo>;
  readonly tables: Map<string, TableInfo & { readonly made: Table }>;
  readonly nodesByKey: Map<string, Node>;
}

/**
 * Builds one graph: symbolic tensors with named, partly symbolic shapes. Every shape is checked here, so a graph that
 * was built runs. Equal operations on equal inputs are kept once.
 */
export class GraphBuilder {
  private constructor(
    private readonly shared: Shared,
    private readonly path: string,
    /** Whether dropout is active in this graph. */
    readonly training: boolean,
  ) {}

  static create(options: { training?: boolean } = {}): GraphBuilder {
    return new GraphBuilder(
      { nextId: 0, noises: [], inputs: new Map(), parameters: new Map(), tables: new Map(), nodesByKey: new Map() },
      '',
      options.training ?? false,
    );
  }

  get inputs(): ReadonlyMap<string, InputInfo> {
    return this.shared.inputs;
  }

  get parameters(): ReadonlyMap<string, ParameterInfo> {
    return this.shared.parameters;
  }

  /** Tables of a training graph; in others they are parameters. */
  get tables(): ReadonlyMap<string, TableInfo> {
    return this.shared.tables;
  }

  /** The same graph, with `name.` before the names of parameters and inputs made through it. */
  scope(name: string): GraphBuilder {
    return new GraphBuilder(this.shared, `${this.path}${name}.`, this.training);
  }

  /** A value that is fed at every run. Integers are best fed as int32. */
  input(name: string, shape: readonly Dim[], dtype: DType = 'float32'): Tensor {
    return this.declareInput(this.path + name, shape, dtype).tensor;
  }

  private declareInput(
    name: string,
    shape: readonly Dim[],
    dtype: DType,
    origin: { noise?: { rate: number }; table?: string } = {},
  ): InputInfo {
    if (this.shared.inputs.has(name))
      throw new AutogradError(`the graph has an input '${name}' already; give the second one another name or a scope`);
    // Feeds and weights meet under their names: of two that share one, both would read the same numbers.
    if (this.shared.parameters.has(name))
      throw new AutogradError(`the graph has a parameter '${name}' already; give the input another name or a scope`);
    const tensor = new Tensor(this, this.shared.nextId++, shape.map(canonical), dtype, null, 0, name);
    const info = { name, shape: tensor.shape, dtype, tensor, ...origin };
    this.shared.inputs.set(name, info);
    return info;
  }

  /** A dropout mask that the trainer feeds: 0 with probability `rate`, otherwise 1 / (1 - rate). */
  noise(shape: readonly Dim[], rate: number): Tensor {
    const { noises } = this.shared;
    const replay = noises.findLast((one) => 'replay' in one)?.replay;
    const made = replay?.shift() ?? this.declareNoise(shape, rate);
    for (const one of noises) if ('record' in one) one.record.push(made);
    return made;
  }

  /** Builds with the dropout masks written down, or with those of another time in their order. */
  withNoise<T>(noises: Noises, build: () => T): T {
    this.shared.noises.push(noises);
    try {
      return build();
    } finally {
      this.shared.noises.pop();
    }
  }

  /** Nodes made from here on have this number or a higher one. */
  get watermark(): number {
    return this.shared.nextId;
  }

  private declareNoise(shape: readonly Dim[], rate: number): Tensor {
    return this.declareInput(`noise.${this.shared.inputs.size}`, shape, 'float32', { noise: { rate } }).tensor;
  }

  /** A weight. The same name twice is the same weight (tied), provided the shapes agree. */
  parameter(name: string, shape: readonly number[], initializer: Initializer): Tensor {
    const full = this.path + name;
    const known = this.shared.parameters.get(full);
    if (this.shared.tables.has(full))
      throw new AutogradError(`the graph has a table '${full}' already; give the parameter another name or a scope`);
    if (known) {
      if (elementCount(known.shape) !== elementCount(shape) || known.shape.some((size, i) => size !== shape[i]))
        throw new ShapeError('parameter', [known.tensor, shape], 'one name, two shapes');
      return known.tensor;
    }
    if (this.shared.inputs.has(full))
      throw new AutogradError(`the graph has an input '${full}' already; give the parameter another name or a scope`);
    const tensor = new Tensor(this, this.shared.nextId++, [...shape], 'float32', null, 0, full);
    this.shared.parameters.set(full, { name: full, shape: [...shape], dtype: 'float32', initializer, tensor });
    return tensor;
  }

  /**
   * A weight [rows, width] of which a training step touches only the rows that its feeds name: it costs time and activations for
   * those alone, whatever the number of rows, and the optimizer changes no other row. Trainer documents what that means for Adam.
   * The same name twice is the same table.
   */
  table(name: string, shape: readonly [number, number], initializer: Initializer): Table {
    const full = this.path + name;
    if (!this.training) return new Table(this.parameter(name, shape, initializer), (ids) => ids);
    const known = this.shared.tables.get(full);
    if (known) {
      if (known.shape[0] !== shape[0] || known.shape[1] !== shape[1])
        throw new ShapeError('table', [known.shape, shape], `one name, '${full}', two shapes`);
      return known.made;
    }
    if (this.shared.parameters.has(full))
      throw new AutogradError(`the graph has a parameter '${full}' already; give the table another name or a scope`);
    const { tables } = this.shared;
    const axis = `rows_of_${full.replaceAll(/\W/g, '_')}${tables.size === 0 ? '' : `_${tables.size}`}`;
    const { tensor } = this.declareInput(full, [axis, shape[1]], 'float32', { table: full });
    const lookups = new Map<string, InputInfo>();
    const made = new Table(tensor, (ids) => {
      const input = checkIds(full, ids, this.shared.inputs.get(ids.name ?? ''));
      let lookup = lookups.get(input);
      if (!lookup) {
        lookup = this.declareInput(`${full} by ${input}`, ids.shape, 'int32', { table: full });
        lookups.set(input, lookup);
      }
      return lookup.tensor;
    });
    tables.set(full, { name: full, shape: [...shape], dtype: 'float32', initializer, tensor, axis, lookups, made });
    return made;
  }

  /** A constant of the graph: numbers (float32 unless the dtype says otherwise) or a typed array. */
  constant(value: number | readonly number[] | TypedArray, shape?: readonly number[], dtype?: DType): Tensor {
    if (dtype && !isFloat(dtype) && !ArrayBuffer.isView(value) && ![value].flat().every(Number.isInteger))
      throw new ShapeError('constant', [shape ?? []], `${dtype} holds no fraction; give whole numbers, or make it float32`);
    // Halves are made of float32 where they are read.
    if (dtype && isFloat(dtype) && dtype !== 'float32' && !ArrayBuffer.isView(value))
      return this.constant(value, shape).cast(dtype);
    const { data, dtype: type } = constantData(value, dtype);
    const lost =
      isFloat(type) || ArrayBuffer.isView(value) ? undefined : [value].flat().find((one, i) => Number(data[i]) !== one);
    if (lost !== undefined) throw new ShapeError('constant', [shape ?? []], `${type} does not hold ${lost}`);
    const dims = shape ?? (typeof value === 'number' ? [] : [data.length]);
    if (elementCount(dims) !== data.length)
      throw new ShapeError('constant', [dims, [data.length]], 'the shape holds another number of elements');
    const key = data.length <= 64 ? `constant|${type}|${dims.join(',')}|${data.join(',')}` : undefined;
    return this.add({
      operation: 'constant',
      inputs: [],
      outputs: [{ dtype: type, shape: dims }],
      payload: { kind: 'constant', data },
      key,
    })[0];
  }

  /** Sizes as an int64 vector, for operations that take a shape as an input. */
  dims(dims: readonly Dim[]): Tensor {
    return this.add({
      operation: 'dims',
      inputs: [],
      outputs: [{ dtype: 'int64', shape: [dims.length] }],
      payload: { kind: 'dims', dims: dims.map(canonical) },
      key: `dims|${dims.map(canonical).join(',')}`,
    })[0];
  }

  /** One size as a float32 scalar. */
  dimension(dim: Dim): Tensor {
    return typeof dim === 'number' ? this.constant(dim) : this.dims([dim]).cast('float32').reshape([]);
  }

  /** Zeros (or another value) of a shape. */
  filled(shape: readonly Dim[], value = 0): Tensor {
    return this.constant([value], [1])
      .reshape(shape.map(() => 1))
      .expand(shape);
  }

  /** 0, 1, ... size - 1 as int32 (int64 inside, where the size is symbolic). */
  range(size: Dim): Tensor {
    if (typeof size === 'number')
      return this.constant(
        Int32Array.from({ length: size }, (_, i) => i),
        [size],
        'int32',
      );
    const zero = this.constant(0, [], 'int64');
    const one = this.constant(1, [], 'int64');
    const limit = this.dims([size]).reshape([]);
    return this.operator('Range', [zero, limit, one], { outputs: [{ dtype: 'int64', shape: [size] }] })[0].cast('int32');
  }

  /**
   * Any ONNX operator by name, for what has no method of its own. Without `rule` it is differentiable only when this
   * package knows the operator's gradient.
   */
  operator(
    operation: string,
    inputs: readonly (Tensor | null)[],
    options: { outputs: readonly OutputSpec[]; attributes?: Attributes; domain?: string; rule?: GradientRule },
  ): Tensor[] {
    const attributes = options.attributes ?? {};
    const domain = options.domain ?? '';
    const key = options.rule
      ? undefined
      : `${domain}:${operation}|${inputs.map((input) => input?.id ?? '').join(',')}|${JSON.stringify(attributes)}|${options.outputs.length}`;
    return this.add({ operation, domain, inputs, attributes, outputs: options.outputs, rule: options.rule, key });
  }

  /**
   * A function with a gradient of its own. `backward` gets the upstream gradients and returns one gradient (or null) per
   * input; it may use the forward values it closes over.
   */
  custom(inputs: readonly Tensor[], outputs: readonly Tensor[], backward: GradientRule): Tensor[] {
    return this.add({
      operation: 'custom',
      inputs: [...inputs, ...outputs],
      outputs: outputs.map(({ dtype, shape }) => ({ dtype, shape })),
      rule: (node, upstream, needed) => backward(node, upstream, needed),
      key: undefined,
    });
  }

  private add(spec: {
    operation: string;
    domain?: string;
    inputs: readonly (Tensor | null)[];
    attributes?: Attributes;
    outputs: readonly OutputSpec[];
    payload?: DimsPayload | ConstantPayload | undefined;
    rule?: GradientRule | undefined;
    key: string | undefined;
  }): Tensor[] {
    const known = spec.key === undefined ? undefined : this.shared.nodesByKey.get(spec.key);
    if (known) return known.outputs;
    const id = this.shared.nextId++;
    const node: Node = {
      id,
      operation: spec.operation,
      domain: spec.domain ?? '',
      name: `${this.path}${spec.operation}#${id}`,
      inputs: spec.inputs,
      outputs: [],
      attributes: spec.attributes ?? {},
      payload: spec.payload,
      rule: spec.rule,
    };
    spec.outputs.forEach((output, index) => {
      node.outputs.push(new Tensor(this, this.shared.nextId++, output.shape.map(canonical), output.dtype, node, index));
    });
    if (spec.key !== undefined) this.shared.nodesByKey.set(spec.key, node);
    return node.outputs;
  }
}

function constantData(value: number | readonly number[] | TypedArray, dtype?: DType): { data: TypedArray; dtype: DType } {
  if (ArrayBuffer.isView(value)) {
    const data = value as TypedArray;
    const natural: DType =
      data instanceof Float32Array
        ? 'float32'
        : data instanceof Int32Array
          ? 'int32'
          : data instanceof BigInt64Array
            ? 'int64'
            : data instanceof Int8Array
              ? 'int8'
              : data instanceof Uint16Array
                ? 'float16'
                : 'uint8';
    return { data, dtype: dtype ?? natural };
  }
  const numbers = typeof value === 'number' ? [value] : (value as readonly number[]);
  switch (dtype ?? 'float32') {
    case 'int64':
      return { data: BigInt64Array.from(numbers.map(BigInt)), dtype: 'int64' };
    case 'int32':
      return { data: Int32Array.from(numbers), dtype: 'int32' };
    case 'bool':
      return { data: Uint8Array.from(numbers), dtype: 'bool' };
    case 'uint8':
      return { data: Uint8Array.from(numbers), dtype: 'uint8' };
    case 'int8':
      return { data: Int8Array.from(numbers), dtype: 'int8' };
    default:
      return { data: Float32Array.from(numbers), dtype: 'float32' };
  }
}

export { addDims, bind, multiplyDims, namesOf, sizeOf };
