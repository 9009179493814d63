import { expect } from '@jest/globals';
import * as ort from 'onnxruntime-node';
import type { Decoder } from '../src/decoder/decoder.js';
import type { AccuracyLevel, Precision } from '../src/decoder/packable-matrix.js';
import { inferenceModel } from '../src/decoder/inference-graph.js';
import type { ValueFile } from '../src/decoder/value-store.js';

/** The inference graph, one call of which continues the cache of the one before. */
export async function openInference(
  { config, weights }: Decoder,
  accuracyLevel?: AccuracyLevel,
  precision: Precision = {},
  file?: ValueFile,
) {
  const model = inferenceModel(config, weights, undefined, { accuracyLevel, ...precision }, file);
  const extra = file && { extra: { session: { model_external_initializers_file_folder_path: file.folder } } };
  const session = await ort.InferenceSession.create(model, extra ?? {});
  return {
    session,
    dispose: () => session.release(),
    async run(ids: readonly number[], rows: number, keep: number, cache: Record<string, ort.Tensor> = {}) {
      const length = ids.length / rows;
      const past = cache['past_key_values.0.key']?.dims[2] ?? 0;
      const empty = () => new ort.Tensor('float32', new Float32Array(0), [rows, config.keyValueHeads, 0, config.headSize]);
      const feeds: Record<string, ort.Tensor> = {
        input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [rows, length]),
        attention_mask: new ort.Tensor('int64', new BigInt64Array(rows * (past + length)).fill(1n), [rows, past + length]),
        num_logits_to_keep: new ort.Tensor('int64', BigInt64Array.of(BigInt(keep)), []),
      };
      for (const name of session.inputNames) if (name.startsWith('past_')) feeds[name] = cache[name] ?? empty();
      const outputs = await session.run(feeds);
      const next: Record<string, ort.Tensor> = {};
      for (const [name, tensor] of Object.entries(outputs))
        if (name.startsWith('present.')) next[name.replace('present', 'past_key_values')] = tensor as ort.Tensor;
      return {
        logits: outputs.logits.data as Float32Array,
        normalizers: outputs.log_normalizers.data as Float32Array,
        dims: outputs.logits.dims,
        cache: next,
      };
    },
    /** How many of the tokens that should follow the prompt are the most probable ones, each after the right ones before it. */
    async agreement(prompt: readonly number[], expected: readonly number[]): Promise<number> {
      let { logits, cache } = await this.run(prompt, 1, 1);
      let agreed = 0;
      for (const token of expected) {
        if (logits.indexOf(Math.max(...logits)) === token) agreed++;
        ({ logits, cache } = await this.run([token], 1, 1, cache));
      }
      return agreed;
    },
    async greedy(prompt: readonly number[], count: number): Promise<number[]> {
      const found: number[] = [];
      let { logits, cache } = await this.run(prompt, 1, 1);
      while (found.length < count) {
        const best = logits.indexOf(Math.max(...logits));
        found.push(best);
        if (config.endTokens.includes(best)) break;
        ({ logits, cache } = await this.run([best], 1, 1, cache));
      }
      return found;
    },
  };
}

export type Inference = Awaited<ReturnType<typeof openInference>>;

/** Largest difference, relative to the largest value there is. */
export function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let largest = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(actual[i] - expected[i]));
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return largest / scale;
}

/** Root of the sum of squares. */
export const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
