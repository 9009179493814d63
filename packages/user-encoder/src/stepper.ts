import { FIRST_VALUE_ID, MISSING_ID, type EventColumns } from '@user-llm/event-tokenizer';
import { openSession, Program, toOnnx, type HostTensor, type Weights } from '@user-llm/onnx-autograd';
import { Tensor, type InferenceSession } from 'onnxruntime-node';
import type { Band, EncoderConfig } from './config.js';
import { bagSizes, eventFeeds, eventPrefix, vector } from './event-feeds.js';
import type { InferenceOutput } from './inference.js';
import { fromStatesDefinition } from './model.js';
import { Programs } from './programs.js';
import type { ItemHead } from './objectives/objective.js';
import { distanceBucket, gapBucket, knownTime, Turns, writeRotaryAngles } from './relative-position.js';
import { stepDefinition, stepInputs } from './step-graph.js';
import type { UserState } from './user-state.js';
import { hidden } from './window-feeds.js';
import { lengthsInput } from './window-inputs.js';

/** A graph with its inputs and outputs in place: an event is a few numbers written, one run, a few numbers read. */
interface Step {
  readonly session: InferenceSession;
  /** What is fed beside the user's rings. */
  readonly feeds: Record<string, Tensor>;
  readonly fetches: { readonly state: Tensor; readonly fresh: Tensor };
}

/**
 * Reads events one at a time into the states of users. One event is a chain of small operations, which more threads than one only slow
 * down.
 */
