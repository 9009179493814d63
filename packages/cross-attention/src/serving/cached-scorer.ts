import * as ort from 'onnxruntime-node';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { Logits, TokenScorer } from '../ranking/token-scorer.js';

/** Rows of one length: keys and values of what follows the prompt, and what the model says about the next token. */
export interface CachedRows {
  readonly rows: number;
  /** Tokens of each row after the prompt. */
  readonly length: number;
  /** By cache name, `[rows, key/value heads, length, head size]`. */
  readonly suffix: ReadonlyMap<string, Float32Array>;
  readonly logits: Logits;
}

/**
 * Runs the model for ranking: the prompt once, then one token per row; all rows read the same user.
 *
 * A long prompt's keys and values would be the bulk of every row's cache. They are laid once into buffers `[rows, heads, prompt + capacity,
 * head size]` that serve as past and present of every step (`GroupQueryAttention` then appends in place); of a row only what
 * follows the prompt is ever copied.
 */
export class CachedScorer implements TokenScorer<CachedRows> {
  /** Tokens that went through the model, by call. */
  readonly calls: { readonly rows: number; readonly tokens: number; readonly past: number }[] = [];
  /** Milliseconds that the prompt took. */
  promptMilliseconds = 0;
  readonly #names: readonly string[];
  #prompt = new Map<string, Float32Array>();
  #buffers = new Map<string, Float32Array>();
  #rows = 0;

  constructor(
    private readonly session: ort.InferenceSession,
    private readonly config: DecoderConfig,
    private readonly promptIds: readonly number[],
    private readonly user: ort.Tensor | undefined,
    /** Most tokens of a row after the prompt. */
    private readonly capacity: number,
  ) {
    this.#names = session.inputNames.filter((name) => name.startsWith('past_key_values.'));
  }

  async start(): Promise<CachedRows> {
    const begun = performance.now();
    const { keyValueHeads, headSize } = this.config;
    const feeds = this.#feeds(this.promptIds, 1, this.promptIds.length);
    for (const name of this.#names) feeds[name] = new ort.Tensor('float32', new Float32Array(0), [1, keyValueHeads, 0, headSize]);
    const outputs = await this.session.run(feeds);
    this.calls.push({ rows: 1, tokens: this.promptIds.length, past: 0 });
    this.#prompt = new Map(this.#names.map((name) => [name, outputs[present(name)].data as Float32Array]));
    this.promptMilliseconds = performance.now() - begun;
    const suffix = new Map(this.#names.map((name) => [name, new Float32Array(0)]));
    return { rows: 1, length: 0, suffix, logits: this.#logits(outputs) };
  }

  async step(state: CachedRows, parents: Int32Array, tokens: Int32Array): Promise<CachedRows> {
    const rows = tokens.length;
    const { length } = state;
    if (length >= this.capacity) throw new Error(`internal: a row grew beyond its capacity of ${this.capacity} tokens`);
    this.#reserve(rows);
    const { keyValueHeads, headSize } = this.config;
    const past = this.promptIds.length + length;
    const feeds = this.#feeds(Array.from(tokens), rows, past + 1);
    const fetches: Record<string, ort.Tensor | null> = { logits: null, log_normalizers: null };
    const shape = [rows, keyValueHeads, this.promptIds.length + this.capacity, headSize];
    for (const [name, buffer] of this.#buffers) {
      this.#move(state.suffix.get(name)!, length, buffer, (row) => parents[row], rows, 'in');
      const cache = new ort.Tensor(
        'float32',
        buffer.subarray(
          0,
          shape.reduce((a, b) => a * b, 1),
        ),
        shape,
      );
      feeds[name] = cache;
      fetches[present(name)] = cache;
    }
    const outputs = await this.session.run(
      feeds,
      fetches as ort.InferenceSession.NullableOnnxValueMapType & Record<string, ort.Tensor>,
    );
    this.calls.push({ rows, tokens: 1, past });
    const suffix = new Map(
      Array.from(this.#buffers, ([name, buffer]) => {
        const values = new Float32Array(rows * keyValueHeads * (length + 1) * headSize);
        this.#move(values, length + 1, buffer, (row) => row, rows, 'out');
        return [name, values];
      }),
    );
    return { rows, length: length + 1, suffix, logits: this.#logits(outputs) };
  }

  logits(state: CachedRows): Logits {
    return state.logits;
  }

  #feeds(ids: readonly number[], rows: number, total: number): Record<string, ort.Tensor> {
    return {
      input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [rows, ids.length / rows]),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(rows * total).fill(1n), [rows, total]),
      num_logits_to_keep: new ort.Tensor('int64', BigInt64Array.of(1n), []),
      ...(this.user === undefined ? {} : { user_embeddings: this.user }),
    };
  }

  #logits(outputs: ort.InferenceSession.OnnxValueMapType): Logits {
    return {
      data: outputs.logits.data as Float32Array,
      vocabulary: this.config.vocabularySize,
      logNormalizers: outputs.log_normalizers.data as Float32Array,
    };
  }

  /** Buffers of at least so many rows, the prompt's keys and values at the beginning of each. */
  #reserve(rows: number): void {
    if (rows <= this.#rows) return;
    const { keyValueHeads, headSize } = this.config;
    const part = this.promptIds.length * headSize;
    const stride = (this.promptIds.length + this.capacity) * headSize;
    this.#rows = rows;
    this.#buffers = new Map();
    for (const [name, prompt] of this.#prompt) {
      const buffer = new Float32Array(rows * keyValueHeads * stride);
      for (let at = 0; at < rows * keyValueHeads; at++) {
        const head = at % keyValueHeads;
        buffer.set(prompt.subarray(head * part, (head + 1) * part), at * stride);
      }
      this.#buffers.set(name, buffer);
    }
  }

  /** Copies what follows the prompt between rows of their own (`rowOf` each of the buffer's rows) and the buffer. */
  #move(
    values: Float32Array,
    length: number,
    buffer: Float32Array,
    rowOf: (row: number) => number,
    rows: number,
    way: 'in' | 'out',
  ): void {
    const { keyValueHeads, headSize } = this.config;
    const size = length * headSize;
    const stride = (this.promptIds.length + this.capacity) * headSize;
    for (let row = 0; row < rows; row++) {
      for (let head = 0; head < keyValueHeads; head++) {
        const own = (rowOf(row) * keyValueHeads + head) * size;
        const place = (row * keyValueHeads + head) * stride + this.promptIds.length * headSize;
        if (way === 'in') buffer.set(values.subarray(own, own + size), place);
        else values.set(buffer.subarray(place, place + size), own);
      }
    }
  }
}

const present = (name: string): string => name.replace('past_key_values', 'present');
