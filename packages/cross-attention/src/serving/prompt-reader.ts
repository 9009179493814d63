import { placeholdersOf, withPlaceholders } from '../adaptation/text-rows.js';
import { PrefixError } from '../errors.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { blindTokensOf, problemOfBlindTokens } from '../integration/blind-prefix.js';
import type { BlindPrefix } from '../integration/blind-prefix.js';
import type { Integration, UserShape } from '../integration/integration.js';
import type { TextTokenizer } from '../text/text-tokenizer.js';
import { problemOfKeysAndValues } from './prefix.js';
import type { Prefix } from './prefix.js';
import type { Prompt, RequestOptions } from './request.js';

/** A prompt as the model gets it. */
export interface ReadPrompt {
  /** With a soft prompt's placeholders. */
  readonly ids: readonly number[];
  /** Tokens at the beginning that do not read the user. */
  readonly blindTokens: number;
  /** The keys and values of the first tokens, where they were computed before. */
  readonly prefix: Prefix | undefined;
}

/** What a prompt's layout depends on. */
export interface PromptModel {
  /** Names the weights that prefixes are of. */
  readonly identity: string;
  readonly config: DecoderConfig;
  readonly tokenizer: TextTokenizer;
  readonly user?: { readonly integration: Integration; readonly shape: UserShape; readonly blindPrefix?: BlindPrefix };
}

/**
 * The token ids of a prompt, without a user. Throws a `RangeError` where there is no prompt, or none in it, or one that the model does not
 * have, or messages that are no conversation.
 */
export function tokensOf(prompt: Prompt, { config, tokenizer }: Pick<PromptModel, 'config' | 'tokenizer'>): readonly number[] {
  if (prompt.promptIds === undefined && prompt.messages === undefined && prompt.prompt === undefined)
    throw new RangeError('The request has no prompt: give messages for the chat template, prompt (a text), or promptIds.');
  const ids =
    prompt.promptIds ??
    (prompt.messages === undefined
      ? tokenizer.encode(prompt.prompt, { specialTokens: 'parse' })
      : tokenizer.chat(prompt.messages));
  if (ids.length === 0) throw new RangeError('The prompt has no tokens; give at least one.');
  const { vocabularySize } = config;
  const bad = ids.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < vocabularySize));
  if (bad >= 0)
    throw new RangeError(
      `The prompt's id at place ${bad} is no token of the vocabulary of ${vocabularySize}; encode it with this model's tokenizer.`,
    );
  return ids;
}

/** Lays a request's prompt out: what is blind in it, where a user's placeholders stand, and whether its prefix belongs to it. */
export function readPrompt(
  request: Prompt & Pick<RequestOptions, 'prefix' | 'blindTokens'>,
  withUser: boolean,
  parts: PromptModel,
): ReadPrompt {
  const { identity, config, user } = parts;
  const { prefix } = request;
  const ids = tokensOf(request, parts);
  if (prefix !== undefined) {
    if (prefix.model !== identity)
      throw new PrefixError('was computed by another model, whose keys and values are other ones. Compute it with this one.');
    if (prefix.ids.length >= ids.length || prefix.ids.some((id, i) => id !== ids[i]))
      throw new PrefixError(
        `holds ${prefix.ids.length} tokens, and the prompt, of ${ids.length} tokens, does not go on behind just these. Compute it of a prompt that begins alike.`,
      );
    const lost = problemOfKeysAndValues(prefix, config);
    if (lost !== undefined) throw new PrefixError(lost);
  }
  if (!withUser || user === undefined) return { ids, blindTokens: prefix?.ids.length ?? 0, prefix };
  const { blindPrefix } = user;
  const own = request.blindTokens ?? (blindPrefix?.readingTokens === undefined ? prefix?.ids.length : undefined);
  const problem = problemOfBlindTokens(blindPrefix, ids.length, own);
  if (problem !== undefined) throw new PrefixError(`cannot be used: the prompt ${problem}.`);
  const blindTokens = blindTokensOf(blindPrefix, ids.length, own);
  if (prefix !== undefined && prefix.ids.length > blindTokens)
    throw new PrefixError(
      `holds ${prefix.ids.length} tokens, of which only ${blindTokens} are blind in this prompt: the others read the user. Compute it of a prompt that is laid out alike.`,
    );
  return { ids: withPlaceholders(ids, placeholdersOf(config, user), blindTokens), blindTokens, prefix };
}
