import { Random } from '@user-llm/onnx-autograd';
import * as ort from 'onnxruntime-node';
import { checkCount } from '../check-count.js';
import type { AdmittedPrompt, ReadUser, ServingEngine } from './engine.js';
import { generationOf } from './generation.js';
import type { Answer, Generation } from './generation.js';
import { placePrefix } from './prefix.js';
import type { GenerateRequest, ScheduledRequest } from './request.js';
import { RowCache } from './row-cache.js';
import { checkSampling, greedyToken, sampleToken } from './sampling.js';
import { TextPieces } from './text-pieces.js';
import { cacheNamesOf, promptPart, runTokens } from './token-run.js';
import type { CacheBuffers, RunOutputs } from './token-run.js';

export interface SchedulerOptions {
  /** Most answers that grow at once; the others wait. Default 16. */
  readonly rows?: number;
}

/** Tokens of a prompt that run between two tokens of the answers that are under way: nobody waits long for somebody's long prompt. */
const sharedPart = 64;

/**
 * Answers many requests at once on one session (continuous batching; Yu et al., "Orca", OSDI 2022, iteration-level scheduling): the
 * next tokens of all answers under way are one run; a request that comes joins between two tokens, one that is finished leaves. Prompts
 * run one by one, behind their prefix where they have one, a part between two tokens. What a request gets depends on nobody else's: greedy,
 * it is token for token what transformers.js generates.
 */
export class RequestScheduler {
  readonly #rows: number;
  readonly #waiting: Job[] = [];
  readonly #active: Job[] = [];
  readonly #cache: RowCache;
  readonly #names: readonly string[];
  /** The users of the active rows, `[rows, ...packed]`. */
  #users = new Float32Array(0);
  #loop: Promise<void> | undefined;
  #disposed = false;

  constructor(
    private readonly engine: ServingEngine,
    { rows = 16 }: SchedulerOptions = {},
    /** Hears when it is disposed and nothing runs any more. */
    private readonly onDisposed: (scheduler: RequestScheduler) => void = () => undefined,
  ) {
    checkCount('rows', rows);
    this.#rows = rows;
    this.#names = cacheNamesOf(engine.session);
    this.#cache = new RowCache(this.#names, engine.config, rows);
  }

  /** Answers under way and waiting. */
  get load(): number {
    return this.#waiting.length + this.#active.length;
  }

