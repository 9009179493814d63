import { createHash } from 'node:crypto';
import type { Prefix, ServedModel } from '@user-llm/cross-attention';
import type { EmbeddingStore } from '@user-llm/embedding-store';

/** Whose prompt a cache is of. */
export interface CachedUser {
  readonly user: string;
  /** Hash of the tokenizer that read the user's events. */
  readonly tokenizer: string;
  /** The last event in the prompt (unix seconds), and how many events there were. */
  readonly watermark: { readonly time: number; readonly count: number };
}

/** Of one record, in bytes: a store takes 256 MiB, and a history of 600 events leaves more in a model of 135 million weights. */
const largestPart = 2 ** 27;

/**
 * The keys and values of text prompts in a store of embeddings, one prompt for each user: what a service keeps that answers by text
 * prompts and would not read the history again at every request. Records are matrices of an encoder that is named after the model's weights
 * and the part, each with a hash of the prompt's tokens as its state.
 */
export class PromptCache {
  private readonly partBytes: number;
  private layout: { readonly model: string; readonly names: readonly string[] } | undefined;

  /** @param options.partBytes the most that one record holds, but for a single layer's keys or values, which are not cut */
  constructor(
    private readonly store: EmbeddingStore,
    private readonly served: ServedModel,
    { partBytes = largestPart }: { readonly partBytes?: number } = {},
  ) {
    this.partBytes = partBytes;
  }

  /** Runs the first tokens of a prompt and keeps what they leave. Returns its size in bytes. */
  async put({ user, tokenizer, watermark }: CachedUser, promptIds: readonly number[], tokens: number): Promise<number> {
    const prefix = await this.served.prefix({ promptIds, blindTokens: tokens });
    const width = this.served.config.headSize;
    const all = [...prefix.keysAndValues.keys()];
    for (const [part, names] of this.partsOf(all, prefix.ids.length).entries()) {
      const values = names.map((name) => prefix.keysAndValues.get(name)!);
      const data = new Float32Array(values.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const value of values) {
        data.set(value, at);
        at += value.length;
      }
      await this.store.put({
        user,
        encoder: encoderOf(prefix.model, part),
        tokenizer,
        sequence: watermark.count,
        watermark,
        dtype: 'float32',
        shape: [data.length / width, width],
        data,
        state: hashOf(prefix.ids),
      });
    }
    this.layout ??= { model: prefix.model, names: all };
    return prefix.bytes;
  }

  /** The first tokens of a prompt as they were kept; undefined where nothing is, or what is kept is of other tokens. */
  async get(user: string, promptIds: readonly number[], tokens: number): Promise<Prefix | undefined> {
    if (this.layout === undefined) return undefined;
    const { model, names } = this.layout;
    const began = performance.now();
    const ids = promptIds.slice(0, tokens);
    const hash = hashOf(ids);
    const keysAndValues = new Map<string, Float32Array>();
    let bytes = 0;
    for (const [part, ofPart] of this.partsOf(names, tokens).entries()) {
      const found = await this.store.get({ user }, { encoder: encoderOf(model, part) });
      if (found.status !== 'found' || found.embedding.state === undefined || !hash.equals(found.embedding.state))
        return undefined;
      const data = found.embedding.data as Float32Array;
      const size = data.length / ofPart.length;
      ofPart.forEach((name, i) => keysAndValues.set(name, data.subarray(i * size, (i + 1) * size)));
      bytes += data.byteLength;
    }
    return { model, ids, keysAndValues, bytes, milliseconds: performance.now() - began };
  }

  /** Which of the layers' keys and values lie together, for so many tokens. */
  private partsOf(names: readonly string[], tokens: number): string[][] {
    const { keyValueHeads, headSize } = this.served.config;
    const together = Math.max(1, Math.floor(this.partBytes / (4 * tokens * keyValueHeads * headSize)));
    return Array.from({ length: Math.ceil(names.length / together) }, (_, i) => names.slice(i * together, (i + 1) * together));
  }
}

const hashOf = (ids: readonly number[]): Buffer => createHash('sha256').update(Int32Array.from(ids)).digest();

const encoderOf = (model: string, part: number): string => `prompt-cache-${model}-${part}`;
