import { BestList } from './best-list.js';
import type { PrefixTrie } from './prefix-trie.js';
import { logNormalizer } from './token-scorer.js';
import type { Logits, TokenScorer } from './token-scorer.js';

export interface RankOptions {
  /** How many items to return; fewer come back when fewer are left after `exclude`. */
  readonly top: number;
  /**
   * What a title's probability is among. `vocabulary` (the default): all texts there are. `catalogue`: the titles of the trie; at every
   * token the model's choice is limited to what continues a title, so that where only one token can follow, it costs nothing.
   */
  readonly among?: 'vocabulary' | 'catalogue';
  /** Items that are not to be returned. They take no place in the beam. */
  readonly exclude?: Iterable<number>;
  readonly signal?: AbortSignal;
}

export interface BeamSearchOptions extends RankOptions {
  /** Most prefixes that are carried from one token to the next; at least `top`. Default 50, or `top` where that is more. */
  readonly width?: number;
}

export interface ExactRankingOptions extends RankOptions {
  /** Most rows of one model step; more cost memory, fewer cost time. Default 256. */
  readonly chunk?: number;
}

/** Items in order: the most probable first, equal scores in file order. */
export interface RankedItems {
  readonly items: Int32Array;
  /** The log-probability of each item's whole title and its end, given the prompt. Natural logarithm. */
  readonly scores: Float64Array;
  /** Tokens that went through the model after the prompt: the rows of all steps. */
  readonly tokens: number;
  /** Calls of the model after the prompt. */
  readonly steps: number;
}

/**
 * Ranks the titles of a trie by their probability after a prompt, keeping the best `width` prefixes at every token. A prefix is dropped
 * for good when `top` whole titles are already better than it: probabilities only fall, so this loses nothing. What the width loses
 * is told by `exactRanking`; with a width of all prefixes both are the same.
 */
export async function beamSearch<State>(
  trie: PrefixTrie,
  scorer: TokenScorer<State>,
  options: BeamSearchOptions,
): Promise<RankedItems> {
  const { top, signal, among = 'vocabulary' } = options;
  const width = options.width ?? Math.max(50, top);
  checkCount('top', top);
  checkCount('width', width);
  if (width < top) throw new RangeError(`A beam of width ${width} cannot return ${top} items; make it at least as wide.`);
  const remaining = new RemainingItems(trie, options.exclude ?? []);
  const found = new BestList(Math.min(top, remaining.below(0)));
  let tokens = 0;
  let steps = 0;
  if (found.capacity === 0) return ranked(found, tokens, steps);

  signal?.throwIfAborted();
  let state = await scorer.start();
  let nodes: number[] = [0];
  let scores: number[] = [0];
  try {
    for (;;) {
      const logits = checkRows(scorer.logits(state), nodes.length, trie);
      const open = new BestList(width);
      for (let row = 0; row < nodes.length; row++) {
        expand(trie, remaining, logits, among, row, nodes[row], scores[row], found, (child, score) => {
          if (score >= found.threshold) open.add(score, trie.itemsOf(child)[0], child);
        });
      }
      // The threshold may have risen since a prefix was taken in.
      const kept = open.sorted().filter(({ score }) => score >= found.threshold);
      if (kept.length === 0) return ranked(found, tokens, steps);
      const rowOfNode = new Map(nodes.map((node, row) => [node, row]));
      const parents = Int32Array.from(kept, ({ payload }) => rowOfNode.get(trie.parent[payload]) as number);
      signal?.throwIfAborted();
      const next = await scorer.step(
        state,
        parents,
        Int32Array.from(kept, ({ payload }) => trie.token[payload]),
      );
      scorer.release?.(state);
      state = next;
      nodes = kept.map(({ payload }) => payload);
      scores = kept.map(({ score }) => score);
      tokens += nodes.length;
      steps++;
    }
  } finally {
    scorer.release?.(state);
  }
}

/**
 * Ranks exactly: the same result as `beamSearch` with an unlimited width, without its memory. The trie is walked depth first in chunks of
 * prefixes, so that one chunk per level is held; a prefix that can no longer reach the `top` is skipped, which loses nothing. With
 * `top` as large as the trie every title is scored.
 */
