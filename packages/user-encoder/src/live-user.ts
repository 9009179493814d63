import type { EventColumns } from '@user-llm/event-tokenizer';
import { EventOrderError } from './errors.js';
import type { InferenceOutput } from './inference.js';
import { saidOfNext } from './item-scores.js';
import { checkOwner } from './state-owner.js';
import type { Stepper } from './stepper.js';
import type { TrainingRecord } from './training-record.js';
import type { StateCodec, StateDtype, UserState } from './user-state.js';

/**
 * A user whose state is held in memory: events come in one by one, and the embedding is made when it is asked for. Not for two calls of
 * `add` at a time.
 */
export class LiveUser {
  /**
   * For the encoder alone. `owner` is null until events say whose the state is; `needItemHead` gives what is known of the item head, and
   * throws where nothing scores items.
   */
  constructor(
    private readonly stepper: Stepper,
    private readonly codec: StateCodec,
    private readonly tokenizer: string,
    private readonly current: UserState,
    private owner: string | null,
    private readonly tenant: string,
    private readonly needItemHead: () => TrainingRecord | null,
  ) {}

  /** Events read so far. */
  get count(): number {
    return this.current.count;
  }

  /** Of the last event, Unix seconds; NaN where unknown or there is none. */
  get time(): number {
    return this.current.time;
  }

  /**
   * Reads the events of the one user in the columns: one step each, whatever lies behind.
   *
   * @throws TokenizerMismatchError, StateMismatchError for events of another user than those before, EventOrderError, EncoderOptionError
   *   for several users; nothing is read then
   */
  async add(events: EventColumns): Promise<void> {
    const owner = checkOwner(events, this.tokenizer, this.owner, this.tenant);
    checkOrder(events, this.current);
    this.owner = owner;
    await this.stepper.read(this.current, events, events.offsets[0], events.offsets[1]);
  }

  /** User tokens, [K, D]. */
  tokens(): Promise<Float32Array> {
    return this.output('tokens');
  }

  /**
   * The item head's scores of what comes next, as `UserEncoder.scoreHistory` gives them: [V] logits by item id, the special ids -Infinity.
   *
   * @param taken ids of the items in the history: a state does not remember them. They count where the encoder was trained for users who
   *   take nothing again (`training.repeats`); what is not named there may then have any score
   * @throws NoItemScoresError for an encoder that contrastive pretraining alone made
   */
  async scores(taken: Iterable<number> = []): Promise<Float32Array> {
    const training = this.needItemHead();
    return saidOfNext(await this.output('scores'), training, taken);
  }

  /** The state as bytes, to go on from elsewhere. @throws EncoderOptionError for a dtype that there is not */
  state(dtype: StateDtype = 'float32'): Uint8Array {
    return this.codec.encode(this.current, dtype, this.owner);
  }

  private output(output: InferenceOutput): Promise<Float32Array> {
    return this.stepper.output(output, this.current);
  }
}

/** New events, of one user, go forward from the last time that is known. @throws EventOrderError */
export function checkOrder(events: EventColumns, { knownTime }: Pick<UserState, 'knownTime'>): void {
  const [start, end] = events.offsets;
  // 0 where none is known: any may follow then, one before 1970 too.
  let before = knownTime || NaN;
  for (let event = start; event < end; event++) {
    const time = events.times[event];
    if (time < before) throw new EventOrderError(time, before, event - start);
    // An unknown time says nothing of the order.
    if (time === time) before = time;
  }
}
