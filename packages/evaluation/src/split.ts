import { createHash } from 'node:crypto';
import { InvalidLogError, InvalidOptionError } from './errors.js';
import { checkLog, UNKNOWN_ITEM } from './interaction-log.js';
import type { InteractionLog } from './interaction-log.js';

/** One question of a protocol: given the events `from .. to - 1` of a user, which item is event `to`? */
export interface SplitCase {
  /** index into `log.users` */
  readonly user: number;
  /** first event of the history, a position in the log */
  readonly from: number;
  /** one past the last event of the history: the position of the event that is asked for */
  readonly to: number;
}

/** How a split describes itself in a report. */
export interface SplitDescription {
  readonly split: string;
  readonly ties: string;
  /** SHA-256 over the protocol, its parameters, users, items and every event */
  readonly hash: string;
  readonly testUsers: number;
  readonly validationUsers: number;
  /** users of the log that the protocol leaves out, and why */
  readonly leftOut: { readonly users: number; readonly reason: string };
  /** test items outside the vocabulary: a miss for every system */
  readonly unknownTargets: number;
  /** test items that the user met before: a miss in every filtered ranking */
  readonly repeatedTargets: number;
}

/** A log cut into training, validation and test. */
export interface Split {
  readonly log: InteractionLog;
  readonly hash: string;
  readonly description: SplitDescription;
  readonly test: readonly SplitCase[];
  readonly validation: readonly SplitCase[];
  /** [U]: the training events of user u are offsets[u] .. trainEnd[u] - 1 */
  readonly trainEnd: Int32Array;
}

/** Users need one event each to train on, validate on and test on. */
const LEAST_EVENTS = 3;

/**
 * Leave one out: a user's last event is the test item, the one before it validation, the rest is training. The history given at
 * test time is everything but the last event. Users with fewer than three events are left out, and counted. Ties in time keep
 * file order, which is the order of the log.
 *
 * @throws InvalidLogError for what is no log (tokenised events become one by `interactions(events, …)`), one whose lengths, indices or
 *   order are wrong, and one without a user of three events
 */
export function leaveOneOut(log: InteractionLog): Split {
  checkLog(log);
  const test: SplitCase[] = [];
  const validation: SplitCase[] = [];
  const trainEnd = new Int32Array(log.users.length);
  for (let user = 0; user < log.users.length; user++) {
    const from = log.offsets[user];
    const end = log.offsets[user + 1];
    trainEnd[user] = Math.max(from, end - 2);
    if (end - from < LEAST_EVENTS) continue;
    validation.push({ user, from, to: end - 2 });
    test.push({ user, from, to: end - 1 });
  }
  const leftOut = { users: log.users.length - test.length, reason: `fewer than ${LEAST_EVENTS} events` };
  return finish(log, 'leave-one-out: last event is test, the one before it validation', ['leave-one-out'], {
    test,
    validation,
    trainEnd,
    leftOut,
  });
}

/** Where {@link timeSplit} cuts: both moments, or the share of all events that lies after each. */
export type TimeSplitOptions =
  | { readonly validationFrom: number; readonly testFrom: number }
  | { readonly validationShare?: number; readonly testShare?: number };

/**
 * Time split: events before `validationFrom` are training for everybody; the validation item of a user is their first event in
 * [validationFrom, testFrom), the test item their first event at or after `testFrom`; the history is what the user did before that moment.
 * Nothing of the future reaches the counts. Events at exactly a cut belong to the later part. Defaults: the last tenth of all
 * events is the test period, the tenth before it validation.
 *
 * @throws InvalidLogError as {@link leaveOneOut} does, without a time for every event, and where no user has events before and after
 *   the moment the test period starts; InvalidOptionError for moments or shares that leave a period out
 */
