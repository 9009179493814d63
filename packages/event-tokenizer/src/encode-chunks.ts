import { tmpdir } from 'node:os';

import { EventCollector } from './collect.js';
import type { EncodeOptions, Encoder } from './collect.js';
import type { EncodeCounts, EventColumns, Rejection } from './columns.js';
import { checkOptions } from './check-options.js';
import { encodeOptions, encodeRows } from './encode.js';
import { SchemaError } from './errors.js';
import { DuplicateList, layOut } from './lay-out.js';
import { forEachBatch } from './row-source.js';
import type { Rows } from './row-source.js';
import { Spill } from './spill.js';

export interface EncodeChunksOptions extends EncodeOptions {
  /**
   * Most events held at a time, and in one chunk (a single user's events stay together, even if there are more). Default 524,288.
   * Memory is about eight times the bytes of so many events, the vocabularies, and 250 bytes per user.
   */
  eventsPerChunk?: number;
  /**
   * Folder for a scratch file of about the size of the result, gone when the last chunk was read or the process ends. Default: the
   * system's folder for temporary files, which on some systems is kept in memory.
   */
  scratch?: string;
}

/** What became of all rows; the same as encoding at once gives. */
export interface EncodeSummary {
  readonly counts: EncodeCounts;
  /** The first rejected rows by line. */
  readonly rejected: Rejection[];
}

const EVENTS_PER_CHUNK = 1 << 19;

/** Encoded events, a range of users at a time. Can be iterated once. */
export class EncodedChunks implements AsyncIterable<EventColumns> {
  readonly tokenizer: string;
  private found: EncodeSummary | undefined;
  private started = false;

  /** Made by `EventTokenizer.encodeChunks`. */
  constructor(
    private readonly encoder: Encoder,
    private readonly rows: Rows,
    private readonly options: EncodeChunksOptions,
  ) {
    this.tokenizer = encoder.hash;
    checkOptions(options, { ...encodeOptions, eventsPerChunk: true, scratch: true });
    const { eventsPerChunk } = options;
    if (eventsPerChunk !== undefined && (!Number.isInteger(eventsPerChunk) || eventsPerChunk < 1 || eventsPerChunk > 2 ** 28))
      throw new SchemaError('eventsPerChunk', `${eventsPerChunk} is not a whole number from 1 to ${2 ** 28}.`);
  }

  /** Counts and rejected rows; there once the last chunk was read. */
  get summary(): EncodeSummary {
    if (this.found === undefined)
      throw new SchemaError('summary', 'the rows are not all encoded yet. Read it after the last chunk.');
    return this.found;
  }

  /** The columns of no event: what stands for a log of which no chunk comes. */
  empty(): Promise<EventColumns> {
    return encodeRows(this.encoder, [], {});
  }

  [Symbol.asyncIterator](): AsyncGenerator<EventColumns, void, void> {
    if (this.started)
      throw new SchemaError(
        'encodeChunks',
        'these chunks are read already. Encode the rows again, or keep the chunks in a ColumnFolder.',
      );
    this.started = true;
    return this.chunks();
  }

  private async *chunks(): AsyncGenerator<EventColumns, void, void> {
    const { encoder, options } = this;
    const { signal, maxRejections = 10_000, eventsPerChunk = EVENTS_PER_CHUNK, scratch = tmpdir() } = options;
    const collector = new EventCollector(encoder, options);
    const { checks } = collector;
    let spill: Spill | undefined;
    let counts = new Int32Array(1024);
    const spillAll = async () => {
      spill ??= await Spill.create(scratch);
      const users = collector.userNames.length;
      if (counts.length < users) {
        const grown = new Int32Array(users * 2);
        grown.set(counts);
        counts = grown;
      }
      await spill.write(collector.view(), users, counts);
      collector.clear();
    };
    try {
      await forEachBatch(
        this.rows,
        (batch) => {
          const full = () => (collector.events >= eventsPerChunk ? spillAll() : undefined);
          const adding = collector.add(batch);
          return adding === undefined ? full() : adding.then(full);
        },
        signal,
      );
      const users = collector.userNames;
      const duplicates = checks.policies.duplicate === 'keep' ? undefined : new DuplicateList(maxRejections);
      const total = { events: 0, repeated: 0, unknownItems: 0 };
      if (spill && collector.events > 0) await spillAll();
      for (let from = 0; from < users.length;) {
        signal?.throwIfAborted();
        const to = spill ? rangeEnd(counts, from, users.length, eventsPerChunk) : users.length;
        const raw = spill ? await spill.take(from, to) : collector.view();
        const { offsets, times, fields, repeated, unknownItems } = layOut(
          encoder,
          raw,
          collector.previousTimes(from, to),
          duplicates,
        );
        total.events += times.length;
        total.repeated += repeated;
        total.unknownItems += unknownItems;
        yield { tokenizer: encoder.hash, users: users.slice(from, to), offsets, times, fields, rejected: [] };
        from = to;
      }
      duplicates?.settle(checks);
      this.found = {
        counts: {
          rows: collector.rows,
          events: total.events,
          rejected: checks.rejectedCount,
          outOfOrder: collector.outOfOrder,
          duplicates: duplicates ? 0 : total.repeated,
          unknownItems: total.unknownItems,
        },
        rejected: checks.rejected,
      };
    } finally {
      await spill?.close();
    }
  }
}

/** The end of the longest range of users from `from` on that holds no more than so many events; one user at least. */
function rangeEnd(counts: Int32Array, from: number, users: number, events: number): number {
  let to = from + 1;
  for (let held = counts[from]; to < users && held + counts[to] <= events; to++) held += counts[to];
  return to;
}
