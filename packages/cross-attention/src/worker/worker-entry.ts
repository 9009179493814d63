import { parentPort, workerData } from 'node:worker_threads';
import type { PrefixTrie } from '../ranking/prefix-trie.js';
import { openSavedModel } from '../saved-model.js';
import type { Generation } from '../serving/generation.js';
import type { Prefix } from '../serving/prefix.js';
import type { GenerateRequest, PrefixRequest, RankRequest, ScheduledRequest } from '../serving/request.js';
import type { RequestScheduler } from '../serving/scheduler.js';
import type { ServedModel } from '../serving/served-model.js';
import { packError } from './error-transfer.js';
import { trieOf } from './protocol.js';
import type { Call, FromWorker, Methods, SentRequest, ToWorker, WorkerSetting } from './protocol.js';

const port = parentPort!;
const post = (message: FromWorker, transfer: readonly ArrayBuffer[] = []) => port.postMessage(message, [...transfer]);

/** One model in this thread, and the calls that are under way on it. */
class WorkerSide {
  readonly #kept = new Map<number, Prefix | PrefixTrie>();
  readonly #running = new Map<number, { readonly stop: AbortController; readonly done: Promise<void> }>();

  constructor(
    private readonly served: ServedModel,
    private readonly scheduler: RequestScheduler,
  ) {}

  receive(message: ToWorker): void {
    switch (message.kind) {
      case 'call': {
        const stop = new AbortController();
        const done = this.#answer(message.id, message, stop.signal).finally(() => this.#running.delete(message.id));
        this.#running.set(message.id, { stop, done });
        return;
      }
      case 'abort':
        this.#running.get(message.id)?.stop.abort();
        return;
      case 'keep':
        this.#kept.set(message.key, message.kept.kind === 'prefix' ? message.kept.prefix : trieOf(message.kept));
        return;
      case 'forget':
        this.#kept.delete(message.key);
        return;
      case 'close':
        void this.#close();
        return;
      default:
        message satisfies never;
    }
  }

  async #answer(id: number, call: Call, signal: AbortSignal): Promise<void> {
    try {
      const result = await this.#call(id, call, signal);
      // What is made for one request alone is handed over; nobody here reads it again.
      const transfer =
        call.method === 'prefix'
          ? Array.from((result as Prefix).keysAndValues.values(), ({ buffer }) => buffer as ArrayBuffer)
          : [];
      post({ kind: 'result', id, result }, transfer);
    } catch (error) {
      post({ kind: 'error', id, error: packError(error) });
    }
  }

  async #call(id: number, call: Call, signal: AbortSignal): Promise<Methods[Call['method']]['result']> {
    const { served } = this;
    switch (call.method) {
      case 'userState':
        return served.userState(call.request);
      case 'storedUserState':
        return served.storedUserState(call.request);
      case 'prefix':
        return served.prefix({ ...call.request, signal } as unknown as PrefixRequest);
      case 'rank':
        return served.rank({ ...this.#received(call.request), ...retrieved(call.request), signal } as unknown as RankRequest);
      case 'generate': {
        const generation = this.#generate(call.request, signal);
        const inWords = served.tokenizer.isPresent;
        if (inWords) for await (const text of generation.textStream) post({ kind: 'piece', id, text });
        const [ids, text, usage, timings] = await Promise.all([
          generation.tokenIds,
          inWords ? generation.text : '',
          generation.usage,
          generation.timings,
        ]);
        return { ids, text, usage, timings };
      }
      default:
        return call satisfies never;
    }
  }

  #generate(request: Methods['generate']['request'], signal: AbortSignal): Generation {
    const whole = { ...this.#received(request), signal };
    return request.settings === undefined
      ? this.scheduler.generate(whole as unknown as ScheduledRequest)
      : this.served.generate(whole as unknown as GenerateRequest);
  }

  /** A request with the things that it names by number. */
  #received(request: SentRequest<object>): object {
    const { prefix, trie, ...rest } = request;
    return {
      ...rest,
      ...(prefix === undefined ? {} : { prefix: this.#kept.get(prefix) }),
      ...(trie === undefined ? {} : { trie: this.#kept.get(trie) }),
    };
  }

  async #close(): Promise<void> {
    const running = [...this.#running.values()];
    for (const { stop } of running) stop.abort();
    await Promise.all(running.map(({ done }) => done));
    await this.served.dispose();
    port.close();
  }
}

/** What the other thread has retrieved. */
function retrieved({ retrieve }: Methods['rank']['request']): Pick<RankRequest, 'retrieve'> {
  if (retrieve === undefined) return {};
  const { scores, ...rest } = retrieve;
  return { retrieve: { ...rest, retriever: () => scores } };
}

async function open({ folder, rows, ...options }: WorkerSetting): Promise<void> {
  try {
    const served = await openSavedModel(folder, options);
    const side = new WorkerSide(served, served.scheduler({ rows }));
    port.on('message', (message: ToWorker) => side.receive(message));
    post({ kind: 'ready', encoder: served.encoder, userStateEncoder: served.userStateEncoder });
  } catch (error) {
    post({ kind: 'failed', error: packError(error) });
  }
}

void open(workerData as WorkerSetting);
