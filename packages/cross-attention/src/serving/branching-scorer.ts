import * as ort from 'onnxruntime-node';
import { hasWindow } from '../decoder/inference-graph.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { Logits, TokenScorer } from '../ranking/token-scorer.js';
import { BranchCache } from './branch-cache.js';
import { Branches, visibility } from './branches.js';

/** Texts of one length that begin with the prompt, and what the model says about the next token of each. */
export interface BranchingTexts {
  /** Their last tokens; undefined where there is the prompt alone. */
  readonly last: Branches | undefined;
  /** Tokens of each text after the prompt. */
  readonly length: number;
  readonly logits: Logits;
}

/** The sessions of one model: `inferenceModel` for the prompt, `branchingModel` for what follows it. */
export interface ScorerSessions {
  readonly prompt: ort.InferenceSession;
  /** Opened when a text first goes on behind the prompt. */
  readonly branching: () => Promise<ort.InferenceSession>;
}

/**
 * Tokens of a prompt that run at once. The fused attention computes the scores of all pairs, those that causality hides too: in parts, a
 * long prompt is spared most of those, and what is worked on stays in the processor's cache. Nothing is computed twice.
 */
const promptPart = 256;

/**
 * Runs the model for ranking: the prompt once, then one token per text. The texts are a batch of one that shares a cache; which of them
 * reads which token is told by a bias. So a head's queries of all texts meet the keys in one product, and of a long prompt nothing is
 * copied, whatever the number of texts.
 */
export class BranchingScorer implements TokenScorer<BranchingTexts> {
  /** Tokens that went through the model, by call. */
  readonly calls: { readonly rows: number; readonly tokens: number; readonly past: number }[] = [];
  /** Milliseconds that the prompt took. */
  promptMilliseconds = 0;
  readonly #cacheNames: readonly string[];
  #cache: BranchCache | undefined;
  #promptState: Float32Array | undefined;

  constructor(
    private readonly sessions: ScorerSessions,
    private readonly config: DecoderConfig,
    private readonly promptIds: readonly number[],
    private readonly user: ort.Tensor | undefined,
  ) {
    this.#cacheNames = sessions.prompt.inputNames.filter((name) => name.startsWith('past_key_values.'));
  }

  /** The last layer's normalised output for the prompt's last token, `[hidden]`; there after `start`. */
  get promptState(): Float32Array {
    if (this.#promptState === undefined) throw new Error('internal: the state of a prompt that has not run');
    return this.#promptState;
  }

  async start(): Promise<BranchingTexts> {
    const begun = performance.now();
    const { keyValueHeads, headSize } = this.config;
    const { length } = this.promptIds;
    this.#cache = new BranchCache(this.#cacheNames, length, keyValueHeads, headSize);
    let outputs: ort.InferenceSession.OnnxValueMapType;
    let end = 0;
    do {
      const start = end;
      end = Math.min(length, start + promptPart);
      outputs = await this.#run(this.sessions.prompt, this.#cache, {
        ...this.#tokens(this.promptIds.slice(start, end)),
        attention_mask: int64(new Array<number>(end).fill(1), [1, end]),
        num_logits_to_keep: int64([1], []),
      });
    } while (end < length);
    this.calls.push({ rows: 1, tokens: length, past: 0 });
    this.#promptState = outputs.last_hidden_state.data as Float32Array;
    this.promptMilliseconds = performance.now() - begun;
    return { last: undefined, length: 0, logits: this.#logits(outputs) };
  }

  async step({ last, length }: BranchingTexts, parents: Int32Array, tokens: Int32Array): Promise<BranchingTexts> {
    const cache = this.#cache;
    if (cache === undefined) throw new Error('internal: a step before the prompt');
    const rows = tokens.length;
    const prompt = this.promptIds.length;
    const total = prompt + cache.place(last, parents, rows) + rows;
    const visible = (window?: number) =>
      new ort.Tensor('float32', visibility(last, parents, { prompt, total, window }), [1, 1, rows, total]);
    const outputs = await this.#run(await this.sessions.branching(), cache, {
      ...this.#tokens(tokens),
      position_ids: int64(new Array<number>(rows).fill(prompt + length), [1, rows]),
      visible: visible(),
      ...(hasWindow(this.config) ? { visible_window: visible(this.config.slidingWindow!.size) } : {}),
    });
    this.calls.push({ rows, tokens: 1, past: prompt + length });
    const branches = new Branches(last, parents);
    cache.take(branches);
    return { last: branches, length: length + 1, logits: this.#logits(outputs) };
  }

  logits(state: BranchingTexts): Logits {
    return state.logits;
  }

  /** Past and present are in one place: new keys and values are written behind what is there. */
  #run(session: ort.InferenceSession, cache: BranchCache, inputs: Record<string, ort.Tensor>) {
    const { keyValueHeads, headSize } = this.config;
    const feeds = { ...inputs };
    const fetches: Record<string, ort.Tensor | null> = { logits: null, log_normalizers: null };
    if (session === this.sessions.prompt) fetches.last_hidden_state = null;
    for (const [name, buffer] of cache.buffers) {
      const tensor = new ort.Tensor('float32', buffer, [1, keyValueHeads, cache.capacity, headSize]);
      feeds[name] = tensor;
      fetches[name.replace('past_key_values', 'present')] = tensor;
    }
    return session.run(feeds, fetches as ort.InferenceSession.NullableOnnxValueMapType & Record<string, ort.Tensor>);
  }

  #tokens(ids: ArrayLike<number>): Record<string, ort.Tensor> {
    return { input_ids: int64(ids, [1, ids.length]), ...(this.user === undefined ? {} : { user_embeddings: this.user }) };
  }

  #logits(outputs: ort.InferenceSession.OnnxValueMapType): Logits {
    return {
      data: outputs.logits.data as Float32Array,
      vocabulary: this.config.vocabularySize,
      logNormalizers: outputs.log_normalizers.data as Float32Array,
    };
  }
}

const int64 = (values: ArrayLike<number>, shape: readonly number[]): ort.Tensor =>
  new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape);
