import { availableParallelism } from 'node:os';
import { checkCount } from '../check-count.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { readDecoderConfig } from '../folder/hugging-face.js';
import type { CatalogueRanker } from '../ranking/catalogue-ranker.js';
import type { Retrieval } from '../ranking/by-retrieval.js';
import type { PrefixTrie } from '../ranking/prefix-trie.js';
import type { IntegerOption } from '../serving/engine.js';
import { checkSettings } from '../serving/check-settings.js';
import { generationOf } from '../serving/generation.js';
import type { Generation } from '../serving/generation.js';
import type { Prefix } from '../serving/prefix.js';
import type { GenerateRequest, PrefixRequest, RankRequest, Ranking, ScheduledRequest } from '../serving/request.js';
import { assertLabelled, assertPacked, isUserState } from '../serving/user-state.js';
import type { ReadableEmbedding, StoredUserState, UserState } from '../serving/user-state.js';
import { TextTokenizer } from '../text/text-tokenizer.js';
import { ModelWorker } from './model-worker.js';
import type { WorkerGreeting } from './model-worker.js';
import type { Methods, SentRetrieval } from './protocol.js';

export interface WorkerOptions extends IntegerOption {
  /** Threads that hold a model each; every one takes the model's memory. Default 1. */
  readonly workers?: number;
  /** Threads of onnxruntime, divided among the workers; the machine's cores by default. */
  readonly threads?: number;
  /** Most answers that grow at once in one worker. Default 16. */
  readonly rows?: number;
  /** Most rankings, and answers by `settings`, that run at once in one worker; the others wait in turn. Default 4. */
  readonly atOnce?: number;
}

/** What can be asked in a worker: transformers.js's generation with `settings`, the scheduler's without. */
export type WorkerGenerateRequest = GenerateRequest & Pick<ScheduledRequest, 'sampling'>;

/**
 * A saved model in worker threads, so that the event loop of the thread that asks stays free. It answers as a `ServedModel` does;
 * requests for text are batched in each worker by its `RequestScheduler`. Errors are those of a `ServedModel`; all of them reject, also
 * those that its `generate` throws at once.
 */
export class WorkerModel {
  readonly #keys = new WeakMap<object, number>();
  #nextKey = 0;
  #closing: Promise<void> | undefined;

  private constructor(
    readonly config: DecoderConfig,
    readonly tokenizer: TextTokenizer,
    private readonly workers: readonly ModelWorker[],
    private readonly greeting: WorkerGreeting,
  ) {}

  static async open(
    folder: string,
    { workers = 1, threads = availableParallelism(), rows = 16, atOnce = 4, int8 }: WorkerOptions = {},
  ): Promise<WorkerModel> {
    for (const [name, value] of Object.entries({ workers, threads, rows, atOnce })) checkCount(name, value);
    const setting = { folder, rows, atOnce, int8, threads: Math.max(1, Math.floor(threads / workers)) };
    const started = await Promise.allSettled(Array.from({ length: workers }, () => ModelWorker.start(setting)));
    const open = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const failed = started.find((each) => each.status === 'rejected');
    if (failed !== undefined) {
      await Promise.all(open.map(({ worker }) => worker.close(disposed())));
      throw failed.reason;
    }
    const config = await readDecoderConfig(folder);
    const tokenizer = await TextTokenizer.loadIfPresent(folder, config);
    return new WorkerModel(
      config,
      tokenizer,
      open.map(({ worker }) => worker),
      open[0].greeting,
    );
  }

  /** Calls that are under way and that wait, in all workers. */
  get load(): number {
    return this.workers.reduce((sum, { load }) => sum + load, 0);
  }

  /** Hash of the encoder whose embeddings the model reads; undefined where it reads none. */
  get encoder(): string | undefined {
    return this.greeting.encoder;
  }

  /** See `ServedModel.userStateEncoder`. */
  get userStateEncoder(): string | undefined {
    return this.greeting.userStateEncoder;
  }

  /** See `ServedModel.generate` and `RequestScheduler.generate`. */
  generate(request: WorkerGenerateRequest): Generation {
    return generationOf(async (emit) => {
      const worker = this.#worker();
      if (request.settings !== undefined && request.sampling !== undefined)
        throw new RangeError('A request has settings of transformers.js or sampling of the scheduler, not both.');
      checkSettings(request.settings);
      for (const name of ['stopping_criteria', 'logits_processor'])
        if (request.settings?.[name])
          throw new TypeError(
            `settings.${name} is code, which cannot be sent to a worker thread. Open the model in this thread (LanguageModel.open), or stop the answer by a signal.`,
          );
      const { signal, ...rest } = request;
      const sent = this.#sent(rest, worker) as Methods['generate']['request'];
      return worker.call({ method: 'generate', request: sent }, { onPiece: emit, ...(signal === undefined ? {} : { signal }) });
    }, this.tokenizer);
  }

