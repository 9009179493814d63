import { createHash } from 'node:crypto';
import { initialWeights, GraphBuilder, normal } from '@user-llm/onnx-autograd';
import type { Feeds, Tensor, Weights } from '@user-llm/onnx-autograd';
import type { TrainableEncoder } from '../src/adaptation/trainable-encoder.js';

/** A user's history here: the numbers of two films, below `films`. */
export type ToyHistory = readonly [number, number];

const films = 6;
const userTokens = 2;
const width = 8;

function build(graph: GraphBuilder): { tokens: Tensor } {
  const events = graph.input('events', ['users', 2], 'int32');
  const vectors = graph.parameter('events.weight', [films, width], normal(1)).gather(events);
  const heard = graph.parameter('resampler.weight', [userTokens, 2], normal(1));
  // Each token is its own mixture of the events.
  return { tokens: heard.matmul(vectors) };
}

/** The smallest encoder there can be: an embedding table, and a resampler that mixes two events into two tokens. */
export class ToyEncoder implements TrainableEncoder<ToyHistory> {
  readonly manifest: { hash: string; userTokens: number; width: number };

  constructor(readonly weights: Weights) {
    const hash = createHash('sha256');
    for (const { data } of weights.values()) hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    this.manifest = { hash: hash.digest('hex').slice(0, 16), userTokens, width };
  }

  static create(seed: number): ToyEncoder {
    const builder = GraphBuilder.create();
    build(builder);
    const head = { dtype: 'float32' as const, shape: [1], data: Float32Array.of(3) };
    // A weight that the user tokens do not need, as an encoder's output heads.
    return new ToyEncoder(new Map([...initialWeights(builder.parameters.values(), seed), ['head.weight', head]]));
  }

  feeds(histories: readonly ToyHistory[]): Feeds {
    return { events: { dtype: 'int32', data: Int32Array.from(histories.flat()), shape: [histories.length, 2] } };
  }

  build(graph: GraphBuilder): { tokens: Tensor } {
    return build(graph);
  }

  withWeights(weights: Weights): ToyEncoder {
    return new ToyEncoder(weights);
  }

  /** A user's matrix, computed here by hand. */
  encode([a, b]: ToyHistory) {
    const table = this.weights.get('events.weight')!.data as Float32Array;
    const mix = this.weights.get('resampler.weight')!.data as Float32Array;
    const data = Float32Array.from({ length: userTokens * width }, (_, i) => {
      const token = Math.floor(i / width);
      const column = i % width;
      return mix[token * 2] * table[a * width + column] + mix[token * 2 + 1] * table[b * width + column];
    });
    return { encoder: this.manifest.hash, dtype: 'float32' as const, shape: [userTokens, width] as [number, number], data };
  }
}
