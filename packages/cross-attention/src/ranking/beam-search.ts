import { checkCount } from '../check-count.js';
import { BestList } from './best-list.js';
import type { PrefixTrie } from './prefix-trie.js';
import { logNormalizer, notFinite } from './token-scorer.js';
import type { Logits, TokenScorer } from './token-scorer.js';

export interface RankOptions {
  /** How many items to return; fewer come back when fewer are left after `exclude`. */
  readonly top: number;
  /**
   * What a title's probability is among. `vocabulary`: all texts there are. `catalogue`: the titles of the trie; at every token the
   * model's choice is limited to what continues a title, so that where only one token can follow, it costs nothing, and the model is
   * not asked about the rest of a title that can be no other. Default: `vocabulary` of `beamSearch` and `exactRanking`, `catalogue` of
   * `byTitle` and of everything that ranks by it.
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

/** Items in order: the most probable first, equal scores in the catalogue's order. */
export interface RankedItems {
  /** Places in the catalogue: in the list of titles that the trie was built of, or among the items (or labels) that have tokens. */
  readonly items: Int32Array;
  /**
   * The natural logarithm of each item's probability, given the prompt. By title: of the whole title and its end among all texts, or of
   * the title among those of the catalogue, as `among` says. By tokens: of the item's among all items that have one. By retrieval: the
   * mix of the retriever's and the model's, whose titles are then among all texts.
   */
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
  // The row of the state that each prefix has; those about which the model is not asked have none.
  let rowOfNode = new Map([[0, 0]]);
  try {
    for (;;) {
      const logits = checkRows(scorer.logits(state), rowOfNode.size, trie);
      // There are no more prefixes than nodes, however many may be asked for.
      const open = new BestList(Math.min(width, trie.nodes));
      nodes.forEach((node, i) => {
        expand(trie, remaining, logits, among, rowOfNode.get(node), node, scores[i], found, (child, score) => {
          if (score >= found.threshold) open.add(score, trie.itemsOf(child)[0], child);
        });
      });
      // The threshold may have risen since a prefix was taken in.
      const kept = open.sorted().filter(({ score }) => score >= found.threshold);
      if (kept.length === 0) return ranked(found, tokens, steps);
      nodes = kept.map(({ payload }) => payload);
      scores = kept.map(({ score }) => score);
      const asked = nodes.filter((node) => !isSettled(trie, among, node));
      if (asked.length > 0) {
        const parents = Int32Array.from(asked, (node) => rowOfNode.get(trie.parent[node]) as number);
        signal?.throwIfAborted();
        const next = await scorer.step(
          state,
          parents,
          Int32Array.from(asked, (node) => trie.token[node]),
        );
        scorer.release?.(state);
        state = next;
        tokens += asked.length;
        steps++;
        rowOfNode = new Map(asked.map((node, row) => [node, row]));
      }
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
        expand(trie, remaining, logits, among, row, nodes[row], scores[row], found, (node, score) => {
          if (!isSettled(trie, among, node)) children.push({ node, score, row });
          else for (const item of trie.itemsOf(node)) if (!remaining.isExcluded(item)) found.add(score, item, item);
        });
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

/** Whether a prefix's title has its whole score already: among the catalogue, a certain token costs nothing. */
const isSettled = (trie: PrefixTrie, among: 'vocabulary' | 'catalogue', node: number): boolean =>
  among === 'catalogue' && trie.isCertain(node);

/** Scores the children of a node, from its row of the logits where it is not settled: items of leaves are found, other children are handed on. */
function expand(
  trie: PrefixTrie,
  remaining: RemainingItems,
  logits: Logits,
  among: 'vocabulary' | 'catalogue',
  row: number | undefined,
  node: number,
  score: number,
  found: BestList,
  handOn: (child: number, score: number) => void,
): void {
  const { firstChild, token } = trie;
  const take = (child: number, childScore: number) => {
    if (remaining.below(child) === 0) return;
    if (!trie.isLeaf(child)) handOn(child, childScore);
    else for (const item of trie.itemsOf(child)) if (!remaining.isExcluded(item)) found.add(childScore, item, item);
  };
  if (isSettled(trie, among, node)) return take(firstChild[node], score);
  if (row === undefined) throw new Error(`internal: the model was not asked about node ${node}`);
  const start = row * logits.vocabulary;
  const base = score - (among === 'vocabulary' ? logNormalizer(logits, row) : childNormalizer(trie, logits, start, node));
  if (Number.isNaN(base)) throw notFinite();
  for (let child = firstChild[node]; child < firstChild[node + 1]; child++) {
    // Rounding must not make a title more probable than its prefix.
    take(child, Math.min(score, base + logits.data[start + token[child]]));
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
      if (!(Number.isInteger(item) && item >= 0 && item < trie.items))
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
