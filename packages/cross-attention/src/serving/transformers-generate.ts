import * as transformers from '@huggingface/transformers';
import { BaseStreamer, DynamicCache, InterruptableStoppingCriteria, PretrainedConfig, Tensor } from '@huggingface/transformers';
import type { PreTrainedModel } from '@huggingface/transformers';
import type * as ort from 'onnxruntime-node';
import { familyOf } from '../families/families.js';
import { toHuggingFaceConfig } from '../folder/decoder-config.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import type { TextTokenizer } from '../text/text-tokenizer.js';
import type { InPlaceSession } from './in-place-session.js';
import { NucleusProcessor } from './nucleus-processor.js';
import type { ReadPrompt } from './prompt-reader.js';
import { TextPieces } from './text-pieces.js';

/** transformers.js's own model around a session that is open already. */
export function transformersModel(config: DecoderConfig, session: InPlaceSession): PreTrainedModel {
  const json = toHuggingFaceConfig(config);
  const ids = { bos_token_id: json.bos_token_id, eos_token_id: json.eos_token_id, pad_token_id: json.pad_token_id };
  const model = new transformers[familyOf(config).architecture](
    new PretrainedConfig(json),
    { model: session },
    { generation_config: ids },
  );
  // Otherwise the library drops the input silently.
  for (const name of ['user_embeddings', 'blind_length']) if (session.inputNames.includes(name)) model.forward_params.push(name);
  return model;
}

export interface GenerateOnceOptions {
  readonly prompt: ReadPrompt;
  readonly session: InPlaceSession;
  readonly user: { readonly packed: Float32Array; readonly shape: readonly number[] } | undefined;
  readonly maxNewTokens: number;
  /** More of transformers.js's generation settings: `do_sample`, `temperature`, `top_k`, ...; see `checkSettings`. */
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
  const { user, signal, session } = options;
  const { ids, blindTokens, prefix } = options.prompt;
  signal?.throwIfAborted();
  const { length } = ids;
  const streamer = new PieceStreamer(new TextPieces(tokenizer, options.onText), options.onToken);
  const stopping = new InterruptableStoppingCriteria();
  const stop = () => stopping.interrupt();
  signal?.addEventListener('abort', stop, { once: true });
  let fail!: (reason: unknown) => void;
  const failed = new Promise<never>((_, reject) => (fail = reject));
  try {
    const generated = model.generate({
      ...options.settings,
      input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, length]),
      attention_mask: new Tensor('int64', new BigInt64Array(length).fill(1n), [1, length]),
      blind_length: new Tensor('int64', BigInt64Array.of(BigInt(blindTokens)), []),
      past_key_values: new DynamicCache(inTransformers(session.begin(length, prefix, { fail, signal }))),
      ...(user === undefined ? {} : { user_embeddings: new Tensor('float32', user.packed, [...user.shape]) }),
      max_new_tokens: options.maxNewTokens,
      streamer,
      logits_processor: [...[options.settings.logits_processor ?? []].flat(), ...NucleusProcessor.of(options.settings)],
      stopping_criteria: [stopping, ...[options.settings.stopping_criteria ?? []].flat()],
    } as unknown as Parameters<PreTrainedModel['generate']>[0]);
    await Promise.race([generated, failed]);
  } finally {
    signal?.removeEventListener('abort', stop);
  }
  signal?.throwIfAborted();
  return streamer.pieces.ids;
}

/** The runtime's tensors as transformers.js wraps them. */
const inTransformers = (tensors: Readonly<Record<string, ort.Tensor>>): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, new Tensor(tensor)]));

/** transformers.js's tokens as text. The first thing that it puts is the prompt. */
class PieceStreamer extends BaseStreamer {
  #isPrompt = true;

  constructor(
    readonly pieces: TextPieces,
    private readonly onToken: () => void,
  ) {
    super();
  }

  override put([ids]: bigint[][]): void {
    if (!this.#isPrompt) {
      this.onToken();
      this.pieces.push(...ids.map(Number));
    }
    this.#isPrompt = false;
  }

  override end(): void {
    this.pieces.end();
  }
}
