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

/**
 * The keys and values of text prompts in a store of embeddings, one prompt for each user: what a service keeps that answers by text
 * prompts and would not read the history again at every request. A record is the matrix of an encoder that is named after the model's weights,
 * with a hash of its tokens as its state.
 */
export class PromptCache {
  constructor(
    private readonly store: EmbeddingStore,
    private readonly served: ServedModel,
  ) {}

  /** Runs the first tokens of a prompt and keeps what they leave. Returns its size in bytes. */
  async put({ user, tokenizer, watermark }: CachedUser, promptIds: readonly number[], tokens: number): Promise<number> {
    const prefix = await this.served.prefix({ promptIds, blindTokens: tokens });
    const values = [...prefix.keysAndValues.values()];
    const data = new Float32Array(values.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of values) {
      data.set(part, at);
      at += part.length;
    }
    const width = this.served.config.headSize;
    await this.store.put({
      user,
      encoder: encoderOf(prefix.model),
      tokenizer,
      sequence: watermark.count,
      watermark,
      dtype: 'float32',
      shape: [data.length / width, width],
      data,
      state: hashOf(prefix.ids),
    });
    this.layout ??= { model: prefix.model, names: [...prefix.keysAndValues.keys()] };
    return prefix.bytes;
  }
  private layout: { readonly model: string; readonly names: readonly string[] } | undefined;

  /** The first tokens of a prompt as they were kept; undefined where nothing is, or what is kept is of other tokens. */
  async get(user: string, promptIds: readonly number[], tokens: number): Promise<Prefix | undefined> {
    if (this.layout === undefined) return undefined;
    const { model, names } = this.layout;
    const began = performance.now();
    const found = await this.store.get({ user }, { encoder: encoderOf(model) });
    if (found.status !== 'found') return undefined;
    const ids = promptIds.slice(0, tokens);
    const { state } = found.embedding;
    if (state === undefined || !hashOf(ids).equals(state)) return undefined;
    const data = found.embedding.data as Float32Array;
    const size = data.length / names.length;
    return {
      model,
      ids,
      keysAndValues: new Map(names.map((name, i) => [name, data.subarray(i * size, (i + 1) * size)])),
      bytes: data.byteLength,
      milliseconds: performance.now() - began,
    };
  }
}

const hashOf = (ids: readonly number[]): Buffer => createHash('sha256').update(Int32Array.from(ids)).digest();

const encoderOf = (model: string): string => `prompt-cache-${model}`;
