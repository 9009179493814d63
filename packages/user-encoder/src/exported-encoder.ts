import { EventTokenizer, TokenizerMismatchError } from '@user-llm/event-tokenizer/web';
import type { EventColumns, LoadOptions } from '@user-llm/event-tokenizer/web';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import type { EncoderConfig } from './config.js';
import { files, parseManifest, type EncoderManifest } from './encoder-manifest.js';
import { EncoderDisposedError, EncoderFormatError, EncoderHashError, NoItemScoresError } from './errors.js';
import { bagSizes, vector } from './event-feeds.js';
import { folderReader, type FileReader } from './file-reader.js';
import { itemHeadOf, saidOfNext, takenIn } from './item-scores.js';
import { checkNames } from './option-names.js';
import { reachOf, roomOf } from './reach.js';
import { scoringFeeds } from './scoring-feeds.js';
import { latest } from './span.js';
import type { TrainingRecord } from './training-record.js';
import { embeddingOf, embeddingOptions, readingOf, type EmbeddingOptions, type UserEmbedding } from './user-embedding.js';
import { checkTokenizer, indexOfUser } from './user-index.js';
import { windowFeeds } from './window-feeds.js';
import { lengthsInput } from './window-inputs.js';

/** What is used of an onnxruntime; onnxruntime-web, onnxruntime-node and onnxruntime-react-native all have it. */
export interface OnnxRuntime {
  readonly InferenceSession: { create(model: Uint8Array, options?: object): Promise<OnnxSession> };
  readonly Tensor: new (dtype: 'int32' | 'float32', data: Int32Array | Float32Array, shape: readonly number[]) => unknown;
}

export interface OnnxSession {
  run(feeds: Record<string, unknown>, outputs: readonly string[]): Promise<Readonly<Record<string, { readonly data: unknown }>>>;
  release(): Promise<void>;
}

export interface ExportedEncoderOptions extends LoadOptions {
  /** The module of an onnxruntime, such as `import * as ort from 'onnxruntime-web'`. */
  readonly runtime: OnnxRuntime;
  /** Of `InferenceSession.create`, such as `{ executionProviders: ['webgpu'] }`. Default: the runtime's own. */
  readonly session?: object;
  /** The tokenizer of the events, where the folder has none. */
  readonly tokenizer?: EventTokenizer;
  readonly signal?: AbortSignal;
}

interface Parts {
  readonly manifest: EncoderManifest;
  readonly tokenizer: EventTokenizer;
  readonly runtime: OnnxRuntime;
  readonly session: OnnxSession;
}

/**
 * An encoder from the files that `UserEncoder.save` wrote, in a browser or wherever else an onnxruntime runs. It encodes and scores, and
 * trains nothing; its embeddings are those of the encoder that was saved, within the rounding of float32.
 */
export class ExportedEncoder {
  readonly config: EncoderConfig;
  /** SHA-256 (hexadecimal) of the encoder that was saved: its embeddings are of one kind with those made in Node. */
  readonly hash: string;
  readonly tokenizerHash: string;
  readonly tokenizer: EventTokenizer;
  /** What pretraining did; null for an encoder that was never pretrained. */
  readonly training: TrainingRecord | null;
  private readonly runtime: OnnxRuntime;
  private readonly session: OnnxSession;
  /** The run before: a session does one at a time. */
  private before: Promise<unknown> = Promise.resolve();
  private disposing: Promise<void> | undefined;

  private constructor({ manifest, tokenizer, runtime, session }: Parts) {
    this.config = manifest.config;
    this.hash = manifest.hash;
    this.tokenizerHash = manifest.tokenizer;
    this.tokenizer = tokenizer;
    this.training = manifest.training;
    this.runtime = runtime;
    this.session = session;
  }

