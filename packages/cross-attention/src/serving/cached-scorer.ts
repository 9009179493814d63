import * as ort from 'onnxruntime-node';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { Logits, TokenScorer } from '../ranking/token-scorer.js';

/** Rows of one length: their key/value caches, and what the model says about the next token. */
export interface CachedRows {
  readonly rows: number;
  /** Tokens of each row so far. */
  readonly length: number;
  /** `past_key_values.*` by name. */
  readonly cache: ReadonlyMap<string, Float32Array>;
  readonly logits: Logits;
}

/** Runs the model for ranking: the prompt once, then one token per row on top of copied caches; all rows read the same user. */
export class CachedScorer implements TokenScorer<CachedRows> {
  /** Tokens that went through the model, by call. */
  readonly calls: { readonly rows: number; readonly tokens: number; readonly past: number }[] = [];
  /** Milliseconds that the prompt took. */
  promptMilliseconds = 0;
  readonly #cacheNames: readonly string[];

  constructor(
    private readonly session: ort.InferenceSession,
    private readonly config: DecoderConfig,
    private readonly promptIds: readonly number[],
    private readonly user: ort.Tensor | undefined,
  ) {
    this.#cacheNames = session.inputNames.filter((name) => name.startsWith('past_key_values.'));
  }

  async start(): Promise<CachedRows> {
    const begun = performance.now();
    const empty = new Map(this.#cacheNames.map((name) => [name, new Float32Array(0)]));
    const state = await this.#run(this.promptIds, 1, 0, empty);
    this.promptMilliseconds = performance.now() - begun;
    return state;
  }

  async step(state: CachedRows, parents: Int32Array, tokens: Int32Array): Promise<CachedRows> {
    const same = parents.length === state.rows && parents.every((parent, row) => parent === row);
    const cache = same
      ? state.cache
      : new Map(Array.from(state.cache, ([name, values]) => [name, pickRows(values, state.rows, parents)]));
    return this.#run(Array.from(tokens), tokens.length, state.length, cache);
  }

  logits(state: CachedRows): Logits {
    return state.logits;
  }

  async #run(ids: readonly number[], rows: number, past: number, cache: ReadonlyMap<string, Float32Array>): Promise<CachedRows> {
    const tokens = ids.length / rows;
    const length = past + tokens;
    const { keyValueHeads, headSize } = this.config;
    const feeds: Record<string, ort.Tensor> = {
      input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [rows, tokens]),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(rows * length).fill(1n), [rows, length]),
      num_logits_to_keep: new ort.Tensor('int64', BigInt64Array.of(1n), []),
    };
    for (const [name, values] of cache) feeds[name] = new ort.Tensor('float32', values, [rows, keyValueHeads, past, headSize]);
    if (this.user !== undefined) feeds.user_embeddings = this.user;
    const outputs = await this.session.run(feeds);
    this.calls.push({ rows, tokens, past });
    return {
      rows,
      length,
      cache: new Map(
        this.#cacheNames.map((name) => [name, outputs[name.replace('past_key_values', 'present')].data as Float32Array]),
      ),
      logits: {
        data: outputs.logits.data as Float32Array,
        vocabulary: this.config.vocabularySize,
        logNormalizers: outputs.log_normalizers.data as Float32Array,
      },
    };
  }
}

function pickRows(values: Float32Array, rows: number, parents: Int32Array): Float32Array {
  const size = values.length / rows;
  const picked = new Float32Array(parents.length * size);
  parents.forEach((parent, row) => picked.set(values.subarray(parent * size, (parent + 1) * size), row * size));
  return picked;
}
