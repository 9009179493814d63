import type { Rejection, RejectionKind } from './columns.js';
import { RowError, SchemaError } from './errors.js';
import { BATCH_ROWS } from './row-source.js';
import type { RowBatch } from './row-source.js';

/** What happens to a row that is not as it should be. `reject` quarantines it: no event, listed and counted; `throw` raises a `RowError`. */
export interface RowPolicies {
  /** A row that comes after a later one of the same user. Default `sort`. */
  outOfOrder: 'sort' | 'reject' | 'throw';
  /** A row that repeats the user, time and item of an earlier one (never when the time is unknown). Default `keep`. */
  duplicate: 'keep' | 'reject' | 'throw';
  /** An item that is not in the vocabulary. Default `map` (to the unknown id). Other fields always map. */
  unknownItem: 'map' | 'reject' | 'throw';
  /** A row without user or item, or with a value of the wrong kind. Default `reject`. */
  malformed: 'reject' | 'throw';
}

const DEFAULTS: RowPolicies = { outOfOrder: 'sort', duplicate: 'keep', unknownItem: 'map', malformed: 'reject' };
const STRICT: RowPolicies = { outOfOrder: 'throw', duplicate: 'throw', unknownItem: 'throw', malformed: 'throw' };
const CHOICES: Record<keyof RowPolicies, readonly string[]> = {
  outOfOrder: ['sort', 'reject', 'throw'],
  duplicate: ['keep', 'reject', 'throw'],
  unknownItem: ['map', 'reject', 'throw'],
  malformed: ['reject', 'throw'],
};

/** The policies in force: `strict` throws on everything that `policies` does not name. */
export function resolvePolicies(policies: Partial<RowPolicies> = {}, strict = false): RowPolicies {
  for (const [name, choice] of Object.entries(policies)) {
    const choices = CHOICES[name as keyof RowPolicies];
    if (choices === undefined)
      throw new SchemaError(`policies.${name}`, `there is no such policy. There are ${Object.keys(CHOICES).join(', ')}.`);
    if (choice !== undefined && !choices.includes(choice))
      throw new SchemaError(`policies.${name}`, `"${choice}" is not one of ${choices.join(', ')}.`);
  }
  const resolved = { ...(strict ? STRICT : DEFAULTS) };
  for (const [name, choice] of Object.entries(policies)) if (choice !== undefined) Object.assign(resolved, { [name]: choice });
  return resolved;
}

/** Marks the rows of one batch that are refused, with the first reason of each, and keeps the list of a whole run. */
export class RowChecks {
  /** Rejected rows of the whole run, in file order, up to `most`. */
  readonly rejected: Rejection[] = [];
  rejectedCount = 0;
  /** [BATCH_ROWS] 1 where the row of the current batch is refused. */
  readonly flags = new Uint8Array(BATCH_ROWS);
  /** Refused rows in the current batch. */
  flagged = 0;
  private reasons: { at: number; field: string; kind: RejectionKind; reason: string }[] = [];
  private batch!: RowBatch;

  constructor(
    readonly policies: RowPolicies,
    private readonly most: number,
  ) {}

  begin(batch: RowBatch): void {
    if (this.flagged > 0) {
      this.flags.fill(0);
      this.flagged = 0;
      this.reasons = [];
    }
    this.batch = batch;
    batch.problems((i, problem) => this.flag(i, '', 'malformed', problem));
  }

  /** Refuses row `i` of the batch; later reasons for the same row are not kept. */
  flag(i: number, field: string, kind: RejectionKind, reason: string): void {
    if (this.flags[i] !== 0) return;
    this.flags[i] = 1;
    this.flagged++;
    this.reasons.push({ at: i, field, kind, reason });
  }

  /** Lists what the batch refused. @throws RowError for the first row whose policy is to throw. */
  end(): void {
    if (this.flagged === 0) return;
    this.reasons.sort((a, b) => a.at - b.at);
    for (const { at, field, kind, reason } of this.reasons) {
      this.reject({ line: this.batch.line(at), field, kind, reason });
    }
  }

  /** Lists one refused row. @throws RowError where its policy is to throw. */
  reject(rejection: Rejection): void {
    const { outOfOrder, duplicate, unknownItem, malformed } = this.policies;
    const policy = { malformed, 'unknown-item': unknownItem, 'out-of-order': outOfOrder, duplicate }[rejection.kind];
    if (policy === 'throw') throw new RowError(rejection);
    this.rejectedCount++;
    if (this.rejected.length < this.most) this.rejected.push(rejection);
  }
}
