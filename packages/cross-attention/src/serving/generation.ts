import {
  BaseStreamer,
  DynamicCache,
  InterruptableStoppingCriteria,
  LlamaForCausalLM,
  MistralForCausalLM,
  PretrainedConfig,
  Qwen2ForCausalLM,
  Qwen3ForCausalLM,
  Tensor,
} from '@huggingface/transformers';
import type { PreTrainedModel } from '@huggingface/transformers';
import type * as ort from 'onnxruntime-node';
import { toHuggingFaceConfig } from '../folder/decoder-config.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { TextTokenizer } from '../text/text-tokenizer.js';
import type { Prefix } from './prefix.js';
import type { ReadPrompt } from './prompt-reader.js';

/** What a request cost, in tokens and in floating-point operations of its matrix products. */
export interface Usage {
  readonly promptTokens: number;
  readonly answerTokens: number;
  readonly flops: number;
}

/** Wall-clock of a request. */
export interface Timings {
  /** The user's keys and values, 0 where they were there already. */
  readonly userMs: number;
  /** From the request to the first token, the user included. */
  readonly firstTokenMs: number;
  readonly totalMs: number;
}

/** An answer that is being made. Everything rejects with the signal's reason when it was stopped. */
export interface Generation {
  /** Pieces of the text as they come; iterating late gives all of them. */
  readonly textStream: AsyncIterable<string>;
  readonly text: Promise<string>;
  readonly tokenIds: Promise<readonly number[]>;
  readonly usage: Promise<Usage>;
  readonly timings: Promise<Timings>;
}

const classes = {
  llama: LlamaForCausalLM,
  mistral: MistralForCausalLM,
  qwen2: Qwen2ForCausalLM,
  qwen3: Qwen3ForCausalLM,
} as const;

/** transformers.js's own model around a session that is open already. */
export function transformersModel(config: DecoderConfig, session: ort.InferenceSession, generation: object): PreTrainedModel {
  const json = toHuggingFaceConfig(config);
  const defaults = { bos_token_id: json.bos_token_id, eos_token_id: json.eos_token_id, pad_token_id: json.pad_token_id };
  const model = new classes[config.family](
    new PretrainedConfig(json),
    { model: session },
    { generation_config: { ...defaults, ...generation } },
  );
  // Otherwise the library drops the input silently.
  for (const name of ['user_embeddings', 'blind_length']) if (session.inputNames.includes(name)) model.forward_params.push(name);
  return model;
}

export interface GenerateOnceOptions {
  readonly prompt: ReadPrompt;
  readonly config: DecoderConfig;
  readonly user: { readonly packed: Float32Array; readonly shape: readonly number[] } | undefined;
  readonly maxNewTokens: number;
  /** More of transformers.js's generation settings: `do_sample`, `temperature`, `top_k`, ... */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly signal: AbortSignal | undefined;
  readonly onToken: () => void;
  readonly onText: (piece: string) => void;
}

/** Runs transformers.js's `generate` once, and gives the answer's token ids. */
export async function generateOnce(
  model: PreTrainedModel,
  tokenizer: TextTokenizer,
  options: GenerateOnceOptions,
): Promise<number[]> {
  const { user, signal, config } = options;
  const { ids, blindTokens, prefix } = options.prompt;
  signal?.throwIfAborted();
  const { length } = ids;
  const streamer = new PieceStreamer(tokenizer, options.onToken, options.onText);
  const stopping = new InterruptableStoppingCriteria();
  const stop = () => stopping.interrupt();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await model.generate({
      ...options.settings,
      input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, length]),
      attention_mask: new Tensor('int64', new BigInt64Array(length).fill(1n), [1, length]),
      blind_length: new Tensor('int64', BigInt64Array.of(BigInt(blindTokens)), []),
      ...(prefix === undefined ? {} : { past_key_values: cacheOf(prefix, config) }),
      ...(user === undefined ? {} : { user_embeddings: new Tensor('float32', user.packed, [...user.shape]) }),
      max_new_tokens: options.maxNewTokens,
      streamer,
      stopping_criteria: stopping,
    } as unknown as Parameters<PreTrainedModel['generate']>[0]);
  } finally {
    signal?.removeEventListener('abort', stop);
  }
  signal?.throwIfAborted();
  return streamer.ids;
}

/** A prefix as transformers.js's cache; the runtime copies it, and leaves it as it is. */
function cacheOf({ ids, keysAndValues }: Prefix, { keyValueHeads, headSize }: DecoderConfig): DynamicCache {
  const shape = [1, keyValueHeads, ids.length, headSize];
  return new DynamicCache(
    Object.fromEntries(Array.from(keysAndValues, ([name, values]) => [name, new Tensor('float32', values, shape)])),
  );
}

/** Turns tokens into text as soon as it is certain: a character whose bytes are not all there yet waits. */
class PieceStreamer extends BaseStreamer {
  readonly ids: number[] = [];
  #isPrompt = true;
  #written = '';

  constructor(
    private readonly tokenizer: TextTokenizer,
    private readonly onToken: () => void,
    private readonly onText: (piece: string) => void,
  ) {
    super();
  }

  override put([ids]: bigint[][]): void {
    if (this.#isPrompt) {
      this.#isPrompt = false;
      return;
    }
    this.ids.push(...ids.map(Number));
    this.onToken();
    if (!this.tokenizer.isPresent) return;
    const text = this.tokenizer.decode(this.ids);
    if (text.endsWith('\ufffd') || !text.startsWith(this.#written)) return;
    this.#write(text);
  }

  override end(): void {
    if (!this.tokenizer.isPresent) return;
    const text = this.tokenizer.decode(this.ids);
    if (text.startsWith(this.#written)) this.#write(text);
  }

  #write(text: string): void {
    if (text.length > this.#written.length) this.onText(text.slice(this.#written.length));
    this.#written = text;
  }
}