  /**
   * See `ServedModel.rank`. A `CatalogueRanker` is code that no thread can be sent, and rejects with a `TypeError`: give a trie, `item-tokens`
   * or `label-tokens`, with `retrieve` where something has retrieved what is ranked; its retriever runs in this thread.
   */
  async rank(request: RankRequest): Promise<Ranking> {
    if (typeof request.by === 'object' && (request.by as CatalogueRanker | null) !== null)
      throw new TypeError(
        `The ranker (${request.by.way}) cannot be sent to a worker thread; give by: 'item-tokens', or a trie, and retrieve for what was retrieved.`,
      );
    const { signal, exclude, retrieve, ...rest } = request;
    signal?.throwIfAborted();
    this.#worker();
    const retrieved = retrieve === undefined ? undefined : await scoresOf(retrieve);
    signal?.throwIfAborted();
    const worker = this.#worker();
    const whole = { ...rest, ...(exclude && { exclude: [...exclude] }), ...(retrieved && { retrieve: retrieved }) };
    const sent = this.#sent(whole, worker);
    return worker.call({ method: 'rank', request: sent as Methods['rank']['request'] }, signal === undefined ? {} : { signal });
  }

  /** See `ServedModel.userState`. */
  async userState(embedding: ReadableEmbedding): Promise<UserState> {
    return this.#worker().call({ method: 'userState', request: compact(embedding) as ReadableEmbedding });
  }

  /** See `ServedModel.storedUserState`. */
  async storedUserState(user: ReadableEmbedding | UserState): Promise<StoredUserState> {
    return this.#worker().call({ method: 'storedUserState', request: compact(user) });
  }

  /** See `ServedModel.prefix`; all workers take it. */
  async prefix({ signal, ...request }: PrefixRequest): Promise<Prefix> {
    return this.#worker().call({ method: 'prefix', request }, signal === undefined ? {} : { signal });
  }

  /** The worker with the least to do, of those whose threads live; throws how they ended where none is left. */
  #worker(): ModelWorker {
    if (this.#closing !== undefined) throw disposed();
    const living = this.workers.filter(({ failure }) => failure === undefined);
    if (living.length === 0) throw this.workers[0].failure!;
    return living.reduce((least, worker) => (worker.load < least.load ? worker : least));
  }

  /** A request as a message: prefix and trie are sent once, and named by a number from then on. */
  #sent(
    { prefix, trie, user, ...rest }: { prefix?: Prefix; trie?: PrefixTrie; user?: ReadableEmbedding | UserState },
    worker: ModelWorker,
  ): object {
    return {
      ...rest,
      ...(user === undefined ? {} : { user: compact(user) }),
      ...(prefix === undefined ? {} : { prefix: worker.keep(this.#keyOf(prefix), prefix) }),
      ...(trie === undefined ? {} : { trie: worker.keep(this.#keyOf(trie), trie) }),
    };
  }

  #keyOf(value: object): number {
    let key = this.#keys.get(value);
    if (key === undefined) this.#keys.set(value, (key = this.#nextKey++));
    return key;
  }

  /** Stops what is under way and closes the models; resolves when the threads have ended. */
  dispose(): Promise<void> {
    this.#closing ??= Promise.all(this.workers.map((worker) => worker.close(disposed()))).then(() => undefined);
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

/** A retrieval as a message: its retriever's scores. */
async function scoresOf({ retriever, ...rest }: Retrieval): Promise<SentRetrieval> {
  return { ...rest, scores: Float64Array.from(await retriever()) };
}

/** The numbers of a user alone, and nothing else of what they are a part of: a message takes a view's whole buffer along. */
function compact(user: ReadableEmbedding | UserState): ReadableEmbedding | UserState {
  if (isUserState(user)) {
    assertPacked(user);
    return { ...user, packed: user.packed.slice() };
  }
  assertLabelled(user);
  const { encoder, dtype, shape, data } = user;
  return { encoder, dtype, shape, data: data.slice() };
}

const disposed = () => new Error('This model was disposed; open it again.');
