/** Segments up to this length are sorted by insertion. */
const SHORT = 24;

/**
 * The order that groups events by user and keeps file order within each.
 *
 * @param userOf [N] user index of each event, in file order
 * @returns `order` [N] (place in the result -> place in the file) and `offsets` [U + 1]
 */
export function groupByUser(userOf: Int32Array, users: number): { order: Int32Array; offsets: Int32Array } {
  const events = userOf.length;
  const offsets = new Int32Array(users + 1);
  for (let e = 0; e < events; e++) offsets[userOf[e] + 1]++;
  for (let u = 0; u < users; u++) offsets[u + 1] += offsets[u];
  const next = offsets.slice(0, users);
  const order = new Int32Array(events);
  for (let e = 0; e < events; e++) order[next[userOf[e]]++] = e;
  return { order, offsets };
}

/**
 * The order that groups events by user and sorts each user's events by time; equal times keep file order. An event of unknown time
 * stays behind the event of its user that stood before it in the file.
 *
 * @param userOf [N] user index of each event, in file order
 * @param times [N] NaN unknown
 * @returns `order` [N] (place in the result -> place in the file), `offsets` [U + 1], and `times` [N] in that order
 */
export function sortByUserAndTime(
  userOf: Int32Array,
  times: Float64Array,
  users: number,
): { order: Int32Array; offsets: Int32Array; times: Float64Array } {
  const { order, offsets } = groupByUser(userOf, users);
  const sortedTimes = new Float64Array(order.length);
  let keys = new Float64Array(256);
  let spareKeys = new Float64Array(256);
  let spareOrder = new Int32Array(256);
  for (let u = 0; u < users; u++) {
    const start = offsets[u];
    const end = offsets[u + 1];
    let sorted = true;
    let last = -Infinity;
    for (let i = start; i < end; i++) {
      const time = times[order[i]];
      sortedTimes[i] = time;
      if (time < last) sorted = false;
      else if (time === time) last = time;
    }
    if (sorted) continue;
    const length = end - start;
    if (keys.length < length) {
      keys = new Float64Array(length * 2);
      spareKeys = new Float64Array(length * 2);
      spareOrder = new Int32Array(length * 2);
    }
    last = -Infinity;
    for (let i = 0; i < length; i++) {
      const time = sortedTimes[start + i];
      if (time === time) last = time;
      keys[i] = last;
    }
    stableSort(keys, order.subarray(start, end), length, spareKeys, spareOrder);
    for (let i = start; i < end; i++) sortedTimes[i] = times[order[i]];
  }
  return { order, offsets, times: sortedTimes };
}

/** Sorts the first `length` keys, and the values with them; a bottom-up merge sort, so that equal keys keep their order. */
function stableSort(
  keys: Float64Array,
  values: Int32Array,
  length: number,
  spareKeys: Float64Array,
  spareValues: Int32Array,
): void {
  for (let from = 0; from < length; from += SHORT) {
    const to = Math.min(from + SHORT, length);
    for (let i = from + 1; i < to; i++) {
      const key = keys[i];
      const value = values[i];
      let j = i - 1;
      while (j >= from && keys[j] > key) {
        keys[j + 1] = keys[j];
        values[j + 1] = values[j];
        j--;
      }
      keys[j + 1] = key;
      values[j + 1] = value;
    }
  }
  let fromKeys = keys;
  let fromValues = values;
  let toKeys = spareKeys;
  let toValues = spareValues;
  for (let run = SHORT; run < length; run *= 2) {
    for (let left = 0; left < length; left += 2 * run) {
      const middle = Math.min(left + run, length);
      const end = Math.min(left + 2 * run, length);
      let a = left;
      let b = middle;
      for (let to = left; to < end; to++) {
        const takeLeft = a < middle && (b >= end || fromKeys[a] <= fromKeys[b]);
        const from = takeLeft ? a++ : b++;
        toKeys[to] = fromKeys[from];
        toValues[to] = fromValues[from];
      }
    }
    [fromKeys, toKeys] = [toKeys, fromKeys];
    [fromValues, toValues] = [toValues, fromValues];
  }
  if (fromValues !== values) values.set(fromValues.subarray(0, length));
}
