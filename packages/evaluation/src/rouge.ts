import { stem } from './porter-stemmer.js';

/** Overlap of a prediction with a reference. */
export interface Overlap {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

/** ROUGE of one prediction (Lin 2004). */
export interface RougeScores {
  readonly rouge1: Overlap;
  readonly rouge2: Overlap;
  /** longest common subsequence of the whole texts */
  readonly rougeL: Overlap;
  /** union of longest common subsequences, sentence by sentence; sentences are lines */
  readonly rougeLsum: Overlap;
}

/** ROUGE-1, -2, -L and -Lsum of a prediction against a reference. Tokens are runs of a-z and 0-9 in lower case. */
export function rouge(reference: string, prediction: string, options: { readonly stemmer?: boolean } = {}): RougeScores {
  const words = (text: string): string[] => tokens(text, options.stemmer ?? false);
  const wanted = words(reference);
  const given = words(prediction);
  const lines = (text: string): string[][] => text.split('\n').filter(Boolean).map(words);
  return {
    rouge1: ngramOverlap(wanted, given, 1),
    rouge2: ngramOverlap(wanted, given, 2),
    rougeL: overlap(commonPositions(wanted, given).length, given.length, wanted.length),
    rougeLsum: summaryOverlap(lines(reference), lines(prediction)),
  };
}

function tokens(text: string, stemmer: boolean): string[] {
  const words = text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return stemmer ? words.map((word) => (word.length > 3 ? stem(word) : word)) : words;
}

function overlap(hits: number, given: number, wanted: number): Overlap {
  const precision = hits / Math.max(given, 1);
  const recall = hits / Math.max(wanted, 1);
  return { precision, recall, f1: hits === 0 ? 0 : (2 * precision * recall) / (precision + recall) };
}

function ngramOverlap(wanted: readonly string[], given: readonly string[], n: number): Overlap {
  const left = ngrams(wanted, n);
  const right = ngrams(given, n);
  let hits = 0;
  for (const [gram, times] of left) hits += Math.min(times, right.get(gram) ?? 0);
  return overlap(hits, Math.max(0, given.length - n + 1), Math.max(0, wanted.length - n + 1));
}

function ngrams(words: readonly string[], n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= words.length; i++) increase(counts, words.slice(i, i + n).join(' '));
  return counts;
}

function increase(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** Positions in `wanted` of one longest common subsequence with `given`. */
function commonPositions(wanted: readonly string[], given: readonly string[]): number[] {
  const columns = given.length + 1;
  const length = new Int32Array((wanted.length + 1) * columns);
  for (let i = 1; i <= wanted.length; i++) {
    for (let j = 1; j <= given.length; j++) {
      length[i * columns + j] =
        wanted[i - 1] === given[j - 1]
          ? length[(i - 1) * columns + j - 1] + 1
          : Math.max(length[(i - 1) * columns + j], length[i * columns + j - 1]);
    }
  }
  const found: number[] = [];
  for (let i = wanted.length, j = given.length; i > 0 && j > 0;) {
    if (wanted[i - 1] === given[j - 1]) {
      found.push(--i);
      j--;
    } else if (length[i * columns + j - 1] > length[(i - 1) * columns + j]) j--;
    else i--;
  }
  return found.reverse();
}

function summaryOverlap(wanted: readonly string[][], given: readonly string[][]): Overlap {
  const left = new Map<string, number>();
  const right = new Map<string, number>();
  for (const word of wanted.flat()) increase(left, word);
  for (const word of given.flat()) increase(right, word);
  let hits = 0;
  for (const sentence of wanted) {
    const union = new Set(given.flatMap((other) => commonPositions(sentence, other)));
    for (const position of [...union].sort((one, other) => one - other)) {
      const word = sentence[position];
      const inLeft = left.get(word) ?? 0;
      const inRight = right.get(word) ?? 0;
      if (inLeft === 0 || inRight === 0) continue;
      left.set(word, inLeft - 1);
      right.set(word, inRight - 1);
      hits++;
    }
  }
  return overlap(hits, given.flat().length, wanted.flat().length);
}
