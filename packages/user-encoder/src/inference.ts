import type { EventColumns } from '@user-llm/event-tokenizer';
import { Program, type Feeds, type HostTensor, type Weights } from '@user-llm/onnx-autograd';
import { bucketOf, lengthBuckets } from './batches.js';
import { bandOf, type Band, type EncoderConfig } from './config.js';
import { EncoderOptionError } from './errors.js';
import { bagSizes, eventFeeds, vector } from './event-feeds.js';
import { labelDefinition, labelPrefix, towerFields, type LabelTower } from './label-tower.js';
import { momentsDefinition, outputDefinition, ringInput, statefulDefinition } from './model.js';
import { Programs } from './programs.js';
import type { ItemHead } from './objectives/objective.js';
import { reachOf, roomOf } from './reach.js';
import { knownTime } from './relative-position.js';
import { scoringFeeds } from './scoring-feeds.js';
import { latest, type Span } from './span.js';
import type { UserState } from './user-state.js';
import { windowFeeds } from './window-feeds.js';
import { lengthsInput, type AttentionForm } from './window-inputs.js';

export type InferenceOutput = 'tokens' | 'scores' | 'direction';

/** How histories of like length are run. */
interface Plan {
  readonly form: AttentionForm;
  /** T that the windows are padded to. */
  readonly length: number;
  /** Users in one run at most: long windows hold many scores. */
  readonly batch: number;
}

/** What is found for a user: one output, and what an update goes on from where that is asked for. */
export interface Found {
  readonly user: number;
  readonly data: Float32Array;
  readonly state: UserState | null;
}

export interface UsersOptions {
  readonly batch?: number;
  readonly signal?: AbortSignal;
  /** Makes the state of a user without events, to be filled. Without it no states are made. */
  readonly state?: (() => UserState) | undefined;
}

/** Scores of pairs of events that one run may hold: 64 MB. */
const mostPairs = 2 ** 24;

/** The encoder's sessions, each opened when it is first needed. */
export class Inference {
  private readonly programs = new Programs();

  constructor(
    private readonly config: EncoderConfig,
    private readonly weights: Weights,
    private readonly threads: number | undefined,
    private readonly head: ItemHead,
  ) {}

  private program(output: InferenceOutput, form: AttentionForm, stateful: boolean): Promise<Program> {
    const { config, weights, threads } = this;
    return this.programs.get(`${output}|${form}|${stateful}`, () =>
      stateful
        ? Program.create(statefulDefinition(config, form), { weights, threads })
        : Program.create(outputDefinition(config, this.head, output, form), { weights, threads, outputs: [output] }),
    );
  }

  /** The label tower's vectors of events, taken as items: [events, D]. */
  async labels(items: EventColumns, tower: LabelTower): Promise<Float32Array> {
    const { config, weights, threads } = this;
    const fields = towerFields(config, tower);
    const total = items.offsets[items.users.length];
    const vectors = new Float32Array(total * config.width);
    const program = await this.programs.get('labels', () => Program.create(labelDefinition(config, tower), { weights, threads }));
    for (let from = 0; from < total; from += 512) {
      const rows = Array.from({ length: Math.min(512, total - from) }, (_, i) => ({ start: from + i, end: from + i + 1 }));
      const feeds = eventFeeds(fields, items, rows, 1, bagSizes(fields, items, rows), { prefix: labelPrefix });
      vectors.set((await program.run(feeds)).labels.data as Float32Array, from * config.width);
    }
    return vectors;
  }

  /** Scores after each of the moments, in their order. */
  async moments(feeds: Feeds): Promise<Float32Array[]> {
    const { config, weights, threads, head } = this;
    if (head === 'none') throw new Error('internal: scores without an item head');
    const program = await this.programs.get('moments', () =>
      Program.create(momentsDefinition(config, head), { weights, threads }),
    );
    const { data, shape } = (await program.run(feeds)).scores;
    const [moments, size] = shape;
    return Array.from({ length: moments }, (_, i) => (data as Float32Array).slice(i * size, (i + 1) * size));
  }

  private get band(): Band | undefined {
    return bandOf(this.config);
  }

  /** How to run a history of so many events. */
  private plan(output: InferenceOutput, count: number, batch: number): Plan {
    const { context, heads } = this.config;
    const read = Math.min(count, reachOf(this.config, output));
    if (!this.band) return { form: 'mask', length: bucketOf(read + roomOf(this.config, output), lengthBuckets(context)), batch };
    const { window } = this.band;
    const form: AttentionForm = read <= 2 * window ? 'mask' : 'blocks';
    const buckets = [...lengthBuckets(window), 2 * window];
    const length = form === 'mask' ? bucketOf(read, buckets) : Math.ceil(read / window) * window;
    const pairs = heads * length * (form === 'mask' ? length : 2 * window);
    return { form, length, batch: Math.max(1, Math.min(batch, Math.floor(mostPairs / pairs))) };
  }

