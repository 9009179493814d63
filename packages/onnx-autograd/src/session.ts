import * as ort from 'onnxruntime-node';
import { availableParallelism } from 'node:os';
import { bind, namesOf, type Bindings, type Dim } from './dim.js';
import { FeedError } from './errors.js';
import type { HostTensor, DType, TypedArray } from './host-tensor.js';

/** Values to feed, by input name. */
export type Feeds = Readonly<Record<string, HostTensor>>;

export interface SessionOptions {
  /** Threads inside one operation; the default is the machine's cores. */
  readonly threads?: number;
  /**
   * Whether threads that wait for the next operation keep their core busy (the default). Steps of a few milliseconds and less run
   * up to a fifth faster so on a machine of one's own; where other processes share the cores, `false` is far better.
   */
  readonly spinning?: boolean;
  /** Plan memory per set of sizes; pays where few sizes come again and again. Default true. */
  readonly memoryPattern?: boolean;
  /** onnxruntime's execution providers, for example ['webgpu', 'cpu']. */
  readonly executionProviders?: readonly string[];
}

/** Opens a session on a model in memory (never by path: external data would be read from wherever the file says). */
export function openSession(model: Uint8Array, options: SessionOptions = {}): Promise<ort.InferenceSession> {
  return ort.InferenceSession.create(model, {
    intraOpNumThreads: options.threads ?? availableParallelism(),
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    enableMemPattern: options.memoryPattern ?? true,
    ...(options.executionProviders ? { executionProviders: [...options.executionProviders] } : {}),
    // Denormal numbers (Adam's variances of rare rows) are a hundred times slower than normal ones.
    extra: { session: { set_denormal_as_zero: '1', intra_op: { allow_spinning: options.spinning === false ? '0' : '1' } } },
  });
}

export const toOrt = ({ dtype, data, shape }: HostTensor): ort.Tensor =>
  new ort.Tensor(dtype as ort.Tensor.Type, data as never, shape as number[]);

export const fromOrt = (tensor: ort.Tensor): HostTensor => ({
  dtype: tensor.type as DType,
  data: tensor.data as TypedArray,
  shape: tensor.dims,
});

/**
 * Checks feeds against the inputs' shapes and finds the size of every named axis.
 *
 * @param known names that may be fed, beside those of `inputs`
 */
export function bindFeeds(
  inputs: readonly { name: string; shape: readonly Dim[]; dtype: DType }[],
  feeds: Feeds,
  known: ReadonlySet<string>,
): Record<string, number> {
  for (const name of Object.keys(feeds))
    if (!known.has(name))
      throw new FeedError(name, `is no input of the model; it takes ${inputs.map((input) => input.name).join(', ')}`);
  const bindings: Record<string, number> = {};
  const from: Record<string, string> = {};
  const composite: { name: string; dim: Dim; size: number }[] = [];
  for (const { name, shape, dtype } of inputs) {
    const feed = feeds[name];
    if (!feed) throw new FeedError(name, `is not fed; it is ${dtype} [${shape.join(', ')}]`);
    if (feed.dtype !== dtype) throw new FeedError(name, `is fed ${feed.dtype}, and takes ${dtype}`);
    const describe = `is fed [${feed.shape.join(', ')}], and takes [${shape.join(', ')}]`;
    if (feed.shape.length !== shape.length) throw new FeedError(name, describe);
    if (feed.data.length !== feed.shape.reduce((a, b) => a * b, 1))
      throw new FeedError(name, `has ${feed.data.length} elements for shape [${feed.shape.join(', ')}]`);
    shape.forEach((dim, axis) => {
      const size = feed.shape[axis];
      if (typeof dim === 'number') {
        if (dim !== size) throw new FeedError(name, describe);
      } else if (/^\w+$/.test(dim)) {
        if (bindings[dim] !== undefined && bindings[dim] !== size)
          throw new FeedError(name, `${describe}, where '${dim}' is ${bindings[dim]} in '${from[dim]}'`);
        bindings[dim] = size;
        from[dim] ??= name;
      } else composite.push({ name, dim, size });
    });
  }
  // An axis that stands in products alone ('2*rows') is found by division.
  for (const { dim, size } of composite) {
    const unknown = namesOf(dim).filter((name) => bindings[name] === undefined);
    if (unknown.length !== 1) continue;
    const [name] = unknown;
    const one = Number(bind(dim, { ...bindings, [name]: 1 }));
    const zero = Number(bind(dim, { ...bindings, [name]: 0 }));
    const solved = (size - zero) / (one - zero);
    if (Number.isInteger(solved) && solved >= 0) bindings[name] = solved;
  }
  for (const { name, dim, size } of composite) {
    const expected = bind(dim, bindings);
    if (expected !== size) throw new FeedError(name, `has ${size} where '${dim}' is ${expected}`);
  }
  return bindings;
}

/** A key for the sizes of a shape bucket. */
export const bucketKey = (bindings: Bindings): string =>
  Object.keys(bindings)
    .sort()
    .map((name) => `${name}=${bindings[name]}`)
    .join(',');
