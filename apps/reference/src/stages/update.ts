import path from 'node:path';
import { lineOf, PathNotFoundError, problemOf, type Row } from '@user-llm/datasets';
import type { Rejection } from '@user-llm/event-tokenizer';
import { idProblem, openSource, type Corpus } from '../corpus.js';
import { UsageError } from '../errors.js';
import type { LiveEvent } from '../live/live-log.js';
import { LiveUsers } from '../live/live-users.js';
import { rejectionInWords } from '../own-words.js';
import { counted } from '../run/console-output.js';
import { mainSystem } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { loadAdaptedEncoder, stageOf } from './adapted.js';

/** New events: a file or folder of them, or a single one. */
export interface GivenEvents {
  readonly events?: string;
  /** Which column is what in it, by role. Default: as in the run's data. */
  readonly columns?: Record<string, string>;
  readonly user?: string;
  readonly item?: string;
  readonly rating?: number;
  /** Seconds since 1970, or ISO 8601. Default: now. */
  readonly time?: string;
}

const rejectionsShown = 10;
const nothing = { taken: [], known: 0, late: 0 };

/**
 * Takes events that came after the run's data into the users' states, one step for each, so that `ask` knows them. Without any, the states are
 * held against the log of those that were taken, and what is missing or damaged is made anew.
 */
export async function update(workspace: Workspace, given: GivenEvents): Promise<void> {
  const { output, run, signal } = workspace;
  run.need(stageOf(mainSystem), 'adapt');
  const rows = await rowsGiven(workspace, given);
  const corpus = await workspace.corpus();
  if (corpus.dataset.time.unit === 'order')
    throw new UsageError(
      `${corpus.dataset.name} has no times, only an order, in which a new event has no place; a log with a column of times can be updated`,
    );
  const progress = output.progress('update', 'taking new events');
  const { events, rejected } = await readable(corpus, rows ?? [], signal);
  if (events.length === 0 && rows !== undefined)
    throw new UsageError(
      rejected.length === 0
        ? `there is no event in ${String(given.events)}`
        : `none of the ${rows.length} events can be read; the first, ${rejectionInWords(rejected[0])}`,
    );
  await run.begin();
  const encoder = await loadAdaptedEncoder(workspace, mainSystem);
  try {
    const live = await LiveUsers.open(run, corpus, encoder);
    try {
      const { taken, known, late, begun, updated, timed } =
        rows === undefined ? { ...nothing, ...(await live.checkAll(signal)) } : await live.take(events, signal);
      const perEvent = timed.events === 0 ? undefined : timed.milliseconds / timed.events;
      const users = new Set(taken.map(({ user }) => user)).size;
      const unknownItems = taken.filter((event) => !live.knowsItem(event)).length;
      progress.done(
        [
          rows === undefined
            ? 'states held against the log'
            : `${counted(taken.length, 'event')} of ${counted(users, 'user')} taken`,
          known > 0 && `${known} known already`,
          late > 0 && `${late} older than the last one of their user, left out`,
          rejected.length > 0 && `${rejected.length} rejected`,
          unknownItems > 0 && `${unknownItems} of items that are unknown to the run`,
          begun > 0 && `the history of ${counted(begun, 'user')} read`,
          updated > 0 &&
            `${counted(updated, 'state')} updated${perEvent === undefined ? '' : `, ${perEvent.toFixed(2)} ms an event`}`,
        ]
          .filter(Boolean)
          .join('; '),
      );
      for (const rejection of rejected.slice(0, rejectionsShown)) output.print(`rejected: ${rejectionInWords(rejection)}`);
      output.result({
        event: 'update',
        taken: taken.length,
        users,
        known,
        late,
        rejected: rejected.length,
        unknownItems,
        historiesRead: begun,
        statesUpdated: updated,
        ...(perEvent !== undefined && { millisecondsPerEvent: perEvent }),
      });
    } finally {
      await live.close();
    }
  } finally {
    await encoder.dispose();
  }
}

/** Undefined where the states are to be looked at alone. */
async function rowsGiven(workspace: Workspace, given: GivenEvents): Promise<Row[] | undefined> {
  const { events, columns, user, item, rating, time } = given;
  if (events !== undefined) return rowsOf(workspace, events, columns);
  const single = [user, item, rating, time].some((one) => one !== undefined);
  return single || !LiveUsers.exist(workspace.run) ? [oneEvent(given)] : undefined;
}

async function rowsOf({ run, signal, seed }: Workspace, place: string, columns = run.settings.columns): Promise<Row[]> {
  const rows: Row[] = [];
  try {
    for await (const row of (await openSource(path.resolve(place), seed, columns, signal)).events) rows.push(row);
  } catch (error) {
    if (PathNotFoundError.isInstance(error))
      throw new UsageError(`there is no file or folder ${place}; check what --events names`);
    throw error;
  }
  return rows;
}

function oneEvent({ user, item, rating, time }: GivenEvents): Row {
  if (user === undefined || item === undefined)
    throw new UsageError('name a file of events with --events, or a single event with --user and --item');
  const seconds = time === undefined ? Date.now() / 1000 : /^\d+(\.\d+)?$/.test(time) ? Number(time) : Date.parse(time) / 1000;
  if (Number.isNaN(seconds))
    throw new UsageError(`--time ${time} is no time; give seconds since 1970, or ISO 8601 (2024-12-31T10:00:00Z)`);
  return { user, item, time: seconds, ...(rating === undefined ? {} : { rating }) };
}

/** The rows that the run's tokenizer can read, as events, and why it cannot read the others. */
async function readable(
  { tokenizer }: Corpus,
  rows: readonly Row[],
  signal: AbortSignal,
): Promise<{ events: LiveEvent[]; rejected: Omit<Rejection, 'kind'>[] }> {
  // As the log will give them back: what is looked at here is what the states are made of, now and later.
  const logged = rows.map((row) => JSON.parse(JSON.stringify(row, asText)) as Row);
  const { rejected } = await tokenizer.encode(logged, { maxRejections: Infinity, signal });
  // Without the symbols that readers leave in them, the lines of rows are their places.
  const why = new Map(rejected.map(({ line, field, reason }) => [line - 1, { field, reason }]));
  rows.forEach((row, at) => {
    const problem = problemOf(row);
    const { user, time } = logged[at];
    const badId = typeof user === 'string' ? idProblem(user) : undefined;
    if (problem !== undefined) why.set(at, { field: '', reason: problem });
    else if (why.has(at)) return;
    else if (badId !== undefined) why.set(at, { field: 'user', reason: `it ${badId}, and cannot be stored` });
    else if (typeof time !== 'number') why.set(at, { field: 'time', reason: 'there is none' });
  });
  return {
    events: logged.filter((_, at) => !why.has(at)) as LiveEvent[],
    rejected: [...why]
      .sort(([a], [b]) => a - b)
      .map(([at, { field, reason }]) => ({ field, reason, line: lineOf(rows[at]) ?? at + 1 })),
  };
}

/** Numbers that JSON has not; an id of that size is a text everywhere. */
const asText = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value);
