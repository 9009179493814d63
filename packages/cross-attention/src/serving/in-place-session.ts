import * as ort from 'onnxruntime-node';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { AnswerCache } from './answer-cache.js';
import type { Prefix } from './prefix.js';
import { greedyToken } from './sampling.js';
import { cacheNamesOf, runPrompt } from './token-run.js';

/** Of the cache's tensors transformers.js sees one, whose shape says how many positions there are. */
const pastName = 'past_key_values.0.key';
const presentName = pastName.replace('past_key_values', 'present');

type Feeds = Readonly<Record<string, ort.Tensor>>;

/** One text as it grows, and who hears what went wrong with it. */
interface Text {
  readonly cache: AnswerCache;
  readonly fail: (reason: unknown) => void;
  readonly signal: AbortSignal | undefined;
}

/**
 * A session as transformers.js runs it, one text at a time, whose keys and values stay where they are. The library hands all of a cache's
 * tensors from run to run, and the runtime copies them each time; here it is handed one tensor without elements,
 * `[1, key/value heads, positions, 0]`, that stands for them. A cache goes on with the newest of its tensors alone.
 */
export class InPlaceSession {
  readonly inputNames: readonly string[];
  readonly #names: readonly string[];
  readonly #texts = new WeakMap<ort.Tensor, Text>();

  constructor(
    private readonly session: ort.InferenceSession,
    private readonly config: DecoderConfig,
  ) {
    this.#names = cacheNamesOf(session);
    this.inputNames = session.inputNames.filter((name) => name === pastName || !this.#names.includes(name));
  }

  /**
   * A cache for a prompt of so many tokens, with what a prefix has computed of it: by the name of its one input. What goes wrong in one of
   * its runs, and that a signal stopped it, is told to `fail` alone.
   */
  begin(
    tokens: number,
    prefix: Prefix | undefined,
    { fail, signal }: Pick<Text, 'fail' | 'signal'>,
  ): Readonly<Record<string, ort.Tensor>> {
    const cache = new AnswerCache(this.#names, this.config, tokens + 1, prefix);
    return { [pastName]: this.#standFor({ cache, fail, signal }, prefix?.ids.length ?? 0) };
  }

  /**
   * Runs `input_ids` [1, tokens] behind the cache, a long prompt in parts. A run that fails never ends for the library, which would write
   * the inputs to the console, a user's history among them.
   */
  async run(feeds: Feeds): Promise<Record<string, ort.Tensor>> {
    const text = this.#texts.get(feeds[pastName]);
    if (text === undefined) throw new Error('internal: a run without a cache of this session');
    try {
      return await this.#run(text, feeds);
    } catch (error) {
      text.fail(error);
      return new Promise(() => undefined);
    }
  }

  async #run(text: Text, feeds: Feeds): Promise<Record<string, ort.Tensor>> {
    const { [pastName]: standing, input_ids: ids, user_embeddings: user, blind_length: blind } = feeds;
    const { cache, signal } = text;
    if (ids.dims[0] !== 1) throw new Error('internal: a run of several texts');
    const past = standing.dims[2];
    const total = past + ids.dims[1];
    cache.reserve(total, past);
    const { logits } = await runPrompt(this.session, this.config, cache, {
      ids: Array.from(ids.data as BigInt64Array, Number),
      past,
      blindTokens: blind === undefined ? 0 : Number((blind.data as BigInt64Array)[0]),
      user,
      signal,
    });
    // Otherwise the library takes any token for the best one.
    greedyToken(logits.data as Float32Array);
    return { logits: logits as ort.Tensor, [presentName]: this.#standFor(text, total) };
  }

  #standFor(text: Text, positions: number): ort.Tensor {
    const tensor = new ort.Tensor('float32', new Float32Array(0), [1, this.config.keyValueHeads, positions, 0]);
    this.#texts.set(tensor, text);
    return tensor;
  }
}
