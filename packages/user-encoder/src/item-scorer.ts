import { FIRST_VALUE_ID, type EventColumns } from '@user-llm/event-tokenizer';
import type { EncoderConfig } from './config.js';
import { EncoderOptionError, NoItemScoresError, NoLabelTowerError } from './errors.js';
import type { Inference, UsersOptions } from './inference.js';
import { itemHeadOf, itemIds, saidOfNext, scoresByFields, takenIn } from './item-scores.js';
import type { LabelTower } from './label-tower.js';
import type { History, TrainableEncoder } from './trainable.js';
import type { TrainingRecord } from './training-record.js';
import { indexOfUser } from './user-index.js';

/** A user's scores of every item. */
export interface UserScores {
  readonly user: string;
  /** [V] logits by item id of the tokenizer, as `scoreHistory` gives them. */
  readonly scores: Float32Array;
}

/** What an encoder says of the items that a user takes next. The events are of its tokenizer. */
export class ItemScorer {
  constructor(
    private readonly encoder: {
      readonly config: EncoderConfig;
      readonly hash: string;
      readonly tokenizerHash: string;
      readonly training: TrainingRecord | null;
    },
    private readonly inference: Inference,
  ) {}

  /** What is known of the item head. @throws NoItemScoresError */
  needHead(): TrainingRecord | null {
    const { training, hash } = this.encoder;
    if (itemHeadOf(training) === 'none') throw new NoItemScoresError(hash);
    return training;
  }

  /** @throws NoLabelTowerError */
  needTower(): LabelTower {
    const { training, hash } = this.encoder;
    if (!training?.labelTower) throw new NoLabelTowerError(hash);
    // Records of earlier releases say it of the scores, which were the tower's then.
    return { ...training.labelTower, repeats: training.labelTower.repeats ?? training.repeats };
  }

  /** Of every user, in the order of the columns. */
  async *ofUsers(
    events: EventColumns,
    options: Pick<UsersOptions, 'batch' | 'signal'>,
  ): AsyncGenerator<UserScores, void, undefined> {
    this.needHead();
    for await (const { user, data } of this.inference.users('scores', events, options))
      yield { user: events.users[user], scores: this.saidOfNext(data, events, user) };
  }

  /** After the whole history of a user: [V]. */
  async ofHistory(events: EventColumns, user: string | number): Promise<Float32Array> {
    this.needHead();
    const index = this.userOf(events, user);
    const { data } = await this.inference.user('scores', events, index);
    return this.saidOfNext(data, events, index);
  }

  /** After parts of histories: [V] of each. @param raw as the head gives them */
  async ofMoments(
    events: EventColumns,
    moments: readonly History[],
    trainable: Pick<TrainableEncoder<unknown>, 'feeds'>,
    raw: boolean,
  ): Promise<Float32Array[]> {
    this.needHead();
    if (this.encoder.config.attention === 'bidirectional')
      throw new EncoderOptionError(
        'attention',
        'a bidirectional encoder sees what came after a moment; cut the histories instead',
      );
    const scores = await this.inference.moments(trainable.feeds(moments));
    if (raw) return scores.map((row) => row.fill(-Infinity, 0, FIRST_VALUE_ID));
    return scores.map((row, i) => this.saidOfNext(row, events, this.userOf(events, moments[i].user), moments[i].end));
  }

  /** Of items by their fields, [events of items]. */
  async ofItems(events: EventColumns, user: string | number, items: EventColumns): Promise<Float32Array> {
    const tower = this.needTower();
    const { config } = this.encoder;
    const index = this.userOf(events, user);
    const { data: direction } = await this.inference.user('direction', events, index);
    const found = { vectors: await this.inference.labels(items, tower), ids: itemIds(config, items) };
    const [start, end] = events.offsets.subarray(index, index + 2);
    return scoresByFields(direction, found, tower, takenIn(config, events, { start, end }));
  }

  /** Raw scores after the first `count` events of a user, or all; in place. */
  private saidOfNext(scores: Float32Array, events: EventColumns, user: number, count?: number): Float32Array {
    const { config, training } = this.encoder;
    const [start, end] = events.offsets.subarray(user, user + 2);
    const history = { start, end: count === undefined ? end : start + count };
    return saidOfNext(scores, training, takenIn(config, events, history));
  }

  private userOf(events: EventColumns, user: string | number): number {
    return indexOfUser(events, user, this.encoder.tokenizerHash);
  }
}
