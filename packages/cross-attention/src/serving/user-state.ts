import { createHash } from 'node:crypto';
import { toFloat32 } from '@user-llm/onnx-autograd';
import type { DType, TypedArray } from '@user-llm/onnx-autograd';
import * as ort from 'onnxruntime-node';
import { EncoderMismatchError } from '../errors.js';
import type { UserShape } from '../integration/integration.js';

/**
 * What a model needs of a stored user embedding. `UserEmbedding` of an encoder or a store is one. A store also keeps int8 matrices, but no
 * scale with them: a model refuses these by a `TypeError`, and reads their values as float32 or float16.
 */
export interface ReadableEmbedding {
  /** Hash of the encoder that made it. */
  readonly encoder: string;
  /** `float32`, or `float16` as its bits; `int8` is not read. */
  readonly dtype: 'float32' | 'float16' | 'int8';
  /** `[K, D]` */
  readonly shape: readonly [number, number];
  readonly data: Float32Array | Uint16Array | Int8Array;
}

/** A user as the model reads them: the output of `user.onnx`, which can be kept for as many requests as one likes. */
export interface UserState {
  readonly kind: 'user-state';
  readonly encoder: string;
  /** Names the encoder and the weights that made it; a model reads the states of its own weights alone. */
  readonly reader: string;
  /** `[1, ...]`: the packed keys and values, or the prompt vectors. */
  readonly packed: Float32Array;
  readonly shape: readonly number[];
  /** What making it cost. */
  readonly milliseconds: number;
  readonly flops: number;
}

/**
 * A `UserState` as a store of embeddings keeps it: a matrix whose `encoder` is the state's `reader`. A store asks for more, such as user,
 * tokenizer and watermark: those of the embedding, `store.put({ ...embedding, ...stored })`.
 */
export interface StoredUserState extends ReadableEmbedding {
  readonly dtype: 'float32';
  /** `[numbers / size of the last dimension, size of the last dimension]` */
  readonly shape: [number, number];
  readonly data: Float32Array;
}

/** A user as the session is fed. */
export const tensorOf = ({ packed, shape }: Pick<UserState, 'packed' | 'shape'>): ort.Tensor =>
  new ort.Tensor('float32', packed, [...shape]);

/** Whether a user is read already. Throws a `TypeError` for what is no user at all, such as a store's answer that it has none. */
export function isUserState(user: ReadableEmbedding | UserState): user is UserState {
  const given: unknown = user;
  if (typeof given !== 'object' || given === null || typeof (given as Partial<ReadableEmbedding>).encoder !== 'string')
    throw new TypeError(
      `A user is an embedding ({ encoder, dtype, shape, data }), or what userState gave of one, and not ${given === null ? 'null' : typeof given === 'object' ? 'an object that names no encoder' : `a ${typeof given}`}. Give what the store has found, and leave user out where it found none.`,
    );
  return 'kind' in user && user.kind === 'user-state';
}

/** In which array the numbers of each dtype lie; float16 as its bits. */
const arrays = { float32: 'Float32Array', float16: 'Uint16Array', int8: 'Int8Array' } as const satisfies Record<
  ReadableEmbedding['dtype'],
  string
>;

/** Throws a `TypeError` for numbers that are not what their dtype says: they would be read as others. */
export function assertLabelled({ dtype, data }: ReadableEmbedding): void {
  if (!Object.hasOwn(arrays, dtype))
    throw new TypeError(`An embedding's dtype is one of ${Object.keys(arrays).join(', ')}, not ${dtype}.`);
  // Arrays of another realm, or another copy of the runtime, are arrays too.
  const actual = Object.prototype.toString.call(data).slice(8, -1);
  if (actual !== arrays[dtype])
    throw new TypeError(`An embedding of dtype ${dtype} has its numbers in a ${arrays[dtype]}, and this one in a ${actual}.`);
}

/** Throws a `TypeError` for a state whose numbers are in another array, as after JSON. */
export function assertPacked({ packed }: UserState): void {
  const actual = Object.prototype.toString.call(packed).slice(8, -1);
  if (actual !== 'Float32Array')
    throw new TypeError(
      `A user state has its numbers in a Float32Array (packed), and this one in a ${actual}. Keep it as it was given, or make it again of the user's embedding.`,
    );
}

const described = (shape: readonly number[], count: number) => `[${shape.join(', ')}] with ${count} numbers`;

/** Throws a `RangeError` where a number is NaN or Infinity: a model that reads one answers with nothing. */
function assertFinite(numbers: Float32Array, what: string): void {
  // By place: a state is looked at with every request.
  for (let i = 0; i < numbers.length; i++)
    if (!Number.isFinite(numbers[i])) throw new RangeError(`${what} NaN or Infinity; encode the user again.`);
}

