/** Lets those new Float32Arrays fail for whose number of elements `fails` says so; gives back how to end that. */
export function failAllocations(fails: (elements: number) => boolean): () => void {
  const original = globalThis.Float32Array;
  globalThis.Float32Array = new Proxy(original, {
    construct(target, args: unknown[]) {
      if (typeof args[0] === 'number' && fails(args[0])) throw new RangeError('Array buffer allocation failed');
      return Reflect.construct(target, args) as object;
    },
  });
  return () => void (globalThis.Float32Array = original);
}
