import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { openStore, type EmbeddingStore } from '@user-llm/embedding-store';
import { concatEvents, takeUsers, userIndex, type EncodedEvents, type EventColumns } from '@user-llm/event-tokenizer';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import type { UserEmbedding, UserEncoder } from '@user-llm/user-encoder';
import { z } from 'zod';
import type { Corpus } from '../corpus.js';
import { UsageError } from '../errors.js';
import type { RunFolder } from '../run/run-folder.js';
import { quoted } from '../run/run-manifest.js';
import { LiveLog, type LiveEvent } from './live-log.js';
import { newEventsOf, type KnownHistory, type NewEvents } from './new-events.js';

/** What taking events did to the users' states. */
export interface StateChanges {
  /** Users whose whole history was read, since there was no state to go on from. */
  begun: number;
  /** Users whose state went on by the new events alone. */
  updated: number;
  /** What that took, without the store and without the first of them, which opens a session. */
  timed: { events: number; milliseconds: number };
}

/** What is known of a user by now. */
export interface LiveHistory {
  readonly events: number;
  /** How many of them came after the run's data. */
  readonly since: number;
  /** Titles, oldest first. */
  readonly titles: readonly string[];
  /** Places in the catalogue. */
  readonly had: ReadonlySet<number>;
  readonly embedding: UserEmbedding;
}

const folder = 'live';
const logFile = 'events.jsonl';
const storePart = `${folder}/users`;
const currentFile = 'current.json';

/**
 * Up to which place in the log the states of an encoder are known to be up to date, so that one event does not ask for every user's. Where the
 * log has fewer events by now, or the store other than so many records, somebody changed them, and every user is looked at.
 */
const currentShape = z.object({ encoder: z.string(), events: z.int().nonnegative(), records: z.int().nonnegative() });
type Current = z.infer<typeof currentShape>;

/**
 * Users as they are by now: their whole history in the run's data, the test item too, and what came since. They lie apart from the store that
 * the evaluation reads, which must not know the test items. The log of new events is the truth: a user's embedding, which has its state
 * beside it, says how many events are in it, so that after a crash the others are taken once and none twice.
 */
export class LiveUsers {
  private readonly places: ReadonlyMap<string, number>;
  private readonly items: ReadonlyMap<string, number>;

  private constructor(
    private readonly run: RunFolder,
    private readonly corpus: Corpus,
    private readonly encoder: UserEncoder,
    private readonly store: EmbeddingStore,
    private readonly log: LiveLog,
    /** Whose events stand before this place in the log has a state that is up to date. */
    private readonly current: number,
  ) {
    this.places = userIndex(corpus.events);
    this.items = new Map(corpus.log.itemIds.map((id, place) => [id, place]));
  }

  /** Whether a run has any. */
  static exist(run: RunFolder): boolean {
    return existsSync(run.path(folder, logFile));
  }

  /** @param encoder the one whose embeddings the model reads; it stays the caller's */
  static async open(run: RunFolder, corpus: Corpus, encoder: UserEncoder): Promise<LiveUsers> {
    const log = await LiveLog.read(run.path(folder, logFile));
    const store = await run.read(storePart, 'update', () => openStore(`lmdb:${run.path(storePart)}`));
    const known = await readCurrent(run);
    const { records } = await store.stats();
    const holds = known?.encoder === encoder.hash && known.events <= log.length && known.records === records;
    return new LiveUsers(run, corpus, encoder, store, log, holds ? known.events : 0);
  }

  /** Takes what is new into the log and then into the users' states. */
  async take(events: readonly LiveEvent[], signal?: AbortSignal): Promise<NewEvents & StateChanges> {
    const sorted = newEventsOf(
      events,
      cached((user) => this.historyOf(user)),
    );
    if (sorted.taken.length > 0) await this.log.append(sorted.taken);
    return { ...sorted, ...(await this.bringUpToDate(this.current, signal)) };
  }

  /** Looks at every user of the log, and makes anew what is missing or damaged. */
  checkAll(signal?: AbortSignal): Promise<StateChanges> {
    return this.bringUpToDate(0, signal);
  }

  /**
   * A user of whom new events came; undefined for another.
   *
   * @throws UsageError where the state is not there, or cannot be used
   */
  async find(user: string): Promise<LiveHistory | undefined> {
    const found = await this.store.get({ user }, { encoder: this.encoder.hash });
    if (found.status !== 'found') {
      if (this.log.of(user).length === 0) return undefined;
      const why = {
        missing: 'is missing',
        expired: 'is past its time',
        damaged: 'is damaged',
        'other-encoder': 'is of another encoder',
      };
      throw new UsageError(
        `the state of a user of whom new events came ${why[found.status]}; make it anew with: user-llm update --run ${quoted(this.run.folder)}`,
      );
    }
    const { titles } = this.corpus;
    const before = this.loggedItems(user);
    const since = this.log.of(user).slice(0, found.embedding.watermark.count - before.length);
    const places = since.map(({ item }) => this.items.get(item) ?? -1);
    return {
      events: found.embedding.watermark.count,
      since: since.length,
      titles: [
        ...Array.from(before, (item) => titles[item] ?? 'unknown'),
        ...since.map(({ item, title }, i) => titles[places[i]] ?? (typeof title === 'string' ? title : item)),
      ],
      had: new Set([...before, ...places].filter((place) => place >= 0)),
      embedding: found.embedding as UserEmbedding,
    };
  }

