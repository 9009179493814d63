import type { Feeds } from '@user-llm/onnx-autograd';
import { AdaptationError, DoesNotFitError } from '../errors.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { blindTokensOf, problemOfBlindTokens } from '../integration/blind-prefix.js';
import type { BlindPrefix } from '../integration/blind-prefix.js';
import type { Integration, UserShape } from '../integration/integration.js';
import { namedKinds } from '../items/item-tokens.js';
import { checkProbabilities, choiceFeeds } from './choices.js';
import type { Choice } from './choices.js';
import type { AdaptationExample } from './examples.js';
import { ofKinds, placedChoices } from './named-choices.js';
import type { OfKinds } from './named-choices.js';

/** An example as a row of the graph. */
export interface TextRow {
  /** Ids that go in, `[length]`; the last token of an answer in words only comes out. */
  readonly input: Int32Array;
  /** Tokens at the beginning that do not read the user. */
  readonly blindTokens: number;
  /** The next tokens that carry loss. */
  readonly tokens: readonly Choice[];
  /** Items and labels that are named by their tokens. */
  readonly named: OfKinds<readonly Choice[]>;
}

/** What an example must fit to. */
export interface RowShape {
  readonly vocabularySize: number;
  readonly contextLength: number;
  readonly placeholders: Placeholders;
  readonly blindPrefix?: BlindPrefix;
  /** Numbers of item and label tokens. Default: none of either. */
  readonly named?: OfKinds<number>;
}

const noneNamed = ofKinds(() => 0);

/** The placeholders of a soft prompt: `count` ids from `firstId`, after a begin token. */
export interface Placeholders {
  readonly count: number;
  readonly firstId: number;
  readonly beginToken?: number;
}

/** The placeholders that a user takes in a prompt. */
export function placeholdersOf(
  config: DecoderConfig,
  user: { readonly integration: Integration; readonly shape: UserShape } | undefined,
): Placeholders {
  return {
    count: user === undefined ? 0 : user.integration.placeholders(user.shape),
    firstId: config.vocabularySize,
    ...(config.beginToken === undefined ? {} : { beginToken: config.beginToken }),
  };
}

/** Puts a user's placeholders into a prompt: behind its blind tokens, or, where there are none, before it but after its begin token. */
export function withPlaceholders(
  promptIds: readonly number[],
  { count, firstId, beginToken }: Placeholders,
  blindTokens = 0,
): number[] {
  const start = placeholderStart(promptIds, beginToken, blindTokens);
  const ids = Array.from({ length: count }, (_, i) => firstId + i);
  return [...promptIds.slice(0, start), ...ids, ...promptIds.slice(start)];
}

/** Before which token of a prompt the placeholders stand. */
const placeholderStart = (promptIds: readonly number[], beginToken: number | undefined, blindTokens: number): number =>
  blindTokens > 0 ? blindTokens : beginToken !== undefined && promptIds[0] === beginToken ? 1 : 0;

