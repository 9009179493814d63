import * as ort from 'onnxruntime-node';
import { hasWindow } from '../decoder/inference-graph.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { Logits, TokenScorer } from '../ranking/token-scorer.js';
import { BranchCache } from './branch-cache.js';
import { Branches, visibility } from './branches.js';
import { placePrefix } from './prefix.js';
import type { ReadPrompt } from './prompt-reader.js';
import { cacheNamesOf, int64, runForNewest, runPrompt } from './token-run.js';
import type { RunOutputs } from './token-run.js';

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
 * Runs the model for ranking: the prompt once, then one token per text. The texts are a batch of one that shares a cache; which of them
 * reads which token is told by a bias. So a head's queries of all texts meet the keys in one product, and of a long prompt nothing is
 * copied, whatever the number of texts.
 */
export class BranchingScorer implements TokenScorer<BranchingTexts> {
  /** Tokens that went through the model, by call. */
  readonly calls: { readonly rows: number; readonly tokens: number; readonly past: number }[] = [];
  /** Milliseconds that the prompt took. */
  promptMilliseconds = 0;
  #cache: BranchCache | undefined;
  #promptState: Float32Array | undefined;

  constructor(
    private readonly sessions: ScorerSessions,
    private readonly config: DecoderConfig,
    private readonly prompt: ReadPrompt,
    private readonly user: ort.Tensor | undefined,
    /** Stops the prompt. */
    private readonly signal?: AbortSignal,
  ) {}

  /** The last layer's normalised output for the prompt's last token, `[hidden]`; there after `start`. */
  get promptState(): Float32Array {
    if (this.#promptState === undefined) throw new Error('internal: the state of a prompt that has not run');
    return this.#promptState;
  }

  async start(): Promise<BranchingTexts> {
    const begun = performance.now();
    const { config, user, signal } = this;
    const { ids, blindTokens, prefix } = this.prompt;
    const past = prefix?.ids.length ?? 0;
    this.#cache = new BranchCache(cacheNamesOf(this.sessions.prompt), ids.length, config.keyValueHeads, config.headSize);
    if (prefix !== undefined) placePrefix(prefix, this.#cache, config);
    const prompt = { ids: ids.slice(past), past, blindTokens, user, signal };
    const outputs = await runPrompt(this.sessions.prompt, config, this.#cache, prompt);
    this.calls.push({ rows: 1, tokens: ids.length - past, past });
    this.#promptState = outputs.last_hidden_state.data as Float32Array;
    this.promptMilliseconds = performance.now() - begun;
    return { last: undefined, length: 0, logits: this.#logits(outputs) };
  }

  async step({ last, length }: BranchingTexts, parents: Int32Array, tokens: Int32Array): Promise<BranchingTexts> {
    const cache = this.#cache;
    if (cache === undefined) throw new Error('internal: a step before the prompt');
    const rows = tokens.length;
    const prompt = this.prompt.ids.length;
    const total = prompt + cache.place(last, parents, rows) + rows;
    const visible = (window?: number) =>
      new ort.Tensor('float32', visibility(last, parents, { prompt, total, window }), [1, 1, rows, total]);
    const outputs = await runForNewest(await this.sessions.branching(), this.config, cache, [total - rows], {
      input_ids: int64(tokens, [1, rows]),
      ...(this.user === undefined ? {} : { user_embeddings: this.user }),
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

  #logits(outputs: RunOutputs): Logits {
    return {
      data: outputs.logits.data as Float32Array,
      vocabulary: this.config.vocabularySize,
      logNormalizers: outputs.log_normalizers.data as Float32Array,
    };
  }
}
