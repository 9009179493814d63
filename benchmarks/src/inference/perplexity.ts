import type { Computation, DecoderConfig, DecoderWeights } from '@user-llm/cross-attention';
import { inferenceModel } from '@user-llm/cross-attention';
import * as ort from 'onnxruntime-node';

/** exp of the mean negative log-probability of each window's tokens after its first. */
export async function perplexity(
  config: DecoderConfig,
  weights: DecoderWeights,
  windows: readonly (readonly number[])[],
  { precision = {}, threads }: { precision?: Computation; threads: number },
): Promise<number> {
  const model = inferenceModel(config, weights, undefined, precision);
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1 });
  const { vocabularySize: v, keyValueHeads, headSize } = config;
  let sum = 0;
  let count = 0;
  for (const ids of windows) {
    const feeds: Record<string, ort.Tensor> = {
      input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
      num_logits_to_keep: new ort.Tensor('int64', BigInt64Array.of(0n), []),
    };
    for (const name of session.inputNames)
      if (name.startsWith('past_')) feeds[name] = new ort.Tensor('float32', new Float32Array(0), [1, keyValueHeads, 0, headSize]);
    const outputs = await session.run(feeds);
    const logits = outputs.logits.data as Float32Array;
    const normalizers = outputs.log_normalizers.data as Float32Array;
    for (let at = 0; at + 1 < ids.length; at++, count++) sum += normalizers[at] - logits[at * v + ids[at + 1]];
  }
  await session.release();
  return Math.exp(sum / count);
}