export function timeSplit(log: InteractionLog, options: TimeSplitOptions = {}): Split {
  checkLog(log);
  const times = log.times;
  if (!times || times.some((time) => Number.isNaN(time))) {
    throw new InvalidLogError('A time split needs a time for every event. Give times, or use leaveOneOut(log).', 'times');
  }
  const { validationFrom, testFrom } = cuts(times, options);
  const test: SplitCase[] = [];
  const validation: SplitCase[] = [];
  const trainEnd = new Int32Array(log.users.length);
  for (let user = 0; user < log.users.length; user++) {
    const from = log.offsets[user];
    const end = log.offsets[user + 1];
    const before = (moment: number): number => {
      let to = from;
      while (to < end && times[to] < moment) to++;
      return to;
    };
    const toValidation = before(validationFrom);
    const toTest = before(testFrom);
    trainEnd[user] = toValidation;
    if (toValidation > from && toValidation < toTest) validation.push({ user, from, to: toValidation });
    if (toTest > from && toTest < end) test.push({ user, from, to: toTest });
  }
  const leftOut = {
    users: log.users.length - test.length,
    reason: 'no event before, or none at or after, the moment the test period starts',
  };
  return finish(
    log,
    `time split: training before ${validationFrom}, test is a user's first event from ${testFrom} on`,
    ['time-split', String(validationFrom), String(testFrom)],
    { test, validation, trainEnd, leftOut },
  );
}

function cuts(times: Float64Array, options: TimeSplitOptions): { validationFrom: number; testFrom: number } {
  if ('testFrom' in options) {
    if (!(options.validationFrom <= options.testFrom))
      throw new InvalidOptionError('validationFrom', 'must not be after testFrom.');
    return options;
  }
  const { validationShare = 0.1, testShare = 0.1 } = options;
  if (!(validationShare >= 0 && testShare > 0 && validationShare + testShare < 1)) {
    throw new InvalidOptionError('testShare', 'shares must be positive and leave something to train on.');
  }
  const sorted = times.slice().sort();
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { validationFrom: at(1 - testShare - validationShare), testFrom: at(1 - testShare) };
}

type Cut = Pick<Split, 'test' | 'validation' | 'trainEnd'> & { leftOut: SplitDescription['leftOut'] };

function finish(log: InteractionLog, split: string, parameters: readonly string[], cut: Cut): Split {
  const { test, validation, trainEnd, leftOut } = cut;
  if (test.length === 0) {
    throw new InvalidLogError(
      `No user of ${log.users.length} can be tested: ${leftOut.reason}. Give a log with longer histories.`,
      'offsets',
    );
  }
  const hash = hashSplit(log, parameters);
  const ties = 'events of equal time keep file order; rank = items scored higher + floor((items tied - 1) / 2), counted from 0';
  return {
    log,
    hash,
    test,
    validation,
    trainEnd,
    description: {
      split,
      ties,
      hash,
      testUsers: test.length,
      validationUsers: validation.length,
      leftOut,
      ...missedByAll(log, test),
    },
  };
}

/** How many true items are a miss whoever ranks: outside the vocabulary, or met before. */
export function missedByAll(
  log: InteractionLog,
  cases: readonly SplitCase[],
): Pick<SplitDescription, 'unknownTargets' | 'repeatedTargets'> {
  let unknownTargets = 0;
  let repeatedTargets = 0;
  for (const { from, to } of cases) {
    const target = log.items[to];
    if (target === UNKNOWN_ITEM) unknownTargets++;
    else if (log.items.subarray(from, to).includes(target)) repeatedTargets++;
  }
  return { unknownTargets, repeatedTargets };
}

function hashSplit(log: InteractionLog, parameters: readonly string[]): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify(['split/1', ...parameters]));
  hash.update(JSON.stringify(log.users));
  hash.update(JSON.stringify(log.itemIds));
  for (const array of [log.offsets, log.items]) hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  if (parameters[0] === 'time-split' && log.times)
    hash.update(new Uint8Array(log.times.buffer, log.times.byteOffset, log.times.byteLength));
  return hash.digest('hex');
}
