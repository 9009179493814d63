import { toFloat32 } from '@user-llm/onnx-autograd';
import type { DType, TypedArray } from '@user-llm/onnx-autograd';
import * as ort from 'onnxruntime-node';
import { EncoderMismatchError } from '../errors.js';
import type { UserShape } from '../integration/integration.js';

/** What a model needs of a stored user embedding. `UserEmbedding` of an encoder or a store is one. */
export interface ReadableEmbedding {
  /** Hash of the encoder that made it. */
  readonly encoder: string;
  readonly dtype: 'float32' | 'float16' | 'int8';
  /** `[K, D]` */
  readonly shape: readonly [number, number];
  readonly data: Float32Array | Uint16Array | Int8Array;
}

/** A user as the model reads them: the output of `user.onnx`, which can be kept for as many requests as one likes. */
export interface UserState {
  readonly kind: 'user-state';
  readonly encoder: string;
  /** `[1, ...]`: the packed keys and values, or the prompt vectors. */
  readonly packed: Float32Array;
  readonly shape: readonly number[];
  /** What making it cost. */
  readonly milliseconds: number;
  readonly flops: number;
}

/** A user as the session is fed. */
export const tensorOf = ({ packed, shape }: Pick<UserState, 'packed' | 'shape'>): ort.Tensor =>
  new ort.Tensor('float32', packed, [...shape]);

export const isUserState = (user: ReadableEmbedding | UserState): user is UserState =>
  'kind' in user && user.kind === 'user-state';

/** Runs `user.onnx`, and refuses what its model cannot read. */
export class UserReader {
  private constructor(
    private readonly session: ort.InferenceSession,
    readonly encoder: string,
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
    return new UserReader(session, reads.encoder, reads.shape, reads.packedShape, reads.flops);
  }

  async read(embedding: ReadableEmbedding): Promise<UserState> {
    const { userTokens, userWidth } = this.shape;
    if (embedding.encoder !== this.encoder) throw new EncoderMismatchError(this.encoder, embedding.encoder);
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
    const output = await this.session.run({ user_tokens: new ort.Tensor('float32', data, [1, userTokens, userWidth]) });
    return {
      kind: 'user-state',
      encoder: this.encoder,
      packed: output.user_embeddings.data as Float32Array,
      shape: [1, ...this.packedShape],
      milliseconds: performance.now() - begun,
      flops: this.flops,
    };
  }

  /** What is fed where there is no user: nothing can be read from zeros. */
  none(): UserState {
    const packed = new Float32Array(this.packedShape.reduce((product, size) => product * size, 1));
    return { kind: 'user-state', encoder: this.encoder, packed, shape: [1, ...this.packedShape], milliseconds: 0, flops: 0 };
  }

  dispose(): Promise<void> {
    return this.session.release();
  }
}
