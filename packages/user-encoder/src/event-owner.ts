/** The user who owns an event: the last one whose events begin at or before it. */
export function userOf(offsets: Int32Array, event: number): number {
  let low = 0;
  let high = offsets.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (offsets[middle] <= event) low = middle;
    else high = middle;
  }
  return low;
}
