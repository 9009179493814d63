import type { Retrieval } from '../ranking/by-retrieval.js';
import { PrefixTrie, titleOf } from '../ranking/prefix-trie.js';
import type { IntegerOption } from '../serving/engine.js';
import type { Answer } from '../serving/generation.js';
import type { Prefix } from '../serving/prefix.js';
import type { GenerateRequest, RankRequest, Ranking, ScheduledRequest } from '../serving/request.js';
import type { ReadableEmbedding, StoredUserState, UserState } from '../serving/user-state.js';
import type { ErrorRecord } from './error-transfer.js';

/** What a worker thread is started with. */
export interface WorkerSetting {
  readonly folder: string;
  readonly threads: number;
  readonly rows: number;
  readonly atOnce: number;
  readonly int8: IntegerOption['int8'];
}

/** A request in which what is large and comes again is named by a number, under which the worker keeps it. */
export type SentRequest<R> = Omit<R, 'signal' | 'prefix' | 'trie'> & { readonly prefix?: number; readonly trie?: number };

/** A retrieval whose retriever was asked before: code cannot be sent. */
export type SentRetrieval = Omit<Retrieval, 'retriever'> & { readonly scores: Float64Array };

/** What a worker is asked, and what it gives back. */
export interface Methods {
  generate: { request: SentRequest<GenerateRequest & Pick<ScheduledRequest, 'sampling'>>; result: Answer };
  rank: { request: SentRequest<Omit<RankRequest, 'retrieve'>> & { readonly retrieve?: SentRetrieval }; result: Ranking };
  userState: { request: ReadableEmbedding; result: UserState };
  storedUserState: { request: ReadableEmbedding | UserState; result: StoredUserState };
  prefix: { request: Record<string, unknown>; result: Prefix };
}
export type Method = keyof Methods;

export type Call = { [M in Method]: { readonly method: M; readonly request: Methods[M]['request'] } }[Method];

/** Something that requests name by a number. */
export type Kept = { readonly kind: 'prefix'; readonly prefix: Prefix } | ({ readonly kind: 'trie' } & TrieContents);

export type ToWorker =
  | ({ readonly kind: 'call'; readonly id: number } & Call)
  | { readonly kind: 'abort'; readonly id: number }
  | { readonly kind: 'keep'; readonly key: number; readonly kept: Kept }
  | { readonly kind: 'forget'; readonly key: number }
  | { readonly kind: 'close' };

export type FromWorker =
  | { readonly kind: 'ready'; readonly encoder: string | undefined; readonly userStateEncoder: string | undefined }
  | { readonly kind: 'failed'; readonly error: ErrorRecord }
  | { readonly kind: 'piece'; readonly id: number; readonly text: string }
  | { readonly kind: 'result'; readonly id: number; readonly result: Methods[Method]['result'] }
  | { readonly kind: 'error'; readonly id: number; readonly error: ErrorRecord };

/** A trie as its titles: token ids one after the other, and where each title ends. */
export interface TrieContents {
  readonly tokens: Int32Array;
  readonly ends: Int32Array;
  readonly endToken: number;
}

export function contentsOfTrie(trie: PrefixTrie): TrieContents {
  const { items, leafOfItem, token } = trie;
  const tokens: number[] = [];
  const ends = new Int32Array(items);
  for (let item = 0; item < items; item++) {
    for (const id of titleOf(trie, item)) tokens.push(id);
    ends[item] = tokens.length;
  }
  return { tokens: Int32Array.from(tokens), ends, endToken: items === 0 ? -1 : token[leafOfItem[0]] };
}

export const trieOf = ({ tokens, ends, endToken }: TrieContents): PrefixTrie =>
  PrefixTrie.build(
    Array.from(ends, (end, item) => Array.from(tokens.subarray(item === 0 ? 0 : ends[item - 1], end))),
    endToken,
  );