  /** What is found for histories that share a plan. */
  private async run(
    output: InferenceOutput,
    events: EventColumns,
    histories: readonly Span[],
    { form, length }: Plan,
    empty: (() => UserState) | undefined,
  ): Promise<{ data: Float32Array; state: UserState | null }[]> {
    const windows = histories.map((history) => latest(history, reachOf(this.config, output)));
    const counts = windows.map(({ start, end }) => end - start);
    const program = await this.program(output, form, empty !== undefined);
    const results = await program.run(
      output === 'scores'
        ? scoringFeeds(this.config, events, windows, length, form)
        : {
            ...windowFeeds(this.config, events, windows, length, bagSizes(this.config.fields, events, windows), { form }),
            [lengthsInput]: vector(counts),
            ...(empty ? { [ringInput]: this.rings(counts, length) } : {}),
          },
    );
    const data = results[output].data as Float32Array;
    const size = data.length / histories.length;
    return histories.map((history, row) => ({
      data: data.slice(row * size, (row + 1) * size),
      state: empty ? this.fill(empty(), results, row, histories.length, events, history, counts[row]) : null,
    }));
  }

  /** [U, W]: the row of each ring's slots; an empty slot reads some row of the same user. */
  private rings(counts: readonly number[], length: number): HostTensor {
    const { window } = this.band!;
    const data = new Int32Array(counts.length * window);
    counts.forEach((count, row) => {
      data.fill(row * length, row * window, (row + 1) * window);
      for (let place = Math.max(0, count - window); place < count; place++)
        data[row * window + (place % window)] = row * length + place;
    });
    return { dtype: 'int32', shape: [counts.length, window], data };
  }

  /** One user's part of the results, the window's places being the positions. */
  private fill(
    state: UserState,
    results: Readonly<Record<string, HostTensor>>,
    row: number,
    rows: number,
    events: EventColumns,
    { start, end }: Span,
    read: number,
  ): UserState {
    const { width, layers } = this.config;
    const { window } = this.band!;
    const size = window * width;
    const cache = results.cache.data as Float32Array;
    for (let ring = 0; ring < 2 * layers; ring++) {
      const from = (ring * rows + row) * size;
      state.cache.set(cache.subarray(from, from + size), ring * size);
    }
    state.recent.set((results.recent.data as Float32Array).subarray(row * size, (row + 1) * size));
    if (read < window) this.clear(state, read);
    for (let place = Math.max(0, read - window); state.times && place < read; place++)
      state.times[place % window] = events.times[end - read + place];
    state.count = end - start;
    state.position = read;
    state.time = end > start ? events.times[end - 1] : NaN;
    state.knownTime = knownTime(events.times, end - 1, start);
    return state;
  }

  /** Slots from `first` on hold nothing. */
  private clear({ cache, recent }: UserState, first: number): void {
    const { width, heads } = this.config;
    const { window } = this.band!;
    const head = width / heads;
    for (let from = 0; from < cache.length; from += window * head) cache.fill(0, from + first * head, from + window * head);
    recent.fill(0, first * width);
  }

  /** One output for one user. */
  async user(
    output: InferenceOutput,
    events: EventColumns,
    user: number,
    state?: () => UserState,
  ): Promise<{ data: Float32Array; state: UserState | null }> {
    const history = { start: events.offsets[user], end: events.offsets[user + 1] };
    const count = history.end - history.start;
    const plan = this.plan(output, count, 1);
    // Alone, a window needs no padding.
    const length =
      plan.form === 'blocks'
        ? plan.length
        : Math.max(1, Math.min(count, reachOf(this.config, output)) + roomOf(this.config, output));
    const [found] = await this.run(output, events, [history], { ...plan, length }, state);
    return found;
  }

  /**
   * One output for every user, in the order of the columns. Users of like length share a batch; within a block of users the
   * results wait for each other.
   */
  async *users(
    output: InferenceOutput,
    events: EventColumns,
    { batch = 32, signal, state }: UsersOptions,
  ): AsyncGenerator<Found, void, undefined> {
    if (!Number.isInteger(batch) || batch < 1) throw new EncoderOptionError('batch', `${batch} is not a positive whole number`);
    // States are large: few of them wait.
    const block = (state ? 2 : 16) * batch;
    const span = (user: number): Span => ({ start: events.offsets[user], end: events.offsets[user + 1] });
    for (let first = 0; first < events.users.length; first += block) {
      const count = Math.min(block, events.users.length - first);
      const alike = new Map<string, { plan: Plan; users: number[] }>();
      for (let user = first; user < first + count; user++) {
        const plan = this.plan(output, events.offsets[user + 1] - events.offsets[user], batch);
        const key = `${plan.form}|${plan.length}`;
        const known = alike.get(key);
        if (known) known.users.push(user);
        else alike.set(key, { plan, users: [user] });
      }
      const results = new Array<Found>(count);
      for (const { plan, users } of [...alike.values()].sort((a, b) => a.plan.length - b.plan.length))
        for (let i = 0; i < users.length; i += plan.batch) {
          signal?.throwIfAborted();
          const some = users.slice(i, i + plan.batch);
          const found = await this.run(output, events, some.map(span), plan, state);
          some.forEach((user, row) => (results[user - first] = { user, ...found[row] }));
        }
      yield* results;
    }
  }

  dispose(): Promise<void> {
    return this.programs.dispose();
  }
}
