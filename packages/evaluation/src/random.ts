/** A seeded stream of random numbers: the same seed gives the same stream on every machine. */
export interface Random {
  /** uniform 32-bit unsigned integer */
  uint32(): number;
  /** uniform in [0, 1) */
  uniform(): number;
  /** uniform integer in [0, n) */
  below(n: number): number;
}

// looked up once: these stand in the innermost loop of every bootstrap
const { floor, imul } = Math;

/** xoshiro128** (Blackman and Vigna 2018), its state filled by splitmix32. */
export function random(seed: number): Random {
  let mixer = seed >>> 0;
  const mix = (): number => {
    mixer = (mixer + 0x9e3779b9) >>> 0;
    let z = mixer;
    z = imul(z ^ (z >>> 16), 0x21f0aaad);
    z = imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  let a = mix();
  let b = mix();
  let c = mix();
  let d = mix();
  const uint32 = (): number => {
    const times5 = imul(b, 5);
    const result = imul((times5 << 7) | (times5 >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  return {
    uint32,
    uniform: () => uint32() / 0x1_0000_0000,
    below: (n) => floor((uint32() / 0x1_0000_0000) * n),
  };
}

/** A seeded permutation of 0..n-1 (Fisher-Yates). */
export function permutation(n: number, seed: number): Int32Array {
  const source = random(seed);
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = source.below(i + 1);
    const kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  return order;
}
