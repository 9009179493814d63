const LONGEST = 6;
/** beta^2: recall weighs beta = 2 times as much as precision */
const FACTOR = 4;

/** Character n-gram F-score (Popovic 2015), 0 to 100: n-grams of one to six characters without white space, beta 2. */
export function chrf(reference: string, hypothesis: string): number {
  return score(statistics(reference, hypothesis));
}

/** {@link chrf} of a corpus: n-grams are counted over all pairs before the score is taken. */
export function corpusChrf(references: readonly string[], hypotheses: readonly string[]): number {
  if (references.length !== hypotheses.length)
    throw new RangeError(`${references.length} references against ${hypotheses.length} hypotheses: give one each.`);
  const sums = Array.from({ length: LONGEST }, () => ({ given: 0, wanted: 0, right: 0 }));
  references.forEach((reference, i) => {
    statistics(reference, hypotheses[i]).forEach(({ given, wanted, right }, n) => {
      sums[n].given += given;
      sums[n].wanted += wanted;
      sums[n].right += right;
    });
  });
  return score(sums);
}

interface Statistics {
  readonly given: number;
  readonly wanted: number;
  readonly right: number;
}

function statistics(reference: string, hypothesis: string): Statistics[] {
  const left = [...reference.replace(/\s+/gu, '')];
  const right = [...hypothesis.replace(/\s+/gu, '')];
  return Array.from({ length: LONGEST }, (_, i) => {
    const n = i + 1;
    const known = ngrams(left, n);
    const wanted = Math.max(0, left.length - n + 1);
    let hits = 0;
    for (const [gram, times] of ngrams(right, n)) hits += Math.min(times, known.get(gram) ?? 0);
    // an order that the reference is too short for says nothing about the hypothesis
    return { given: wanted === 0 ? 0 : Math.max(0, right.length - n + 1), wanted, right: hits };
  });
}

function score(orders: readonly Statistics[]): number {
  let precision = 0;
  let recall = 0;
  let counted = 0;
  for (const { given, wanted, right } of orders) {
    if (given === 0 || wanted === 0) continue;
    precision += right / given;
    recall += right / wanted;
    counted++;
  }
  if (counted === 0 || precision + recall === 0) return 0;
  precision /= counted;
  recall /= counted;
  return (100 * (1 + FACTOR) * precision * recall) / (FACTOR * precision + recall);
}

function ngrams(characters: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= characters.length; i++) {
    const gram = characters.slice(i, i + n).join('');
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}
