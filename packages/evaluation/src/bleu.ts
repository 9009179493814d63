const LONGEST = 4;

/**
 * Corpus BLEU (Papineni et al. 2002), 0 to 100: one reference per hypothesis, mteval's 13a tokens, n-grams up to four, exponential
 * smoothing of orders without a match, brevity penalty.
 */
export function corpusBleu(references: readonly string[], hypotheses: readonly string[]): number {
  if (references.length !== hypotheses.length)
    throw new RangeError(`${references.length} references against ${hypotheses.length} hypotheses: give one each.`);
  const right = new Float64Array(LONGEST);
  const total = new Float64Array(LONGEST);
  let wantedLength = 0;
  let givenLength = 0;
  references.forEach((reference, i) => {
    const wanted = tokens(reference);
    const given = tokens(hypotheses[i]);
    wantedLength += wanted.length;
    givenLength += given.length;
    for (let n = 1; n <= LONGEST; n++) {
      const known = ngrams(wanted, n);
      for (const [gram, times] of ngrams(given, n)) right[n - 1] += Math.min(times, known.get(gram) ?? 0);
      total[n - 1] += Math.max(0, given.length - n + 1);
    }
  });
  let smooth = 1;
  let logs = 0;
  for (let n = 0; n < LONGEST; n++) {
    if (total[n] === 0) return 0;
    if (right[n] === 0) smooth *= 2;
    logs += Math.log(right[n] > 0 ? right[n] / total[n] : 1 / (smooth * total[n]));
  }
  if (right.every((matches) => matches === 0)) return 0;
  const penalty = givenLength < wantedLength ? Math.exp(1 - wantedLength / givenLength) : 1;
  return 100 * penalty * Math.exp(logs / LONGEST);
}

/** mteval's 13a tokens: entities decoded, punctuation set apart, points and commas kept between digits. */
function tokens(text: string): string[] {
  const line = text
    .trimEnd()
    .replaceAll('<skipped>', '')
    .replaceAll('-\n', '')
    .replaceAll('\n', ' ')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>');
  return ` ${line} `
    .replace(/([{-~[-` -&(-+:-@/])/gu, ' $1 ')
    .replace(/([^0-9])([.,])/gu, '$1 $2 ')
    .replace(/([.,])([^0-9])/gu, ' $1 $2')
    .replace(/([0-9])(-)/gu, '$1 $2 ')
    .split(/\s+/u)
    .filter(Boolean);
}

function ngrams(words: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= words.length; i++) {
    const gram = words.slice(i, i + n).join(' ');
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}
