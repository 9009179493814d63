import { LogitsProcessor } from '@huggingface/transformers';
import type { Tensor } from '@huggingface/transformers';
import { keepLikeliest } from './sampling.js';

/** Among so many of the most probable tokens transformers.js draws, unless it is told otherwise. */
const defaultTopK = 50;

/** Draws among the fewest tokens that have a share of the probability, which transformers.js does not do by itself. */
export class NucleusProcessor extends LogitsProcessor {
  private constructor(
    readonly topK: number,
    readonly topP: number,
  ) {
    super();
  }

  /** What `settings.top_p` asks for among the `top_k` most probable tokens: nothing where every token may be drawn, or none is drawn at all. */
  static of({ do_sample, top_k = defaultTopK, top_p }: Readonly<Record<string, unknown>>): readonly NucleusProcessor[] {
    if (!do_sample || typeof top_p !== 'number' || top_p === 1) return [];
    return [new NucleusProcessor(typeof top_k === 'number' && top_k > 0 ? top_k : Infinity, top_p)];
  }

  override _call(_ids: bigint[][], logits: Tensor): Tensor {
    keepLikeliest(logits.data as Float32Array, this);
    return logits;
  }
}
