import { FIRST_VALUE_ID, type EventColumns } from '@user-llm/event-tokenizer';
import { Random, type HostTensor } from '@user-llm/onnx-autograd';
import { bucketOf, lengthBuckets } from './batches.js';
import type { EncoderConfig } from './config.js';
import type { Window } from './event-feeds.js';
import { itemIds } from './item-scores.js';
import type { Repeats } from './objectives/taken-items.js';
import { scoringFeeds, scoringRoom } from './scoring-feeds.js';
import { latest, type Span } from './span.js';

/**
 * How well the held-out item of each user is predicted: among all items or, where nobody takes an item again, among those that the user
 * has not taken.
 */
export interface ValidationResult {
  /** Mean cross-entropy of the held-out item. */
  readonly loss: number;
  readonly hitAt10: number;
  readonly ndcgAt10: number;
  readonly users: number;
}

interface Case {
  readonly history: Span;
  readonly target: number;
}

const batchSize = 32;

/** Leave-last-out validation: the target is each user's last event, which training never sees. */
export class Validation {
  private readonly cases: readonly Case[];

  /** @param limit at most so many users, drawn by the seed */
  constructor(
    private readonly config: EncoderConfig,
    private readonly events: EventColumns,
    private readonly repeats: Repeats,
    limit: number,
  ) {
    const cases: Case[] = [];
    const items = itemIds(config, events);
    for (let user = 0; user < events.users.length; user++) {
      const start = events.offsets[user];
      const last = events.offsets[user + 1] - 1;
      if (last > start && items[last] >= FIRST_VALUE_ID) cases.push({ history: { start, end: last }, target: items[last] });
    }
    const chosen = cases.length > limit ? Random.of(config.seed, 'validation').shuffle(cases).slice(0, limit) : cases;
    // Histories of like length share a batch.
    this.cases = chosen.sort(
      (a, b) => a.history.end - a.history.start - (b.history.end - b.history.start) || a.history.start - b.history.start,
    );
  }

  get users(): number {
    return this.cases.length;
  }

  /** Forward passes that one validation takes. */
  get batches(): number {
    return Math.ceil(this.cases.length / batchSize);
  }

  async run(scores: (feeds: Record<string, HostTensor>) => Promise<HostTensor>): Promise<ValidationResult> {
    const { config, events } = this;
    const buckets = lengthBuckets(config.context);
    const room = scoringRoom(config);
    let loss = 0;
    let hits = 0;
    let gain = 0;
    for (let from = 0; from < this.cases.length; from += batchSize) {
      const cases = this.cases.slice(from, from + batchSize);
      const windows = cases.map(({ history }): NonNullable<Window> => latest(history, config.context - room));
      const length = bucketOf(Math.max(...windows.map(({ start, end }) => end - start)) + room, buckets);
      const found = await scores(scoringFeeds(config, events, windows, length));
      const size = found.shape[1];
      cases.forEach(({ history, target }, i) => {
        const row = (found.data as Float32Array).subarray(i * size, (i + 1) * size);
        const out = this.repeats === 'never' ? new Set(itemIds(config, events).subarray(history.start, history.end)) : nothing;
        loss += crossEntropyOf(row, target, out);
        const rank = rankOf(row, target, out);
        if (rank < 10) {
          hits++;
          gain += 1 / Math.log2(rank + 2);
        }
      });
    }
    const users = this.cases.length;
    return { loss: loss / users, hitAt10: hits / users, ndcgAt10: gain / users, users };
  }
}

const nothing: ReadonlySet<number> = new Set();

/**
 * Among the items: a special id is never right, and only the full softmax teaches its score so.
 *
 * @param out ids of items that the target is not told from
 */
function crossEntropyOf(scores: Float32Array, target: number, out: ReadonlySet<number>): number {
  const counts = (_: number, id: number): boolean => id >= FIRST_VALUE_ID && (id === target || !out.has(id));
  const told = out.size === 0 ? scores.subarray(FIRST_VALUE_ID) : scores.filter(counts);
  let top = -Infinity;
  for (const score of told) top = Math.max(top, score);
  let sum = 0;
  for (const score of told) sum += Math.exp(score - top);
  return top + Math.log(sum) - scores[target];
}

/**
 * Items scored higher than the target plus half of those tied, special ids left out.
 *
 * @param out ids of items that it is not ranked among
 */
function rankOf(scores: Float32Array, target: number, out: ReadonlySet<number>): number {
  const bar = scores[target];
  let higher = 0;
  let tied = 0;
  for (let id = FIRST_VALUE_ID; id < scores.length; id++) {
    if (id === target || scores[id] < bar || out.has(id)) continue;
    if (scores[id] > bar) higher++;
    else tied++;
  }
  return higher + Math.floor(tied / 2);
}
