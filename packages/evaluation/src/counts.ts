import { UNKNOWN_ITEM } from './interaction-log.js';
import type { TrainingData } from './system.js';

/** Entries of a sparse row: `values[i]` belongs to item `items[i]`. */
export interface SparseRow {
  readonly items: Int32Array;
  readonly values: Float64Array;
}

/** Counts that every baseline is made of. V items. */
export interface Counts {
  /** [V]: events of each item */
  readonly events: Float64Array;
  /** row a of the first-order transitions, normalised: T[a, j] / sum_j T[a, j] */
  transitions(item: number): SparseRow;
  /** row a of the cosine neighbours: C[a, j] / sqrt(n_a n_j), C = users who have both, no diagonal */
  neighbours(item: number): SparseRow;
}

/** Rows of the neighbour matrix are made when asked for; this many entries (12 bytes each) stay in memory, the latest used ones. */
const CACHED_ENTRIES = 16_000_000;

/** Counts the training events. Memory grows with the events, not with the square of the items. */
export function count({ log, end }: TrainingData): Counts {
  const size = log.itemIds.length;
  const events = new Float64Array(size);
  const outgoing = new Int32Array(size + 1);
  const owned = ownedItems({ log, end });
  for (let user = 0; user < log.users.length; user++) {
    for (let i = log.offsets[user]; i < end[user]; i++) {
      const item = log.items[i];
      if (item === UNKNOWN_ITEM) continue;
      events[item]++;
      if (i + 1 < end[user] && log.items[i + 1] !== UNKNOWN_ITEM) outgoing[item + 1]++;
    }
  }
  for (let item = 0; item < size; item++) outgoing[item + 1] += outgoing[item];
  const targets = new Int32Array(outgoing[size]);
  const cursor = outgoing.slice();
  for (let user = 0; user < log.users.length; user++) {
    for (let i = log.offsets[user]; i + 1 < end[user]; i++) {
      if (log.items[i] !== UNKNOWN_ITEM && log.items[i + 1] !== UNKNOWN_ITEM) targets[cursor[log.items[i]]++] = log.items[i + 1];
    }
  }
  for (let item = 0; item < size; item++) targets.subarray(outgoing[item], outgoing[item + 1]).sort();

  const transitions = (item: number): SparseRow => {
    const row = targets.subarray(outgoing[item], outgoing[item + 1]);
    const items: number[] = [];
    const values: number[] = [];
    for (let i = 0; i < row.length; i++) {
      if (i > 0 && row[i] === row[i - 1]) values[values.length - 1]++;
      else {
        items.push(row[i]);
        values.push(1);
      }
    }
    return { items: Int32Array.from(items), values: Float64Array.from(values, (value) => value / row.length) };
  };

  const both = new Int32Array(size);
  const touched = new Int32Array(size);
  const root = events.map((value) => Math.sqrt(value));
  const neighbours = (item: number): SparseRow => {
    let found = 0;
    for (let i = owned.userOffsets[item]; i < owned.userOffsets[item + 1]; i++) {
      const user = owned.users[i];
      const to = owned.itemOffsets[user + 1];
      for (let j = owned.itemOffsets[user]; j < to; j++) {
        const other = owned.items[j];
        if (both[other]++ === 0) touched[found++] = other;
      }
    }
    const items = new Int32Array(Math.max(0, found - 1));
    const values = new Float64Array(items.length);
    let length = 0;
    for (let i = 0; i < found; i++) {
      const other = touched[i];
      if (other !== item) {
        items[length] = other;
        values[length++] = both[other] / (root[item] * root[other]);
      }
      both[other] = 0;
    }
    return { items, values };
  };
  return { events, transitions: remember(transitions), neighbours: remember(neighbours) };
}

function remember(row: (item: number) => SparseRow): (item: number) => SparseRow {
  const kept = new Map<number, SparseRow>();
  let entries = 0;
  return (item) => {
    let found = kept.get(item);
    if (found) kept.delete(item);
    else {
      found = row(item);
      entries += found.items.length;
      for (const [oldest, { items }] of kept) {
        if (entries <= CACHED_ENTRIES) break;
        kept.delete(oldest);
        entries -= items.length;
      }
    }
    // a Map lists its keys in the order of insertion: the row just used becomes the youngest
    kept.set(item, found);
    return found;
  };
}

interface Owned {
  readonly itemOffsets: Int32Array;
  readonly items: Int32Array;
  readonly userOffsets: Int32Array;
  readonly users: Int32Array;
}

/** Each user's distinct training items, and for each item its users. */
function ownedItems({ log, end }: TrainingData): Owned {
  const size = log.itemIds.length;
  const itemOffsets = new Int32Array(log.users.length + 1);
  const items = new Int32Array(log.items.length);
  const userOffsets = new Int32Array(size + 1);
  const lastOwner = new Int32Array(size).fill(-1);
  let length = 0;
  for (let user = 0; user < log.users.length; user++) {
    for (let i = log.offsets[user]; i < end[user]; i++) {
      const item = log.items[i];
      if (item === UNKNOWN_ITEM || lastOwner[item] === user) continue;
      lastOwner[item] = user;
      items[length++] = item;
      userOffsets[item + 1]++;
    }
    itemOffsets[user + 1] = length;
  }
  for (let item = 0; item < size; item++) userOffsets[item + 1] += userOffsets[item];
  const cursor = userOffsets.slice();
  const users = new Int32Array(length);
  for (let user = 0; user < log.users.length; user++) {
    for (let i = itemOffsets[user]; i < itemOffsets[user + 1]; i++) users[cursor[items[i]]++] = user;
  }
  return { itemOffsets, items: items.slice(0, length), userOffsets, users };
}
