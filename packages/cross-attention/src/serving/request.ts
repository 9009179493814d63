import type { RankedItems } from '../ranking/beam-search.js';
import type { Retrieval } from '../ranking/by-retrieval.js';
import type { ByTitleOptions } from '../ranking/by-title.js';
import type { CatalogueRanker, RankingWay } from '../ranking/catalogue-ranker.js';
import type { PrefixTrie } from '../ranking/prefix-trie.js';
import type { ChatMessage } from '../text/text-tokenizer.js';
import type { Prefix } from './prefix.js';
import type { SamplingSettings } from './sampling.js';
import type { ReadableEmbedding, UserState } from './user-state.js';

/** What is asked: messages for the chat template, a text as it is, or token ids. */
export type Prompt =
  | { readonly messages: readonly ChatMessage[]; readonly prompt?: undefined; readonly promptIds?: undefined }
  | { readonly prompt: string; readonly messages?: undefined; readonly promptIds?: undefined }
  | { readonly promptIds: readonly number[]; readonly messages?: undefined; readonly prompt?: undefined };

/** What every request says besides its prompt. */
export interface RequestOptions {
  /** Whose embedding is read; without one the answer is the base model's. */
  readonly user?: ReadableEmbedding | UserState | undefined;
  /** The beginning of the prompt, computed before by `ServedModel.prefix`. */
  readonly prefix?: Prefix | undefined;
  /** How many tokens at the prompt's beginning do not read the user. Default: what the model's `blindPrefix` says. */
  readonly blindTokens?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type GenerateRequest = Prompt &
  RequestOptions & {
    /** Default 128, or what is left of the context. */
    readonly maxNewTokens?: number;
    /**
     * More of transformers.js's generation settings: `do_sample`, `temperature`, `top_k`, `top_p`, `stopping_criteria`, ... Default: greedy. Not
     * those that the request makes itself, `max_new_tokens`, `streamer` and the model's inputs, nor those that do nothing there, such as
     * `num_beams`: these are a `RangeError`.
     */
    readonly settings?: Readonly<Record<string, unknown>>;
  };

/** A request to a scheduler: greedy, or drawn by a seed. */
export type ScheduledRequest = Prompt &
  RequestOptions & {
    /** Default 128, or what is left of the context. */
    readonly maxNewTokens?: number;
    readonly sampling?: SamplingSettings;
  };

/** What `prefix` is asked for. */
export type PrefixRequest = Prompt & Pick<RequestOptions, 'blindTokens' | 'signal'>;

export type RankRequest = Prompt &
  RequestOptions & {
    readonly top: number;
    /** Items, by their place in the catalogue, that are not to be returned. */
    readonly exclude?: Iterable<number>;
    /** Only the best of a retriever are ranked: its scores are those of the catalogue, in its order. */
    readonly retrieve?: Retrieval;
  } & (
    | {
        /** How the catalogue is ranked; `item-tokens` and `label-tokens` are all items, or labels, that the model has tokens for. */
        readonly by: CatalogueRanker | 'item-tokens' | 'label-tokens';
      }
    | ({
        readonly by?: undefined;
        /** By title: the titles, encoded by this model's tokenizer. */
        readonly trie: PrefixTrie;
      } & ByTitleOptions)
  );

/** A ranking and what it cost. */
export interface Ranking extends RankedItems {
  readonly way: RankingWay;
  readonly promptTokens: number;
  /** Floating-point operations of all matrix products, the user's included. */
  readonly flops: number;
  /** From the request to the end of the prompt (the first token's scores), the user included. */
  readonly firstTokenMs: number;
  readonly totalMs: number;
}
