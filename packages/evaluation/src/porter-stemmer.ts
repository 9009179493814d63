/**
 * Porter's stemmer (An algorithm for suffix stripping, 1980) with the departures that NLTK makes by default and the field's ROUGE
 * figures therefore rest on: a list of irregular words, "ies" and "ied" of short words, "y" after a consonant, "alli", "fulli", "logi".
 */
export function stem(word: string): string {
  const irregular = IRREGULAR.get(word);
  if (irregular !== undefined) return irregular;
  if (word.length <= 2) return word;
  let stemmed = plural(word);
  stemmed = pastAndGerund(stemmed);
  stemmed = finalY(stemmed);
  stemmed = doubleSuffix(stemmed);
  stemmed = firstMatch(stemmed, STEP_3, (rest) => measure(rest) > 0);
  stemmed = singleSuffix(stemmed);
  return finalE(stemmed);
}

const IRREGULAR = new Map<string, string>(
  Object.entries({
    sky: ['sky', 'skies'],
    die: ['dying'],
    lie: ['lying'],
    tie: ['tying'],
    news: ['news'],
    inning: ['innings', 'inning'],
    outing: ['outings', 'outing'],
    canning: ['cannings', 'canning'],
    howe: ['howe'],
    proceed: ['proceed'],
    exceed: ['exceed'],
    succeed: ['succeed'],
  }).flatMap(([stemmed, words]) => words.map((word): [string, string] => [word, stemmed])),
);

type Rule = readonly [suffix: string, replacement: string];

const STEP_2: readonly Rule[] = [
  ['ational', 'ate'],
  ['tional', 'tion'],
  ['enci', 'ence'],
  ['anci', 'ance'],
  ['izer', 'ize'],
  ['bli', 'ble'],
  ['alli', 'al'],
  ['entli', 'ent'],
  ['eli', 'e'],
  ['ousli', 'ous'],
  ['ization', 'ize'],
  ['ation', 'ate'],
  ['ator', 'ate'],
  ['alism', 'al'],
  ['iveness', 'ive'],
  ['fulness', 'ful'],
  ['ousness', 'ous'],
  ['aliti', 'al'],
  ['iviti', 'ive'],
  ['biliti', 'ble'],
  ['fulli', 'ful'],
];

const STEP_3: readonly Rule[] = [
  ['icate', 'ic'],
  ['ative', ''],
  ['alize', 'al'],
  ['iciti', 'ic'],
  ['ical', 'ic'],
  ['ful', ''],
  ['ness', ''],
];

const STEP_4 = [
  'al',
  'ance',
  'ence',
  'er',
  'ic',
  'able',
  'ible',
  'ant',
  'ement',
  'ment',
  'ent',
  'ion',
  'ou',
  'ism',
  'ate',
  'iti',
  'ous',
  'ive',
  'ize',
];

function isConsonant(word: string, i: number): boolean {
  if ('aeiou'.includes(word[i])) return false;
  return word[i] !== 'y' || i === 0 || !isConsonant(word, i - 1);
}

/** m of Porter's [C](VC)^m[V]: how often a vowel is followed by a consonant. */
function measure(word: string): number {
  let m = 0;
  for (let i = 1; i < word.length; i++) if (isConsonant(word, i) && !isConsonant(word, i - 1)) m++;
  return m;
}

const hasVowel = (word: string): boolean => [...word].some((_, i) => !isConsonant(word, i));

const endsDouble = (word: string): boolean =>
  word.length >= 2 && word.at(-1) === word.at(-2) && isConsonant(word, word.length - 1);

/** Ends consonant-vowel-consonant, the last not w, x or y; or is vowel-consonant as a whole. */
function endsShort(word: string): boolean {
  const n = word.length;
  if (n === 2) return !isConsonant(word, 0) && isConsonant(word, 1);
  return (
    n >= 3 && isConsonant(word, n - 3) && !isConsonant(word, n - 2) && isConsonant(word, n - 1) && !'wxy'.includes(word[n - 1])
  );
}

/** The first suffix that matches decides, also when its condition then fails. */
function firstMatch(word: string, rules: readonly Rule[], condition: (rest: string) => boolean): string {
  for (const [suffix, replacement] of rules) {
    if (!word.endsWith(suffix)) continue;
    const rest = word.slice(0, word.length - suffix.length);
    return condition(rest) ? rest + replacement : word;
  }
  return word;
}

function plural(word: string): string {
  if (word.endsWith('ies') && word.length === 4) return word.slice(0, -1);
  return firstMatch(
    word,
    [
      ['sses', 'ss'],
      ['ies', 'i'],
      ['ss', 'ss'],
      ['s', ''],
    ],
    () => true,
  );
}

function pastAndGerund(word: string): string {
  if (word.endsWith('ied')) return word.length === 4 ? word.slice(0, -1) : word.slice(0, -2);
  if (word.endsWith('eed')) return measure(word.slice(0, -3)) > 0 ? word.slice(0, -1) : word;
  const suffix = ['ed', 'ing'].find((ending) => word.endsWith(ending) && hasVowel(word.slice(0, word.length - ending.length)));
  if (suffix === undefined) return word;
  const rest = word.slice(0, word.length - suffix.length);
  if (['at', 'bl', 'iz'].some((ending) => rest.endsWith(ending))) return `${rest}e`;
  if (endsDouble(rest)) return 'lsz'.includes(rest.at(-1) as string) ? rest : rest.slice(0, -1);
  return measure(rest) === 1 && endsShort(rest) ? `${rest}e` : rest;
}

function finalY(word: string): string {
  const rest = word.slice(0, -1);
  return word.endsWith('y') && rest.length > 1 && isConsonant(rest, rest.length - 1) ? `${rest}i` : word;
}

function doubleSuffix(word: string): string {
  const positive = (rest: string): boolean => measure(rest) > 0;
  if (word.endsWith('alli') && positive(word.slice(0, -4))) return doubleSuffix(word.slice(0, -2));
  if (word.endsWith('logi')) return positive(word.slice(0, -3)) ? word.slice(0, -1) : word;
  return firstMatch(word, STEP_2, positive);
}

function singleSuffix(word: string): string {
  for (const suffix of STEP_4) {
    if (!word.endsWith(suffix)) continue;
    const rest = word.slice(0, word.length - suffix.length);
    if (suffix === 'ion') return measure(rest) > 1 && 'st'.includes(rest.at(-1) as string) ? rest : word;
    return measure(rest) > 1 ? rest : word;
  }
  return word;
}

function finalE(word: string): string {
  let stemmed = word;
  if (word.endsWith('e')) {
    const rest = word.slice(0, -1);
    const m = measure(rest);
    if (m > 1 || (m === 1 && !endsShort(rest))) stemmed = rest;
  }
  return stemmed.endsWith('ll') && measure(stemmed.slice(0, -1)) > 1 ? stemmed.slice(0, -1) : stemmed;
}
