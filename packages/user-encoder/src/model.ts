import { PADDING_ID } from '@user-llm/event-tokenizer';
import {
  concat,
  crossEntropy,
  gradients,
  graph,
  maskBias,
  splitHeads,
  type Dim,
  type GraphBuilder,
  type GraphDefinition,
  type Tensor,
} from '@user-llm/onnx-autograd';
import { declareBand } from './band.js';
import { bandOf, type EncoderConfig } from './config.js';
import { declareEvents, declareItemRows, eventsAxis, fuseEvents, windowsAxis, type EventInputs } from './fusion.js';
import { itemScores, normalised } from './heads.js';
import type { InferenceOutput } from './inference.js';
import type { InputField } from './input-fields.js';
import type { BoundObjective, ItemHead, ItemTable } from './objectives/objective.js';
import { lastStates, resample, startState, type Prefixes } from './resampler.js';
import { eventStates, type LayerCache } from './transformer.js';
import { lengthsInput, type AttentionForm } from './window-inputs.js';

export const rowsInput = 'rows';
export const examplesAxis = 'examples';

export type ParameterGroup = 'encoder' | 'resampler' | 'heads';

/** Which part of the model a parameter belongs to. */
export function groupOf(name: string): ParameterGroup | undefined {
  for (const group of ['encoder', 'resampler', 'heads'] as const) if (name.startsWith(`${group}.`)) return group;
  return undefined;
}

/** States of every event of every row, [U, T, D], and what each layer offers to attend to. Declares the events' inputs. */
function states(
  builder: GraphBuilder,
  config: EncoderConfig,
  { prefix = 'events', axes = [windowsAxis, eventsAxis], form = 'mask', presence }: StatesOptions = {},
): { states: Tensor; cache: LayerCache[]; inputs: EventInputs } {
  const encoder = builder.scope('encoder');
  const inputs = declareEvents(builder.scope(prefix), config.fields, axes);
  // Every event has an item id, and padding has none.
  const visible = config.attention === 'bidirectional' ? inputs.get(config.fields[0].name)!.greater(PADDING_ID) : undefined;
  const sight = { ...declareBand(builder, config, prefix, axes, form), visible, presence };
  return { ...eventStates(encoder, config, fuseEvents(encoder, config, inputs), sight), inputs };
}

interface StatesOptions {
  readonly prefix?: string;
  readonly axes?: readonly [Dim, Dim];
  readonly form?: AttentionForm;
  readonly presence?: Tensor;
}

/** User tokens of prefixes of the windows: [B, K, D], B = examples. */
export function exampleTokens(builder: GraphBuilder, config: EncoderConfig): Tensor {
  const { states: found } = states(builder, config);
  return tokensOf(builder, config, found, {
    rows: builder.input(rowsInput, [examplesAxis], 'int32'),
    lengths: builder.input(lengthsInput, [examplesAxis], 'int32'),
  }).tokens;
}

function tokensOf(builder: GraphBuilder, config: EncoderConfig, found: Tensor, prefixes: Prefixes, presence?: Tensor): Found {
  const last = lastStates(builder.scope('encoder'), found, prefixes);
  return { tokens: resample(builder.scope('resampler'), config, found, last, prefixes, presence), last };
}

const wholeWindows = (builder: GraphBuilder): Prefixes => ({
  rows: null,
  lengths: builder.input(lengthsInput, [windowsAxis], 'int32'),
});

type Found = { tokens: Tensor; last: Tensor };

/** Tokens, and scores where something makes them. */
function outputsOf(
  builder: GraphBuilder,
  config: EncoderConfig,
  { tokens, last }: Found,
  head: ItemHead,
): Record<string, Tensor> {
  return {
    tokens,
    ...(head !== 'none' && { scores: itemScores(builder, config.fields[0], last, head) }),
  };
}

/** A window per user: tokens [U, K, D], and the item head's scores after the last event [U, V] where there is one. */
export const inferenceDefinition = (
  config: EncoderConfig,
  head: ItemHead = 'item',
  form: AttentionForm = 'mask',
): GraphDefinition<Record<string, Tensor>> =>
  graph<Record<string, Tensor>>(({ builder }) => {
    const { states: found } = states(builder, config, { form });
    return outputsOf(builder, config, tokensOf(builder, config, found, wholeWindows(builder)), head);
  });

/** The direction [U, D] after the last event: its products with the label tower's vectors of items are their scores. */
const directionDefinition = (config: EncoderConfig, form: AttentionForm): GraphDefinition<Record<string, Tensor>> =>
  graph<Record<string, Tensor>>(({ builder }) => {
    const { states: found } = states(builder, config, { form });
    return { direction: normalised(lastStates(builder.scope('encoder'), found, wholeWindows(builder))) };
  });

/** A window per user: what gives the output asked for. */
export const outputDefinition = (
  config: EncoderConfig,
  head: ItemHead,
  output: InferenceOutput,
  form: AttentionForm,
): GraphDefinition<Record<string, Tensor>> =>
  output === 'direction' ? directionDefinition(config, form) : inferenceDefinition(config, head, form);

