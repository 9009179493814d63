import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { ModelWorkerError } from '../errors.js';
import type { PrefixTrie } from '../ranking/prefix-trie.js';
import { preferWholeScores } from '../serving/attention-kernel.js';
import type { Prefix } from '../serving/prefix.js';
import { unpackError } from './error-transfer.js';
import { contentsOfTrie } from './protocol.js';
import type { Call, FromWorker, Kept, Methods, ToWorker, WorkerSetting } from './protocol.js';

/** Most prefixes and tries that a worker keeps; the one that was not used for longest is sent again. */
const mostKept = 32;

interface Pending {
  readonly resolve: (result: never) => void;
  readonly reject: (reason: unknown) => void;
  readonly onPiece: ((text: string) => void) | undefined;
}

/** What a worker says of its model. */
export type WorkerGreeting = Extract<FromWorker, { readonly kind: 'ready' }>;

/** One worker thread with one model, seen from the thread that asks. */
export class ModelWorker {
  readonly #pending = new Map<number, Pending>();
  /** Numbers of what the worker keeps, the one that was not used for longest first. */
  readonly #kept = new Set<number>();
  readonly #ended: Promise<void>;
  #nextId = 0;
  #failure: Error | undefined;

  private constructor(private readonly worker: Worker) {
    worker.on('message', (message: FromWorker) => this.#receive(message));
    worker.on('error', (error) => this.#fail(new ModelWorkerError(error.message, error)));
    this.#ended = new Promise((resolve) =>
      worker.on('exit', (code) => {
        this.#fail(new ModelWorkerError(`it ended with code ${code}`));
        resolve();
      }),
    );
  }

  static async start(setting: WorkerSetting): Promise<{ worker: ModelWorker; greeting: WorkerGreeting }> {
    // The built file by the package's own name for it: a thread runs JavaScript, wherever this module was loaded from.
    const entry = createRequire(import.meta.url).resolve('#model-worker');
    preferWholeScores();
    const thread = new Worker(entry, { workerData: setting });
    const worker = new ModelWorker(thread);
    try {
      const greeting = await new Promise<WorkerGreeting>((resolve, reject) => {
        thread.once('message', (message: FromWorker) => {
          if (message.kind === 'ready') resolve(message);
          else if (message.kind === 'failed') reject(unpackError(message.error));
        });
        thread.once('error', (error) => reject(new ModelWorkerError(error.message, error)));
        thread.once('exit', (code) => reject(new ModelWorkerError(`it ended with code ${code}`)));
      });
      return { worker, greeting };
    } catch (error) {
      await thread.terminate();
      throw error;
    }
  }

  /** Calls that are under way. */
  get load(): number {
    return this.#pending.size;
  }

  /** Why nothing more comes from the worker; undefined while it lives. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Asks the model something. A signal stops it there, and rejects with the signal's reason. */
  call<C extends Call>(
    call: C,
    { signal, onPiece }: { readonly signal?: AbortSignal; readonly onPiece?: (text: string) => void } = {},
  ): Promise<Methods[C['method']]['result']> {
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    const id = this.#nextId++;
    const stop = () => this.#post({ kind: 'abort', id });
    return new Promise<Methods[C['method']]['result']>((resolve, reject) => {
      this.#post({ kind: 'call', id, ...call });
      this.#pending.set(id, { resolve: resolve as Pending['resolve'], reject, onPiece });
      signal?.addEventListener('abort', stop, { once: true });
    })
      .catch((error: unknown) => {
        throw signal?.aborted ? signal.reason : error;
      })
      .finally(() => signal?.removeEventListener('abort', stop));
  }

  /** Sees to it that the worker has something that requests name by this number. */
  keep(key: number, value: Prefix | PrefixTrie): number {
    if (!this.#kept.delete(key)) this.#post({ kind: 'keep', key, kept: keptOf(value) });
    this.#kept.add(key);
    for (const oldest of this.#kept) {
      if (this.#kept.size <= mostKept) break;
      this.#kept.delete(oldest);
      this.#post({ kind: 'forget', key: oldest });
    }
    return key;
  }

  /** Stops what is under way, closes the model, and resolves when the thread has ended. */
  async close(reason: Error): Promise<void> {
    this.#fail(reason);
    this.#post({ kind: 'close' });
    await this.#ended;
  }

  #post(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  #receive(message: FromWorker): void {
    if (message.kind === 'ready' || message.kind === 'failed') return;
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    if (message.kind === 'piece') {
      pending.onPiece?.(message.text);
      return;
    }
    this.#pending.delete(message.id);
    if (message.kind === 'result') pending.resolve(message.result as never);
    else pending.reject(unpackError(message.error));
  }

  /** Nothing more comes from the worker. */
  #fail(reason: Error): void {
    this.#failure ??= reason;
    for (const { reject } of this.#pending.values()) reject(this.#failure);
    this.#pending.clear();
  }
}

const keptOf = (value: Prefix | PrefixTrie): Kept =>
  'keysAndValues' in value ? { kind: 'prefix', prefix: value } : { kind: 'trie', ...contentsOfTrie(value) };
