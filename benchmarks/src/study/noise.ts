import { concatEvents, dropLast, type EventColumns } from '@user-llm/event-tokenizer';
import type { Dataset, Row } from '@user-llm/datasets';
import { Random } from '@user-llm/onnx-autograd';
import { UsageError, type Corpus } from '@user-llm/reference';

/** What may be wrong with a log. The rate is the share of events that it happens to. */
export const noises = {
  dropped: 'an event is missing',
  duplicated: 'an event stands twice',
  shuffled: 'an event has changed places with one of the five after it; the times stay where they are',
  corrupted: "an event is another one's: that of an item drawn from the whole catalogue, every item alike",
} as const;

export type Noise = keyof typeof noises;

const reach = 5;

/** The rows of every user of a corpus in the order of its log, from which noisy logs are made and encoded like any other. */
export class RawLog {
  private constructor(
    private readonly corpus: Corpus,
    /** By user of the corpus: all rows but the last, which is the test item. */
    private readonly histories: readonly (readonly Row[])[],
    /** One row of every item that has one before the test items. */
    private readonly catalogue: readonly Row[],
  ) {}

  static async read(dataset: Dataset, corpus: Corpus): Promise<RawLog> {
    const { events, log } = corpus;
    if (events.counts.rejected > 0)
      throw new UsageError(
        `${dataset.name} has ${events.counts.rejected} rows that cannot be read (first: line ${events.rejected[0].line}); this study needs a log without any`,
      );
    const byUser = new Map<string, Row[]>(log.users.map((user) => [user, []]));
    for await (const row of dataset.events) byUser.get(String(row.user))!.push(row);
    const histories = log.users.map((user) =>
      // Equal times keep the order of the file, as in the encoded log.
      byUser
        .get(user)!
        .sort((a, b) => Number(a.time) - Number(b.time))
        .slice(0, -1),
    );
    const catalogue = new Map<unknown, Row>();
    for (const rows of histories) for (const row of rows) if (!catalogue.has(row.item)) catalogue.set(row.item, row);
    return new RawLog(corpus, histories, [...catalogue.values()]);
  }

  /**
   * A noisy log, the same for a kind, a rate and a seed. `train` is what is learned from: noisy but for each user's last event, the
   * validation item, which chooses the weights. `shown` is what is read at test time: noisy to the end. Nothing of the test item is in either.
   */
  async noisy(
    kind: Noise,
    rate: number,
    seed: number,
  ): Promise<{ train: EventColumns; shown: EventColumns; learned: EventColumns }> {
    const change = (rows: readonly Row[], user: number): Row[] =>
      this.changed(kind, rate, rows, Random.of(seed, 'noise', kind, rate, user));
    const validation = this.histories.map((rows) => rows.slice(-1));
    const learned = this.histories.map((rows, user) => change(rows.slice(0, -1), user));
    return {
      train: await this.encode(learned.map((rows, user) => [...rows, ...validation[user]])),
      shown: await this.encode(this.histories.map(change)),
      learned: await this.encode(learned),
    };
  }

  private changed(kind: Noise, rate: number, rows: readonly Row[], random: Random): Row[] {
    switch (kind) {
      case 'dropped':
        return rows.filter(() => random.next() >= rate);
      case 'duplicated':
        return rows.flatMap((row) => (random.next() < rate ? [row, row] : [row]));
      case 'shuffled': {
        const order = [...rows];
        for (let i = 0; i + 1 < order.length; i++) {
          if (random.next() >= rate) continue;
          const j = Math.min(order.length - 1, i + 1 + random.integer(reach));
          [order[i], order[j]] = [order[j], order[i]];
        }
        return order.map((row, i) => ({ ...row, time: rows[i].time }));
      }
      case 'corrupted':
        return rows.map((row) => {
          if (random.next() >= rate) return row;
          return { ...this.catalogue[random.integer(this.catalogue.length)], user: row.user, time: row.time };
        });
      default:
        throw new Error(`internal: no noise ${String(kind satisfies never)}`);
    }
  }

  /** Users stay in the order of the corpus, those without an event too. */
  private async encode(histories: readonly (readonly Row[])[]): Promise<EventColumns> {
    const nobody = dropLast(this.corpus.known, Number.MAX_SAFE_INTEGER);
    return concatEvents([nobody, await this.corpus.tokenizer.encode(histories.flat())]);
  }
}