/** The item head's scores [B, V] after each of the prefixes that `rows` and `lengths` name, B = examples. */
export const momentsDefinition = (config: EncoderConfig, head: Exclude<ItemHead, 'none'>): GraphDefinition<{ scores: Tensor }> =>
  graph(({ builder }) => {
    const { states: found } = states(builder, config);
    const last = lastStates(builder.scope('encoder'), found, {
      rows: builder.input(rowsInput, [examplesAxis], 'int32'),
      lengths: builder.input(lengthsInput, [examplesAxis], 'int32'),
    });
    return { scores: itemScores(builder, config.fields[0], last, head) };
  });

/** int32 [U, W]: which row of all windows' states (U * T of them) stands in each place of a user's ring. */
export const ringInput = 'ring';

/**
 * Tokens with what an update goes on from: keys and values of the last W events in every layer, cache [2 L, U, H, W, D / H] (a layer's
 * keys, then its values), and the last states, recent [U, W, D].
 */
export const statefulDefinition = (config: EncoderConfig, form: AttentionForm): GraphDefinition<Record<string, Tensor>> =>
  graph<Record<string, Tensor>>(({ builder }) => {
    const { width, heads } = config;
    const { states: found, cache } = states(builder, config, { form });
    const ring = builder.input(ringInput, [windowsAxis, bandOf(config)!.window], 'int32');
    const recent = (x: Tensor): Tensor => x.reshape([-1, width]).gather(ring); // [U, W, D]
    const { tokens } = tokensOf(builder, config, found, wholeWindows(builder));
    const rings = cache.flatMap(({ keys, values }) => [keys, values]);
    return {
      tokens,
      cache: concat(
        rings.map((x) => splitHeads(recent(x), heads).unsqueeze(0)),
        0,
      ),
      recent: recent(found),
    };
  });

/** What `inferenceDefinition` gives, from the states of the last events alone: [U, T, D], `lengths` of them. */
export const fromStatesDefinition = (config: EncoderConfig, head: ItemHead): GraphDefinition<Record<string, Tensor>> =>
  graph<Record<string, Tensor>>(({ builder }) => {
    const found = builder.input('states', [windowsAxis, eventsAxis, config.width]);
    return outputsOf(builder, config, tokensOf(builder, config, found, wholeWindows(builder)), head);
  });

/** What an attribution reads beside the events. */
export const attributionInputs = {
  /** float32 [U, T]: the logarithm of how much of each event is there; 0 is all of it. */
  presence: 'presence',
  /** The item asked for, int32 [U], or the tokens of a user without events, float32 [1, K, D]. */
  target: 'target',
  /** bool [1, V]: which items the one asked for is told from; itself is one of them. */
  told: 'told',
} as const;

/**
 * What is asked of each window, value [U]: the item's log-probability as the next one, or how far the user's tokens are from those of a
 * user without events (mean square). And its gradient by the presence of each event, contributions [U, T]: every key that attention
 * reads of an event is multiplied by it, in every layer and in the resampler.
 */
export const attributionDefinition = (
  config: EncoderConfig,
  head: ItemHead | null,
  form: AttentionForm,
): GraphDefinition<{ value: Tensor; contributions: Tensor }> =>
  graph(({ builder }) => {
    const presence = builder.input(attributionInputs.presence, [windowsAxis, eventsAxis]);
    const { states: found } = states(builder, config, { form, presence });
    const { tokens, last } = tokensOf(builder, config, found, wholeWindows(builder), presence);
    const value =
      head === null || head === 'none'
        ? tokens
            .sub(builder.input(attributionInputs.target, [1, config.userTokens, config.width]))
            .square()
            .mean([1, 2])
        : crossEntropy(
            itemScores(builder, config.fields[0], last, head).add(
              maskBias(builder.input(attributionInputs.told, [1, vocabularyOf(config)], 'bool')),
            ),
            builder.input(attributionInputs.target, [windowsAxis], 'int32'),
          ).neg();
    return { value, contributions: gradients(value.sum(), [presence])[0] };
  });

const vocabularyOf = ({ fields }: EncoderConfig): number => (fields[0] as Extract<InputField, { size: number }>).size;

/** Names of the losses that pretraining reports. */
export const lossName = (name: string): string => `loss.${name}`;

/** What is minimised, its parts, what objectives give beside them, and the item head's scores for validation. */
export const pretrainingDefinition = (
  config: EncoderConfig,
  objective: BoundObjective,
  head: ItemHead,
  itemTable: ItemTable = 'whole',
): GraphDefinition<Record<string, Tensor>> =>
  graph<Record<string, Tensor>>(({ builder, training }) => {
    const encoder = builder.scope('encoder');
    if (itemTable === 'rows') declareItemRows(encoder, config.fields[0] as Extract<InputField, { size: number }>);
    const { states: found } = states(builder, config);
    const built = objective.build({
      builder,
      encoder,
      heads: builder.scope('heads'),
      config,
      states: found,
      encode: (prefix, axes) => states(builder, config, { prefix, axes }),
    });
    const losses = Object.fromEntries(Object.entries(built.parts).map(([name, loss]) => [lossName(name), loss]));
    const outputs = { loss: built.loss, ...losses, ...built.outputs };
    if (head === 'none') return outputs;
    if (training && itemTable === 'rows') {
      // Scores read every row, and training has no use for them; but for the start state, which they read too.
      startState(encoder, config.width);
      return outputs;
    }
    const last = lastStates(encoder, found, wholeWindows(builder));
    return { ...outputs, scores: itemScores(builder, config.fields[0], last, head) };
  });
