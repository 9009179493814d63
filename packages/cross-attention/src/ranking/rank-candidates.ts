import { makerOf } from '../items/item-tokens.js';
import type { Candidate, NamedKind } from '../items/item-tokens.js';
import { byItemTokens, byLabelTokens } from './by-item-tokens.js';
import { byRetrieval } from './by-retrieval.js';
import type { Retrieval } from './by-retrieval.js';
import { byTitle } from './by-title.js';
import type { ByTitleOptions } from './by-title.js';
import type { CatalogueRanker } from './catalogue-ranker.js';
import type { PrefixTrie } from './prefix-trie.js';

/** How candidates are to be ranked. */
export interface CandidateRanking extends ByTitleOptions {
  /** What is ranked. Default: the items that have tokens, or the labels. */
  readonly candidates?: readonly Candidate[];
  /**
   * By their titles, token by token, or by the tokens of items or of labels. Default: item tokens where there are no `candidates`, titles
   * otherwise.
   */
  readonly by?: 'title' | 'item-tokens' | 'label-tokens';
  /**
   * Only the best of a retriever are ranked. Its scores are those of `candidates`, or of the items that have tokens, in their order; another
   * number of them is a `RangeError`.
   */
  readonly retrieve?: Retrieval;
  /** Ids that are not to be returned. */
  readonly exclude?: Iterable<string>;
}

/** A ranking of places in `catalogue`. */
export interface PlannedRanking {
  readonly ranker: CatalogueRanker;
  readonly catalogue: readonly Candidate[];
  readonly exclude: readonly number[];
}

const waysBy: readonly string[] = ['title', 'item-tokens', 'label-tokens'];

/** Throws a `RangeError` for candidates that are no list of them, or that have no text where they are ranked by it. */
function checkCandidates(candidates: readonly Candidate[], byText: boolean): void {
  const given: unknown = candidates;
  if (!Array.isArray(given))
    throw new RangeError(`candidates must be a list of { id, text }, not ${given === null ? 'null' : `a ${typeof given}`}.`);
  given.forEach((each: Partial<Candidate> | null | undefined, place) => {
    if (typeof each?.id !== 'string') throw new RangeError(`candidates[${place}] has no id: give { id, text }.`);
    if (byText && typeof each.text !== 'string')
      throw new RangeError(`candidates[${place}] has no text to rank it by: give { id, text }, or rank by item tokens.`);
  });
}

/** Throws a `RangeError` for what is no list of ids; one text is a list of its letters. */
function checkExcluded(exclude: unknown): void {
  const isList = typeof exclude === 'object' && exclude !== null && Symbol.iterator in exclude;
  if (exclude !== undefined && !isList)
    throw new RangeError(`exclude must be a list of ids, not ${exclude === null ? 'null' : `a ${typeof exclude}`}.`);
}

/** Plans a ranking for a model with tokens for these items and labels, `trieOf` being how it makes tries of titles. */
export function planRanking(
  request: CandidateRanking,
  { items, labels }: { readonly items: readonly Candidate[]; readonly labels: readonly Candidate[] },
  trieOf: (candidates: readonly Candidate[]) => PrefixTrie,
): PlannedRanking {
  const { candidates, retrieve, by = candidates === undefined ? 'item-tokens' : 'title' } = request;
  if (!waysBy.includes(by))
    throw new RangeError(
      `by cannot be '${by}': give 'title', 'item-tokens' or 'label-tokens', and retrieve beside it where only what was retrieved is ranked.`,
    );
  if (candidates !== undefined) checkCandidates(candidates, by === 'title');
  checkExcluded(request.exclude);
  if (by === 'title' && candidates === undefined && items.length === 0)
    throw new RangeError('There is nothing to rank by title: give candidates, or make tokens for items with withItemTokens.');
  if (by === 'item-tokens' && items.length === 0)
    throw new RangeError('The model has no item tokens to rank by; give candidates, or make tokens with withItemTokens.');
  if (by === 'label-tokens' && labels.length === 0)
    throw new RangeError('The model has no label tokens to rank by; make some with withLabelTokens.');
  const [kind, named] = by === 'label-tokens' ? (['label', labels] as const) : (['item', items] as const);
  const byTokens = kind === 'label' ? byLabelTokens(labels.length) : byItemTokens(items.length);
  if (by !== 'title' && candidates !== undefined) return planAmongTokens({ ...request, candidates }, kind, named, byTokens);
  const catalogue = candidates ?? named;
  const left = new Set(request.exclude);
  const ranker = by === 'title' ? byTitle(trieOf(catalogue), request) : byTokens;
  return {
    ranker: retrieve === undefined ? ranker : byRetrieval({ ...retrieve, ranker }),
    catalogue,
    exclude: catalogue.flatMap(({ id }, place) => (left.has(id) ? [place] : [])),
  };
}

/** Some of the items, or labels, that have tokens: the others are left out. */
function planAmongTokens(
  request: CandidateRanking & Required<Pick<CandidateRanking, 'candidates'>>,
  kind: NamedKind,
  items: readonly Candidate[],
  ranker: CatalogueRanker,
): PlannedRanking {
  const { candidates, retrieve, exclude = [] } = request;
  const places = new Map(items.map(({ id }, place) => [id, place]));
  const unknown = candidates.find(({ id }) => !places.has(id));
  if (unknown !== undefined)
    throw new RangeError(`The candidate '${unknown.id}' has no ${kind} token; make one with ${makerOf[kind]}, or rank by title.`);
  const wanted = candidates.map(({ id }) => places.get(id)!);
  const left = new Set(exclude);
  const kept = new Set(wanted.filter((_, i) => !left.has(candidates[i].id)));
  const spread = async (scores: ArrayLike<number> | Promise<ArrayLike<number>>): Promise<Float64Array> => {
    const all = new Float64Array(items.length).fill(-Infinity);
    const given = await scores;
    if (given.length !== wanted.length)
      throw new RangeError(`The retriever scores ${given.length} ${kind}s, and ${wanted.length} are candidates.`);
    wanted.forEach((place, i) => (all[place] = given[i]));
    return all;
  };
  return {
    ranker: retrieve === undefined ? ranker : byRetrieval({ ...retrieve, retriever: () => spread(retrieve.retriever()), ranker }),
    catalogue: items,
    exclude: items.map((_, place) => place).filter((place) => !kept.has(place)),
  };
}