export class Stepper {
  private step: Promise<Step> | undefined;
  private readonly programs = new Programs();
  private readonly turns: Turns;
  private readonly rings = new WeakMap<UserState, Record<string, Tensor>>();
  /** The buffers serve one event at a time. */
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly config: EncoderConfig,
    private readonly band: Band,
    private readonly weights: Weights,
    private readonly head: ItemHead,
  ) {
    this.turns = new Turns(config.width / config.heads / 2);
  }

  /** Reads events `start` to `end` of the columns into the state. */
  read(state: UserState, events: EventColumns, start: number, end: number): Promise<void> {
    const reading = this.turn.then(async () => {
      this.programs.check();
      const step = await (this.step ??= this.open());
      for (let event = start; event < end; event++) {
        this.write(step, state, events, event, event === start);
        const { fresh, state: last } = step.fetches;
        await step.session.run({ ...step.feeds, ...this.ringsOf(state) }, { fresh, state: last });
        this.takeUp(step, state, events.times[event]);
      }
    });
    // A failure is its reader's alone.
    this.turn = reading.catch(() => undefined);
    return reading;
  }

  /** User tokens [K, D] or item scores [V] of a state. */
  async output(output: InferenceOutput, state: UserState): Promise<Float32Array> {
    const { weights } = this;
    const program = await this.programs.get(output, () =>
      Program.create(fromStatesDefinition(this.config, this.head), { weights, outputs: [output], threads: 1 }),
    );
    const known = Math.min(state.count, this.band.window);
    const results = await program.run({ states: this.inOrder(state, known), [lengthsInput]: vector([known]) });
    return results[output].data as Float32Array;
  }

  async dispose(): Promise<void> {
    const closed = this.programs.dispose();
    await this.turn;
    // One that failed to open has nothing to release.
    await this.step?.then(({ session }) => session.release()).catch(() => undefined);
    await closed;
  }

  private async open(): Promise<Step> {
    const { config, band } = this;
    const { outputs } = stepDefinition(config, band).build({ training: false });
    const { bytes, inputs } = toOnnx({ outputs, weights: this.weights });
    const session = await openSession(bytes, { threads: 1 });
    const { window } = band;
    const { layers, heads, width } = config;
    const half = width / heads / 2;
    const all: Record<string, Tensor> = {
      [stepInputs.mask]: new Tensor('float32', new Float32Array(window + 1), [window + 1]),
      [stepInputs.cosine]: new Tensor('float32', new Float32Array(half), [1, half]),
      [stepInputs.sine]: new Tensor('float32', new Float32Array(half), [1, half]),
      [stepInputs.distances]: new Tensor('int32', new Int32Array(window + 1), [window + 1]),
      [stepInputs.gaps]: new Tensor('int32', new Int32Array(window + 1), [window + 1]),
    };
    return {
      session,
      feeds: Object.fromEntries(Object.entries(all).filter(([name]) => inputs.includes(name))),
      fetches: {
        state: new Tensor('float32', new Float32Array(width), [1, width]),
        fresh: new Tensor('float32', new Float32Array(2 * layers * width), [2 * layers, heads, 1, width / heads]),
      },
    };
  }

  /** The rings of a user as tensors around their own memory. */
  private ringsOf(state: UserState): Record<string, Tensor> {
    let rings = this.rings.get(state);
    if (rings) return rings;
    const { layers, heads, width } = this.config;
    const { window } = this.band;
    const size = window * width;
    const shape = [1, heads, window, width / heads];
    const ring = (i: number): Tensor => new Tensor('float32', state.cache.subarray(i * size, (i + 1) * size), shape);
    rings = {};
    for (let layer = 0; layer < layers; layer++) {
      rings[stepInputs.keys(layer)] = ring(2 * layer);
      rings[stepInputs.values(layer)] = ring(2 * layer + 1);
    }
    this.rings.set(state, rings);
    return rings;
  }

  private write({ feeds }: Step, state: UserState, events: EventColumns, event: number, isFirst: boolean): void {
    const { fields, width, heads } = this.config;
    const { window, position: kind } = this.band;
    const range = [{ start: event, end: event + 1 }];
    for (const [name, { dtype, data, shape }] of Object.entries(
      eventFeeds(fields, events, range, 1, bagSizes(fields, events, range)),
    ))
      put(feeds, name, dtype as 'int32' | 'float32', data as Int32Array | Float32Array, shape);
    if (isFirst && state.count > 0) this.mendGap(feeds, events.times[event] - state.time);

    const slot = state.position % window;
    const mask = feeds[stepInputs.mask].data as Float32Array;
    mask.fill(hidden, 0, window);
    for (let distance = 1; distance <= Math.min(state.count, window - 1); distance++)
      mask[(slot - distance + window) % window] = 0;
    if (kind !== 'relative-time') {
      const [cosine, sine] = [stepInputs.cosine, stepInputs.sine].map((name) => feeds[name].data as Float32Array);
      if (kind === 'rotary') writeRotaryAngles(state.position, 1, width / heads, cosine, sine);
      else this.turns.write(state.position, knownTime(events.times, event, event, state.knownTime), cosine, sine);
      return;
    }
    const [distances, gaps] = [stepInputs.distances, stepInputs.gaps].map((name) => feeds[name].data as Int32Array);
    const now = events.times[event];
    for (let distance = 1; distance <= window; distance++) {
      const at = (slot - distance + window) % window;
      // At distance W lies the slot that the event will take: hidden, and its bucket must only exist.
      distances[at] = distanceBucket(Math.min(distance, window - 1));
      gaps[at] = gapBucket(now - state.times![at]);
    }
    distances[window] = distanceBucket(0);
    gaps[window] = gapBucket(now - now);
  }

  /** The gap before the first new event follows from the state, whether or not the tokenizer was told the time before. */
  private mendGap(feeds: Record<string, Tensor>, seconds: number): void {
    for (const field of this.config.fields) {
      if (field.kind !== 'time') continue;
      const last = field.gap - FIRST_VALUE_ID - 1;
      (feeds[`${eventPrefix}${field.name}.gap`].data as Int32Array)[0] =
        seconds !== seconds ? MISSING_ID : FIRST_VALUE_ID + Math.min(last, Math.max(0, gapBucket(seconds) - 1));
    }
  }

  /** Writes the event that was run into its slot of every ring. */
  private takeUp({ fetches }: Step, state: UserState, time: number): void {
    const { layers, heads, width } = this.config;
    const { window } = this.band;
    const head = width / heads;
    const fresh = fetches.fresh.data as Float32Array;
    const slot = state.position % window;
    for (let row = 0, from = 0; row < 2 * layers * heads; row++, from += head)
      state.cache.set(fresh.subarray(from, from + head), (row * window + slot) * head);
    state.recent.set(fetches.state.data as Float32Array, slot * width);
    if (state.times) state.times[slot] = time;
    state.time = time;
    if (time === time) state.knownTime = time;
    state.count++;
    state.position++;
  }

  /** The states of the last events, the oldest first, [1, T, D]. */
  private inOrder({ position, recent }: UserState, known: number): HostTensor {
    const { width } = this.config;
    const { window } = this.band;
    const data = new Float32Array(Math.max(1, known) * width);
    for (let i = 0; i < known; i++) {
      const slot = (position - known + i) % window;
      data.set(recent.subarray(slot * width, (slot + 1) * width), i * width);
    }
    return { dtype: 'float32', shape: [1, Math.max(1, known), width], data };
  }
}

/** Into a tensor that is there already; a bag of another size gets another tensor. */
function put(
  feeds: Record<string, Tensor>,
  name: string,
  dtype: 'int32' | 'float32',
  data: Int32Array | Float32Array,
  shape: readonly number[],
): void {
  const known = feeds[name];
  if (known && known.size === data.length) (known.data as Float32Array).set(data);
  else feeds[name] = new Tensor(dtype, data as Float32Array, shape);
}