  /**
   * Answers a prompt. Throws like `ServedModel.generate` before anything runs, of its options for `settings`; a signal stops between two
   * tokens.
   */
  generate(request: ScheduledRequest): Generation {
    if (this.#disposed) throw disposed();
    if ((request as Partial<GenerateRequest>).settings !== undefined)
      throw new RangeError(
        'settings are of transformers.js, which generate of a served model and worker threads run. Give a scheduler sampling: { seed, temperature, topK, topP }.',
      );
    const begun = performance.now();
    const prompt = this.engine.admit(request);
    if (request.sampling !== undefined) checkSampling(request.sampling);
    return generationOf(async (emit) => {
      request.signal?.throwIfAborted();
      const user = await this.engine.during(() => this.engine.readUser(request.user));
      if (this.#disposed) throw disposed();
      const job = new Job(this.engine, request, prompt, user, begun, emit);
      this.#waiting.push(job);
      this.#loop ??= this.#run();
      return job.answer;
    }, this.engine.tokenizer);
  }

  async #run(): Promise<void> {
    while (this.load > 0) {
      this.#drop();
      await this.#prefill();
      if (this.#active.length > 0) await this.#step();
      // Lets requests and signals in: a run blocks the event loop.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    this.#loop = undefined;
  }

  /** Lets those go whose signal was given. */
  #drop(): void {
    const reason = (job: Job) => (this.#disposed ? disposed() : job.signal?.aborted ? (job.signal.reason as unknown) : undefined);
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      const why = reason(this.#waiting[i]);
      if (why !== undefined) this.#waiting.splice(i, 1)[0].fail(why);
    }
    for (let row = this.#active.length - 1; row >= 0; row--) {
      const why = reason(this.#active[row]);
      if (why !== undefined) this.#leave(row).fail(why);
    }
  }

  /** Runs a part of the first waiting prompt; when it is through, the answer begins. */
  async #prefill(): Promise<void> {
    const [job] = this.#waiting;
    if (job === undefined || this.#active.length >= this.#rows) return;
    try {
      const outputs = await job.prefill(this.#names, this.#active.length > 0 ? sharedPart : promptPart);
      if (outputs === undefined) return;
      this.#waiting.shift();
      const row = job.takeRow();
      if (job.take(logitsOf(outputs, 0, this.engine.config.vocabularySize))) return;
      // Either may lack the memory; it is under way once it has both.
      this.#seat(job, this.#active.length);
      this.#cache.add(row, job.prompt.ids.length);
      this.#active.push(job);
    } catch (error) {
      // Its own prompt's fault, and not that of the others.
      if (this.#waiting[0] === job) this.#waiting.shift();
      job.fail(error);
    }
  }

  /** One token more for every answer under way. */
  async #step(): Promise<void> {
    const { engine } = this;
    let outputs: RunOutputs;
    try {
      this.#cache.grow();
      outputs = await runTokens(engine.session, engine.config, this.#cache, {
        ids: this.#active.map((job) => job.lastToken),
        past: this.#cache.lengths,
        user: this.#userTensor(),
      });
    } catch (error) {
      for (let row = this.#active.length - 1; row >= 0; row--) this.#leave(row).fail(error);
      return;
    }
    this.#cache.advance();
    // From the last row on: the one that takes the place of a row that leaves has had its turn.
    for (let row = this.#active.length - 1; row >= 0; row--) {
      try {
        if (this.#active[row].take(logitsOf(outputs, row, engine.config.vocabularySize))) this.#leave(row);
      } catch (error) {
        // Its own fault, and not that of the others.
        this.#leave(row).fail(error);
      }
    }
  }

  /** Takes an answer out of the batch; the last one gets its row. */
  #leave(row: number): Job {
    const job = this.#active[row];
    const last = this.#active.pop()!;
    if (last !== job) {
      this.#active[row] = last;
      this.#seat(last, row);
    }
    this.#cache.remove(row);
    return job;
  }

  /** Puts a job's user where its row reads it. */
  #seat({ user }: Job, row: number): void {
    if (user === undefined) return;
    const { packed } = user.state;
    if (this.#users.length < (row + 1) * packed.length) {
      const users = new Float32Array(2 * (row + 1) * packed.length);
      users.set(this.#users);
      this.#users = users;
    }
    this.#users.set(packed, row * packed.length);
  }

  #userTensor(): ort.Tensor | undefined {
    const user = this.#active[0].user;
    if (user === undefined) return undefined;
    const { packed, shape } = user.state;
    const rows = this.#active.length;
    return new ort.Tensor('float32', this.#users.subarray(0, rows * packed.length), [rows, ...shape.slice(1)]);
  }

  /** Stops every answer, those that wait too, and resolves when nothing runs any more. */
  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#loop;
    this.onDisposed(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

/** One request on its way: first its prompt, then its answer. */
class Job {
  readonly answer: Promise<Answer>;
  readonly signal: AbortSignal | undefined;
  readonly #pieces: TextPieces;
  readonly #random: Random | undefined;
  #resolve!: (answer: Answer) => void;
  #reject!: (reason: unknown) => void;
  #row: CacheBuffers | undefined;
  #done = 0;
  #text = '';
  #firstTokenMs = 0;

  constructor(
    private readonly engine: ServingEngine,
    private readonly request: ScheduledRequest,
    readonly prompt: AdmittedPrompt,
    readonly user: ReadUser | undefined,
    private readonly begun: number,
    emit: (piece: string) => void,
  ) {
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.signal = request.signal;
    this.#pieces = new TextPieces(engine.tokenizer, (piece) => {
      this.#text += piece;
      emit(piece);
    });
    this.#random = request.sampling && Random.of(request.sampling.seed, 'sampling');
  }

  get lastToken(): number {
    return this.#pieces.ids.at(-1)!;
  }

  /** Runs so many of the prompt's tokens; the outputs when they were the last ones. */
  async prefill(names: readonly string[], tokens: number): Promise<RunOutputs | undefined> {
    const { engine, user } = this;
    const { ids, blindTokens, prefix } = this.prompt;
    if (this.#row === undefined) {
      const { keyValueHeads, headSize } = engine.config;
      const size = keyValueHeads * ids.length * headSize;
      this.#row = { buffers: new Map(names.map((name) => [name, new Float32Array(size)])), capacity: ids.length };
      if (prefix !== undefined) placePrefix(prefix, this.#row, engine.config);
      this.#done = prefix?.ids.length ?? 0;
    }
    const start = this.#done;
    this.#done = Math.min(ids.length, start + tokens);
    const outputs = await runTokens(engine.session, engine.config, this.#row, {
      ids: ids.slice(start, this.#done),
      past: [start],
      user: user && new ort.Tensor('float32', user.state.packed, [...user.state.shape]),
      blindTokens,
    });
    return this.#done === ids.length ? outputs : undefined;
  }

  /** The prompt's keys and values, which the job keeps no longer. */
  takeRow(): CacheBuffers {
    const row = this.#row!;
    this.#row = undefined;
    return row;
  }

  /** Chooses the next token by its logits `[vocabulary]`; says whether the answer ends with it. */
  take(logits: Float32Array): boolean {
    const { sampling } = this.request;
    const token = sampling === undefined ? greedyToken(logits) : sampleToken(logits, sampling, this.#random!);
    this.#firstTokenMs ||= performance.now() - this.begun;
    this.#pieces.push(token);
    const { ids } = this.#pieces;
    if (ids.length < this.prompt.maxNewTokens && !this.engine.config.endTokens.includes(token)) return false;
    this.#pieces.end();
    const { user, prompt } = this;
    this.#resolve({
      ids,
      text: this.#text,
      usage: {
        promptTokens: prompt.ids.length,
        answerTokens: ids.length,
        flops: this.engine.answerFlops(prompt, ids.length) + (user?.flops ?? 0),
      },
      timings: {
        userMs: user?.milliseconds ?? 0,
        firstTokenMs: this.#firstTokenMs,
        totalMs: performance.now() - this.begun,
      },
    });
    return true;
  }

  fail(reason: unknown): void {
    this.#reject(reason);
  }
}

const logitsOf = ({ logits }: RunOutputs, row: number, vocabulary: number): Float32Array =>
  (logits.data as Float32Array).subarray(row * vocabulary, (row + 1) * vocabulary);

const disposed = () => new Error('This scheduler, or its model, was disposed; make another one.');