  async close(): Promise<void> {
    await this.store.close();
  }

  /** Takes what stands in the log, and in no embedding yet, of the users who have events from a place in the log on. */
  private async bringUpToDate(from: number, signal?: AbortSignal): Promise<StateChanges> {
    const changes = { begun: 0, updated: 0, timed: { events: 0, milliseconds: 0 } };
    for (const user of this.log.usersFrom(from)) {
      signal?.throwIfAborted();
      const events = this.log.of(user);
      const before = this.loggedItems(user).length;
      const found = await this.store.get({ user }, { encoder: this.encoder.hash });
      const taken = found.status === 'found' ? found.embedding.watermark.count - before : -1;
      if (taken === events.length) continue;
      if (found.status === 'found' && taken >= 0 && taken < events.length) {
        const fresh = await this.columnsOf(events.slice(taken));
        const began = performance.now();
        const next = await this.encoder.update(found.embedding, fresh);
        if (changes.updated++ > 0) {
          changes.timed.milliseconds += performance.now() - began;
          changes.timed.events += events.length - taken;
        }
        await this.store.put(next, { replaces: found.embedding.sequence });
        continue;
      }
      // None yet, one that is damaged or of another encoder, or of more events than there are.
      await this.store.erase({ user });
      const whole = await this.wholeHistory(user, events);
      await this.store.put(await this.encoder.encodeUser(whole, user, { state: true }));
      changes.begun++;
    }
    const { records } = await this.store.stats();
    const current: Current = { encoder: this.encoder.hash, events: this.log.length, records };
    await writeFileAtomically(this.run.path(folder, currentFile), [Buffer.from(JSON.stringify(current))]);
    return changes;
  }

  private async wholeHistory(user: string, since: readonly LiveEvent[]): Promise<EventColumns> {
    const place = this.places.get(user);
    if (place === undefined) return this.columnsOf(since);
    const before = takeUsers(this.corpus.events, [user]);
    return concatEvents([before, await this.columnsOf(since, before.times.at(-1))]);
  }

  /** @param previousTime of the event before the first, where no state knows it */
  private columnsOf(events: readonly LiveEvent[], previousTime?: number): Promise<EncodedEvents> {
    const options = previousTime === undefined || Number.isNaN(previousTime) ? {} : { previousTime };
    return this.corpus.tokenizer.encode(
      events.map((event) => this.withItem(event)),
      options,
    );
  }

  /** The event with its item's categories, which a log of events need not repeat. */
  withItem(event: LiveEvent): LiveEvent {
    const place = this.items.get(event.item);
    return place === undefined || event.categories !== undefined
      ? event
      : { ...event, categories: this.corpus.categories[place] };
  }

  /** Whether the run's data have the item. */
  knowsItem({ item }: LiveEvent): boolean {
    return this.items.has(item);
  }

  /** A user's items in the run's data, by place in the catalogue. */
  private loggedItems(user: string): Int32Array {
    const place = this.places.get(user);
    if (place === undefined) return new Int32Array(0);
    const { items, offsets } = this.corpus.log;
    return items.subarray(offsets[place], offsets[place + 1]);
  }

  private historyOf(user: string): KnownHistory {
    const { events, log } = this.corpus;
    const place = this.places.get(user);
    const [from, to] = place === undefined ? [0, 0] : [events.offsets[place], events.offsets[place + 1]];
    const since = this.log.of(user);
    const keys = new Set(since.map(({ time, item }) => keyOf(time, item)));
    let last = since.at(-1)?.time ?? -Infinity;
    for (let event = from; event < to; event++) {
      keys.add(keyOf(events.times[event], log.itemIds[log.items[event]]));
      if (events.times[event] > last) last = events.times[event];
    }
    return { last, has: (time, item) => keys.has(keyOf(time, item)) };
  }
}

/** Undefined where it is not there, or says nothing: then every user is looked at. */
async function readCurrent(run: RunFolder): Promise<Current | undefined> {
  const text = await readFile(run.path(folder, currentFile), 'utf8').catch(() => 'null');
  try {
    return currentShape.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

const keyOf = (time: number, item: string): string => `${time} ${item}`;

function cached<T>(make: (key: string) => T): (key: string) => T {
  const made = new Map<string, T>();
  return (key) => {
    const known = made.get(key);
    if (known !== undefined) return known;
    const value = make(key);
    made.set(key, value);
    return value;
  };
}
