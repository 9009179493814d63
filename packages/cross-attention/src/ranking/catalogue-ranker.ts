import type { NamedKind } from '../items/item-tokens.js';
import type { RankOptions, RankedItems } from './beam-search.js';
import type { TokenScorer } from './token-scorer.js';

/** How a catalogue is ranked: by its titles' tokens, by one token per item, or by re-ranking what was retrieved. */
export type CatalogueWay = 'title' | 'item-tokens' | 'retrieve';

/** How a ranking was made: that of a catalogue, or of labels by one token each. */
export type RankingWay = CatalogueWay | 'label-tokens';

/** A language model that was asked something, as rankers go on from there. The prompt runs once, when it is first needed. */
export interface AskedModel<State = unknown> {
  /** Scores texts that follow the prompt, token by token. */
  texts(): Promise<TokenScorer<State>>;
  /** A logit of every item's token, or every label's, after the prompt, `[items]`. Throws where the model has no such tokens. */
  namedLogits(kind: NamedKind): Promise<Float32Array>;
}

/** Scores of given items, in their order, and what they cost. */
export type ItemScores = Omit<RankedItems, 'items'>;

/** One way to rank a catalogue after a prompt: `byTitle`, `byItemTokens`, `byLabelTokens` and `byRetrieval` are those there are. */
export interface CatalogueRanker {
  readonly way: RankingWay;
  /** Number of items that it ranks. */
  readonly items: number;
  /** Most tokens that it puts behind a prompt. */
  readonly depth: number;
  /** The `top` items, the most probable first, equal scores in the catalogue's order. */
  rank(asked: AskedModel, options: RankOptions): Promise<RankedItems>;
  /** The logarithm of each item's probability. */
  score(asked: AskedModel, items: Int32Array, options: Pick<RankOptions, 'signal'>): Promise<ItemScores>;
}
