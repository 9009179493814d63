/** How well users and texts find each other. */
export interface Found {
  /** Symmetric cross-entropy among all of them, as in training. */
  readonly loss: number;
  /** The share, over both directions, of those whose nearest is their own; guessing finds one in as many as there are. */
  readonly accuracy: number;
}

/**
 * Compares all users with all texts.
 *
 * @param users [n, width] of length 1
 * @param texts [n, width] of length 1; the i-th is the i-th user's
 * @param keys [n] of the texts: equal ones are the same text, and are not held against each other
 */
export function foundPairs(
  users: readonly Float32Array[],
  texts: readonly Float32Array[],
  keys: readonly string[],
  sharpness: number,
): Found {
  let loss = 0;
  let right = 0;
  for (const [from, to] of [
    [users, texts],
    [texts, users],
  ])
    from.forEach((vector, i) => {
      const own = sharpness * product(vector, to[i]);
      const others = to.flatMap((other, j) => (keys[j] === keys[i] ? [] : [sharpness * product(vector, other)]));
      if (others.every((other) => other < own)) right++;
      const most = Math.max(own, ...others);
      const total = others.reduce((sum, other) => sum + Math.exp(other - most), Math.exp(own - most));
      loss += most + Math.log(total) - own;
    });
  return { loss: loss / (2 * users.length), accuracy: right / (2 * users.length) };
}

function product(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
