import type { Feeds, HostTensor } from '@user-llm/onnx-autograd';
import { AdaptationError, DoesNotFitError } from '../errors.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { blindTokensOf, problemOfBlindTokens } from '../integration/blind-prefix.js';
import type { BlindPrefix } from '../integration/blind-prefix.js';
import type { Integration, UserShape } from '../integration/integration.js';
import type { TokenDistribution } from '../ranking/title-distributions.js';
import type { AdaptationExample } from './examples.js';
import { itemFeeds, placedItems } from './item-rows.js';
import type { PlacedItem } from './item-rows.js';

/** An example as a row of the graph. */
export interface TextRow {
  /** Ids that go in, `[length]`; the last token of an answer in words only comes out. */
  readonly input: Int32Array;
  /** Tokens at the beginning that do not read the user. */
  readonly blindTokens: number;
  /** Positions whose next token carries loss, that token, and its weight. */
  readonly positions: Int32Array;
  readonly targets: Int32Array;
  readonly weights: Float32Array;
  /** In place of the token, where the example gives one. */
  readonly distributions: readonly (TokenDistribution | undefined)[];
  /** Items that are named by their tokens. */
  readonly items: readonly PlacedItem[];
}

/** What an example must fit to. */
export interface RowShape {
  readonly vocabularySize: number;
  readonly contextLength: number;
  readonly placeholders: Placeholders;
  readonly blindPrefix?: BlindPrefix;
  /** Number of item tokens. Default 0. */
  readonly items?: number;
}

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
  const items = placedItems(example, placed, model.items ?? 0, where);
  if (answerIds.length === 0 && items.length === 0)
    throw new AdaptationError(where, 'the answer is empty; give at least the end token, or an item');
  if (answerWeights !== undefined && answerWeights.length !== answerIds.length)
    throw new AdaptationError(where, `has ${answerWeights.length} weights for the ${answerIds.length} tokens of its answer`);
  checkDistributions(answerDistributions, answerIds.length, model.vocabularySize, where);
  if (all.length < 2 && items.length === 0)
    throw new AdaptationError(where, 'one token alone has nothing to be predicted from; give a prompt');
  if (all.length > model.contextLength) throw new DoesNotFitError(all.length, model.contextLength, where);
  const positions: number[] = [];
  const weights: number[] = [];
  for (let at = 1; at < all.length; at++) {
    const weight = at < prompt.length ? promptWeight : (answerWeights?.[at - prompt.length] ?? 1);
    if (weight === 0 || all[at] >= model.vocabularySize) continue;
    positions.push(at - 1);
    weights.push(weight);
  }
  return {
    input: Int32Array.from(answerIds.length === 0 ? all : all.slice(0, -1)),
    blindTokens,
    positions: Int32Array.from(positions),
    targets: Int32Array.from(positions, (at) => all[at + 1]),
    weights: Float32Array.from(weights),
    distributions: positions.map((at) => answerDistributions?.[at + 1 - prompt.length]),
    items,
  };
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
    const total = probabilities.reduce((sum, p) => sum + (p >= 0 ? p : NaN), 0);
    if (!(Math.abs(total - 1) < 1e-3))
      throw new AdaptationError(where, `a distribution over ${ids.length} tokens sums to ${total}, not 1`);
  }
}

const int32 = (data: Int32Array, shape: readonly number[]): HostTensor => ({ dtype: 'int32', data, shape });
const float = (data: Float32Array, shape: readonly number[]): HostTensor => ({ dtype: 'float32', data, shape });

/** The text inputs of the training graph for some rows, padded to the longest. */
export function textFeeds(
  rows: readonly TextRow[],
  present: readonly boolean[],
  {
    normalizer,
    vocabularySize,
    blindLengths,
    items = 0,
  }: {
    readonly normalizer: number;
    readonly vocabularySize: number;
    readonly blindLengths: boolean;
    readonly items?: number;
  },
): Feeds {
  const length = Math.max(...rows.map(({ input }) => input.length));
  const ids = new Int32Array(rows.length * length);
  const tokens: { at: number; target: number; weight: number }[] = [];
  const distributed: { at: number; distribution: TokenDistribution; weight: number }[] = [];
  rows.forEach((row, i) => {
    ids.set(row.input, i * length);
    row.positions.forEach((position, j) => {
      const at = i * length + position;
      const distribution = row.distributions[j];
      if (distribution) distributed.push({ at, distribution, weight: row.weights[j] });
      else tokens.push({ at, target: row.targets[j], weight: row.weights[j] });
    });
  });
  // At least one of each, of no weight, so that no input is empty.
  if (tokens.length === 0) tokens.push({ at: 0, target: 0, weight: 0 });
  const places = Math.max(1, distributed.length);
  const distributions = new Float32Array(places * vocabularySize);
  distributed.forEach(({ distribution, weight }, i) =>
    distribution.ids.forEach((id, j) => (distributions[i * vocabularySize + id] += weight * distribution.probabilities[j])),
  );
  const size = tokens.length;
  return {
    input_ids: int32(ids, [rows.length, length]),
    ...(blindLengths
      ? {
          blind_lengths: int32(
            Int32Array.from(rows, ({ blindTokens }) => blindTokens),
            [rows.length],
          ),
        }
      : {}),
    user_present: float(Float32Array.from(present, Number), [rows.length]),
    target_rows: int32(
      Int32Array.from(tokens, ({ at }) => at),
      [size],
    ),
    targets: int32(
      Int32Array.from(tokens, ({ target }) => target),
      [size],
    ),
    target_weights: float(
      Float32Array.from(tokens, ({ weight }) => weight),
      [size],
    ),
    distribution_rows: int32(
      Int32Array.from({ length: places }, (_, i) => distributed[i]?.at ?? 0),
      [places],
    ),
    distributions: float(distributions, [places, vocabularySize]),
    normalizer: float(Float32Array.of(normalizer), []),
    ...(items === 0 ? {} : itemFeeds(rows, length, items)),
  };
}
