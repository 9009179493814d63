/** Throws a `RangeError` for what is no whole number of at least 1; `name` is the option's. */
export function checkCount(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) throw new RangeError(`${name} must be a whole number of at least 1, not ${value}.`);
}