  /**
   * Reads `encoder.json`, `tokenizer.json` and `onnx/encoder.onnx`; the weights in safetensors are for training and not read.
   *
   * @param source address of the folder, or a function that reads a file of it
   * @throws EncoderFormatError, EncoderHashError (files of two encoders, or damaged), TokenizerMismatchError and what
   *   `EventTokenizer.fromJSON` throws, the signal's reason
   */
  static async load(source: string | URL | FileReader, options: ExportedEncoderOptions): Promise<ExportedEncoder> {
    const { runtime, signal, embedders } = options;
    const name = typeof source === 'function' ? 'The folder' : String(source);
    const read = typeof source === 'function' ? source : folderReader(source, signal);
    const need = async (file: string): Promise<Uint8Array> => {
      const bytes = await read(file);
      signal?.throwIfAborted();
      if (!bytes) throw new EncoderFormatError(name, `there is no ${file} in it`);
      return bytes;
    };
    const manifest = parseManifest(name, textOf(await need(files.manifest)));
    const [onnx, saved] = await Promise.all([need(files.onnx), options.tokenizer ? undefined : need(files.tokenizer)]);
    checkOnnx(`${name} (${files.onnx})`, manifest, onnx);
    const tokenizer = options.tokenizer ?? EventTokenizer.fromJSON(jsonOf(name, files.tokenizer, saved!), { embedders });
    if (tokenizer.hash !== manifest.tokenizer) throw new TokenizerMismatchError(manifest.tokenizer, tokenizer.hash);
    const session = await runtime.InferenceSession.create(onnx, options.session);
    return new ExportedEncoder({ manifest, tokenizer, runtime, session });
  }

  /** Embeddings of all users, in the order of the columns, one user at a time. @throws TokenizerMismatchError, EncoderDisposedError */
  async *encode(
    events: EventColumns,
    { signal, ...options }: EmbeddingOptions & { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<UserEmbedding, void, undefined> {
    checkTokenizer(events, this.tokenizerHash);
    for (let user = 0; user < events.users.length; user++) {
      signal?.throwIfAborted();
      yield await this.encodeUser(events, user, options);
    }
  }

  /**
   * The embedding of one user (by name, or by index in the columns): what `UserEncoder.encodeUser` gives, without a state.
   *
   * @throws TokenizerMismatchError, UnknownUserError, EncoderOptionError for an option that there is not (`state` is one), EncoderDisposedError
   */
  async encodeUser(events: EventColumns, user: string | number, options: EmbeddingOptions = {}): Promise<UserEmbedding> {
    checkNames(options, embeddingOptions);
    const index = indexOfUser(events, user, this.tokenizerHash);
    return embeddingOf(this, readingOf(events, index), await this.run('tokens', events, index), options);
  }

  /**
   * The item head's scores of what the user (by name, or by index in the columns) does next: [V] logits by item id, as
   * `UserEncoder.scoreHistory` gives them.
   *
   * @throws TokenizerMismatchError, UnknownUserError, NoItemScoresError, EncoderDisposedError
   */
  async scoreHistory(events: EventColumns, user: string | number): Promise<Float32Array> {
    if (itemHeadOf(this.training) === 'none') throw new NoItemScoresError(this.hash);
    const index = indexOfUser(events, user, this.tokenizerHash);
    const [start, end] = events.offsets.subarray(index, index + 2);
    return saidOfNext(await this.run('scores', events, index), this.training, takenIn(this.config, events, { start, end }));
  }

  /** Releases the session when its runs have ended; encoding and scoring give an EncoderDisposedError afterwards. */
  async dispose(): Promise<void> {
    await (this.disposing ??= this.before.then(() => this.session.release()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  private async run(output: 'tokens' | 'scores', events: EventColumns, user: number): Promise<Float32Array> {
    if (this.disposing) throw new EncoderDisposedError();
    const { config, runtime } = this;
    const [start, end] = events.offsets.subarray(user, user + 2);
    const window = latest({ start, end }, reachOf(config, output));
    const count = window.end - window.start;
    const length = Math.max(1, count + roomOf(config, output));
    const feeds =
      output === 'scores'
        ? scoringFeeds(config, events, [window], length)
        : {
            ...windowFeeds(config, events, [window], length, bagSizes(config.fields, events, [window])),
            [lengthsInput]: vector([count]),
          };
    const tensors = Object.fromEntries(
      Object.entries(feeds).map(([name, { dtype, data, shape }]) => [
        name,
        new runtime.Tensor(dtype as 'int32' | 'float32', data as Int32Array | Float32Array, shape),
      ]),
    );
    const found = this.before.then(() => this.session.run(tensors, [output]));
    this.before = found.catch(() => undefined);
    return (await found)[output].data as Float32Array;
  }
}

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

function jsonOf(source: string, file: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(textOf(bytes));
  } catch (error) {
    throw new EncoderFormatError(source, `${file} is not JSON, or was cut short`, { cause: error });
  }
}

/** The ONNX file is the one that was written with the manifest. */
function checkOnnx(source: string, { onnx }: EncoderManifest, bytes: Uint8Array): void {
  if (!onnx) return;
  const found = bytesToHex(sha256(bytes));
  if (found !== onnx.sha256) throw new EncoderHashError(source, onnx.sha256, found);
}