export async function exactRanking<State>(
  trie: PrefixTrie,
  scorer: TokenScorer<State>,
  options: ExactRankingOptions,
): Promise<RankedItems> {
  const { top, signal, chunk = 256, among = 'vocabulary' } = options;
  checkCount('top', top);
  checkCount('chunk', chunk);
  const remaining = new RemainingItems(trie, options.exclude ?? []);
  const found = new BestList(Math.min(top, remaining.below(0)));
  let tokens = 0;
  let steps = 0;
  if (found.capacity === 0) return ranked(found, tokens, steps);

  // Takes the state over, and releases it.
  const walk = async (state: State, nodes: readonly number[], scores: readonly number[]): Promise<void> => {
    try {
      const logits = checkRows(scorer.logits(state), nodes.length, trie);
      const children: { node: number; score: number; row: number }[] = [];
      for (let row = 0; row < nodes.length; row++) {
        expand(trie, remaining, logits, among, row, nodes[row], scores[row], found, (node, score) =>
          children.push({ node, score, row }),
        );
      }
      // The likely ones first: the sooner good titles are found, the more prefixes can be skipped.
      children.sort((a, b) => b.score - a.score || a.node - b.node);
      for (let start = 0; start < children.length; start += chunk) {
        const part = children.slice(start, start + chunk).filter(({ score }) => score >= found.threshold);
        if (part.length === 0) break;
        signal?.throwIfAborted();
        const next = await scorer.step(
          state,
          Int32Array.from(part, ({ row }) => row),
          Int32Array.from(part, ({ node }) => trie.token[node]),
        );
        tokens += part.length;
        steps++;
        await walk(
          next,
          part.map(({ node }) => node),
          part.map(({ score }) => score),
        );
      }
    } finally {
      scorer.release?.(state);
    }
  };
  signal?.throwIfAborted();
  await walk(await scorer.start(), [0], [0]);
  return ranked(found, tokens, steps);
}

/** Scores the children of one row's node: items of leaves are found, other children are handed on. */
function expand(
  trie: PrefixTrie,
  remaining: RemainingItems,
  logits: Logits,
  among: 'vocabulary' | 'catalogue',
  row: number,
  node: number,
  score: number,
  found: BestList,
  handOn: (child: number, score: number) => void,
): void {
  const { firstChild, token } = trie;
  const start = row * logits.vocabulary;
  const base = score - (among === 'vocabulary' ? logNormalizer(logits, row) : childNormalizer(trie, logits, start, node));
  if (Number.isNaN(base)) throw new Error('internal: the language model gave logits that are not numbers.');
  for (let child = firstChild[node]; child < firstChild[node + 1]; child++) {
    if (remaining.below(child) === 0) continue;
    // Rounding must not make a title more probable than its prefix.
    const childScore = Math.min(score, base + logits.data[start + token[child]]);
    if (!trie.isLeaf(child)) handOn(child, childScore);
    else for (const item of trie.itemsOf(child)) if (!remaining.isExcluded(item)) found.add(childScore, item, item);
  }
}

/** The logarithm of the sum of exponentials over the tokens that continue a node. */
function childNormalizer({ firstChild, token }: PrefixTrie, { data }: Logits, start: number, node: number): number {
  const end = firstChild[node + 1];
  let largest = -Infinity;
  for (let child = firstChild[node]; child < end; child++) largest = Math.max(largest, data[start + token[child]]);
  let sum = 0;
  for (let child = firstChild[node]; child < end; child++) sum += Math.exp(data[start + token[child]] - largest);
  return largest + Math.log(sum);
}

/** How many items below a node may still be returned: the trie's counts less the excluded items on the path to them. */
class RemainingItems {
  readonly #excluded: ReadonlySet<number>;
  readonly #removedBelow = new Map<number, number>();

  constructor(
    private readonly trie: PrefixTrie,
    exclude: Iterable<number>,
  ) {
    this.#excluded = new Set(exclude);
    for (const item of this.#excluded) {
      if (!(item >= 0 && item < trie.items))
        throw new RangeError(`Item ${item} is to be excluded, but the trie has ${trie.items} items.`);
      for (let node = trie.leafOfItem[item]; node !== -1; node = trie.parent[node]) {
        this.#removedBelow.set(node, (this.#removedBelow.get(node) ?? 0) + 1);
      }
    }
  }

  below(node: number): number {
    return this.trie.itemsBelow[node] - (this.#removedBelow.get(node) ?? 0);
  }

  isExcluded(item: number): boolean {
    return this.#excluded.has(item);
  }
}

function ranked(found: BestList, tokens: number, steps: number): RankedItems {
  const entries = found.sorted();
  return {
    items: Int32Array.from(entries, ({ payload }) => payload),
    scores: Float64Array.from(entries, ({ score }) => score),
    tokens,
    steps,
  };
}

function checkRows(logits: Logits, rows: number, trie: PrefixTrie): Logits {
  if (logits.data.length !== rows * logits.vocabulary) {
    throw new Error(
      `internal: ${rows} rows of ${logits.vocabulary} logits were expected, but there are ${logits.data.length} values.`,
    );
  }
  if (logits.vocabulary <= trie.largestToken) {
    throw new RangeError(
      `The titles use token ${trie.largestToken}, but the model's vocabulary holds ${logits.vocabulary}. Encode them with this model's tokenizer.`,
    );
  }
  return logits;
}

function checkCount(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) throw new RangeError(`${name} must be a whole number of at least 1, not ${value}.`);
}