/** Runs `user.onnx`, and refuses what its model cannot read. */
export class UserReader {
  private constructor(
    private readonly session: ort.InferenceSession,
    readonly encoder: string,
    /** What its states are known by: a hash of the encoder's and of `user.onnx`. */
    readonly identity: string,
    readonly shape: UserShape,
    readonly packedShape: readonly number[],
    private readonly flops: number,
  ) {}

  static async open(
    model: Uint8Array,
    reads: {
      readonly encoder: string;
      readonly shape: UserShape;
      readonly packedShape: readonly number[];
      readonly flops: number;
    },
    options: ort.InferenceSession.SessionOptions,
  ): Promise<UserReader> {
    const session = await ort.InferenceSession.create(model, options);
    const identity = `user-state-${createHash('sha256').update(reads.encoder).update(model).digest('hex')}`;
    return new UserReader(session, reads.encoder, identity, reads.shape, reads.packedShape, reads.flops);
  }

  /** A user's embedding as the model reads it, or the state that `stored` made of one. */
  async read(embedding: ReadableEmbedding): Promise<UserState> {
    const isStored = embedding.encoder === this.identity;
    if (!isStored && embedding.encoder !== this.encoder) throw new EncoderMismatchError(this.encoder, embedding.encoder);
    assertLabelled(embedding);
    return isStored ? this.#restore(embedding) : this.#read(embedding);
  }

  async #read(embedding: ReadableEmbedding): Promise<UserState> {
    const { userTokens, userWidth } = this.shape;
    const [tokens, width] = embedding.shape;
    if (tokens !== userTokens || width !== userWidth || embedding.data.length !== userTokens * userWidth) {
      const actual = `[${tokens}, ${width}] with ${embedding.data.length} numbers`;
      throw new EncoderMismatchError(
        `[${userTokens}, ${userWidth}]`,
        actual,
        `The embedding is ${actual}, but the model reads [${userTokens}, ${userWidth}].`,
      );
    }
    if (embedding.dtype === 'int8')
      throw new TypeError('An int8 embedding has no scale of its own; give its values as float32 or float16.');
    const begun = performance.now();
    const data = toFloat32({ dtype: embedding.dtype as DType, data: embedding.data as TypedArray, shape: embedding.shape });
    assertFinite(data, 'The embedding holds');
    const output = await this.session.run({ user_tokens: new ort.Tensor('float32', data, [1, userTokens, userWidth]) });
    return {
      kind: 'user-state',
      encoder: this.encoder,
      reader: this.identity,
      packed: output.user_embeddings.data as Float32Array,
      shape: [1, ...this.packedShape],
      milliseconds: performance.now() - begun,
      flops: this.flops,
    };
  }

  /** A state as a matrix for a store; `read` takes it back. */
  stored(state: UserState): StoredUserState {
    this.assertOwn(state);
    const { packed, reader } = state;
    const width = this.packedShape.at(-1)!;
    return { encoder: reader, dtype: 'float32', shape: [packed.length / width, width], data: packed };
  }

  #restore({ dtype, shape, data }: ReadableEmbedding): UserState {
    const count = this.#count;
    const width = this.packedShape.at(-1)!;
    if (dtype !== 'float32' || data.length !== count || shape[0] !== count / width || shape[1] !== width)
      throw new EncoderMismatchError(
        `[${this.packedShape.join(', ')}] in float32`,
        `[${shape.join(', ')}] in ${dtype}`,
        `The stored user state is ${described(shape, data.length)} in ${dtype}, but the model reads ${described([count / width, width], count)} in float32. Store it again.`,
      );
    const packed = data as Float32Array;
    assertFinite(packed, 'The stored user state holds');
    return { ...this.none(), packed };
  }

  /** Numbers of a state. */
  get #count(): number {
    return this.packedShape.reduce((product, size) => product * size, 1);
  }

  /** What is fed where there is no user: nothing can be read from zeros. */
  none(): UserState {
    const packed = new Float32Array(this.#count);
    const { encoder, identity: reader } = this;
    return { kind: 'user-state', encoder, reader, packed, shape: [1, ...this.packedShape], milliseconds: 0, flops: 0 };
  }

  /**
   * Throws an `EncoderMismatchError` for a state that other weights made or that has another size, a `TypeError` for one whose numbers are in
   * another array, and a `RangeError` for one that holds NaN or Infinity.
   */
  assertOwn(state: UserState): void {
    const { reader, packed, shape } = state;
    if (reader !== this.identity)
      throw new EncoderMismatchError(
        this.identity,
        reader,
        `The user state is ${reader}, but the model reads ${this.identity}: another encoder or other weights made it. Make it again of the user's embedding.`,
      );
    assertPacked(state);
    const [expected, actual] = [described([1, ...this.packedShape], this.#count), described(shape, packed.length)];
    if (actual !== expected)
      throw new EncoderMismatchError(
        expected,
        actual,
        `The user state is ${actual}, but the model reads ${expected}. Make it again of the user's embedding.`,
      );
    assertFinite(packed, 'The user state holds');
  }

  dispose(): Promise<void> {
    return this.session.release();
  }
}