/** An example as a row; `where` names it in errors. */
export function textRow(example: AdaptationExample, model: RowShape, where: string): TextRow {
  const { answerIds, promptWeight = 0, answerWeights, answerDistributions } = example;
  const placeholders = example.history === undefined ? { ...model.placeholders, count: 0 } : model.placeholders;
  const problem = problemOfBlindTokens(model.blindPrefix, example.promptIds.length, example.blindTokens);
  if (problem !== undefined) throw new AdaptationError(where, problem);
  const blindTokens = blindTokensOf(model.blindPrefix, example.promptIds.length, example.blindTokens);
  const prompt = withPlaceholders(example.promptIds, placeholders, blindTokens);
  const all = [...prompt, ...answerIds];
  const bad = [...example.promptIds, ...answerIds].find((id) => !(Number.isInteger(id) && id >= 0 && id < model.vocabularySize));
  if (bad !== undefined) throw new AdaptationError(where, `token id ${bad} is outside the vocabulary of ${model.vocabularySize}`);
  const placed = { start: placeholderStart(example.promptIds, placeholders.beginToken, blindTokens), count: placeholders.count };
  const named = placedChoices(example, placed, model.named ?? noneNamed, where);
  const namesNone = named.item.length + named.label.length === 0;
  if (answerIds.length === 0 && namesNone)
    throw new AdaptationError(where, 'the answer is empty; give at least the end token, an item or a label');
  if (answerWeights !== undefined && answerWeights.length !== answerIds.length)
    throw new AdaptationError(where, `has ${answerWeights.length} weights for the ${answerIds.length} tokens of its answer`);
  const badWeight = [promptWeight, ...(answerWeights ?? [])].find((weight) => !(weight >= 0 && weight < Infinity));
  if (badWeight !== undefined)
    throw new AdaptationError(where, `has a token of the weight ${badWeight}; a weight is a number of at least 0`);
  checkDistributions(answerDistributions, answerIds.length, model.vocabularySize, where);
  if (all.length < 2 && namesNone)
    throw new AdaptationError(where, 'one token alone has nothing to be predicted from; give a prompt');
  if (all.length > model.contextLength) throw new DoesNotFitError(all.length, model.contextLength, where);
  const tokens: Choice[] = [];
  for (let at = 1; at < all.length; at++) {
    const answered = at - prompt.length;
    const weight = answered < 0 ? promptWeight : (answerWeights?.[answered] ?? 1);
    if (weight === 0 || all[at] >= model.vocabularySize) continue;
    const distribution = answered < 0 ? undefined : answerDistributions?.[answered];
    tokens.push({ position: at - 1, target: all[at], weight, ...(distribution && { distribution }) });
  }
  const input = Int32Array.from(answerIds.length === 0 ? all : all.slice(0, -1));
  return { input, blindTokens, tokens, named };
}

function checkDistributions(
  distributions: AdaptationExample['answerDistributions'],
  tokens: number,
  vocabularySize: number,
  where: string,
): void {
  if (distributions === undefined) return;
  if (distributions.length !== tokens)
    throw new AdaptationError(where, `has ${distributions.length} distributions for the ${tokens} tokens of its answer`);
  for (const distribution of distributions) {
    if (distribution === undefined) continue;
    const { ids, probabilities } = distribution;
    if (ids.length !== probabilities.length || ids.length === 0)
      throw new AdaptationError(where, `has a distribution of ${ids.length} ids and ${probabilities.length} probabilities`);
    const bad = ids.find((id) => !(id >= 0 && id < vocabularySize));
    if (bad !== undefined)
      throw new AdaptationError(where, `a distribution's id ${bad} is outside the vocabulary of ${vocabularySize}`);
    checkProbabilities(probabilities, where, 'tokens');
  }
}

/** What of the rows goes into the graph, padded to the longest. */
export function textFeeds(rows: readonly TextRow[], present: readonly boolean[], blindLengths: boolean): Feeds {
  const length = longestOf(rows);
  const ids = new Int32Array(rows.length * length);
  rows.forEach((row, i) => ids.set(row.input, i * length));
  const blind = { dtype: 'int32', data: Int32Array.from(rows, ({ blindTokens }) => blindTokens), shape: [rows.length] } as const;
  return {
    input_ids: { dtype: 'int32', data: ids, shape: [rows.length, length] },
    ...(blindLengths ? { blind_lengths: blind } : {}),
    user_present: { dtype: 'float32', data: Float32Array.from(present, Number), shape: [rows.length] },
  };
}

/** What of the rows carries loss, over `normalizer`. `named` are the numbers of item and label tokens. */
export function lossFeeds(
  rows: readonly TextRow[],
  { normalizer, vocabularySize, named }: { readonly normalizer: number } & Required<Pick<RowShape, 'vocabularySize' | 'named'>>,
): Feeds {
  const length = longestOf(rows);
  const kinds = namedKinds.filter((kind) => named[kind] > 0);
  return {
    normalizer: { dtype: 'float32', data: Float32Array.of(normalizer), shape: [] },
    ...choiceFeeds(
      'token',
      rows.map(({ tokens }) => tokens),
      length,
      vocabularySize,
    ),
    ...Object.fromEntries(
      kinds.flatMap((kind) =>
        Object.entries(
          choiceFeeds(
            kind,
            rows.map((row) => row.named[kind]),
            length,
            named[kind],
          ),
        ),
      ),
    ),
  };
}

/** Length that the rows of a batch are padded to. */
export const longestOf = (rows: readonly TextRow[]): number => Math.max(...rows.map(({ input }) => input.length));
