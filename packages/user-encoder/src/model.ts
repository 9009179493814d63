import { PADDING_ID } from '@user-llm/event-tokenizer';
import { graph, type Dim, type GraphBuilder, type GraphDefinition, type Tensor } from '@user-llm/onnx-autograd';
import type { EncoderConfig } from './config.js';
import { declareEvents, eventsAxis, fuseEvents, windowsAxis, type EventInputs } from './fusion.js';
import { itemScores, normalised } from './heads.js';
import type { BoundObjective, ItemHead } from './objectives/objective.js';
import { lastStates, resample, type Prefixes } from './resampler.js';
import { causalStates } from './transformer.js';

export const lengthsInput = 'lengths';
export const rowsInput = 'rows';
export const examplesAxis = 'examples';

export type ParameterGroup = 'encoder' | 'resampler' | 'heads';

/** Which part of the model a parameter belongs to. */
export function groupOf(name: string): ParameterGroup | undefined {
  for (const group of ['encoder', 'resampler', 'heads'] as const) if (name.startsWith(`${group}.`)) return group;
  return undefined;
}

/** States of every event of every row, [U, T, D]. Declares the events' inputs. */
function states(
  builder: GraphBuilder,
  config: EncoderConfig,
  prefix = 'events',
  axes: readonly [Dim, Dim] = [windowsAxis, eventsAxis],
): { states: Tensor; inputs: EventInputs } {
  const encoder = builder.scope('encoder');
  const inputs = declareEvents(builder.scope(prefix), config.fields, axes);
  // Every event has an item id, and padding has none.
  const visible = config.attention === 'bidirectional' ? inputs.get(config.fields[0].name)!.greater(PADDING_ID) : undefined;
  return { states: causalStates(encoder, config, fuseEvents(encoder, config, inputs), visible), inputs };
}

/** User tokens of prefixes of the windows: [B, K, D], B = examples. */
export function exampleTokens(builder: GraphBuilder, config: EncoderConfig): Tensor {
  const { states: found } = states(builder, config);
  return tokensOf(builder, config, found, {
    rows: builder.input(rowsInput, [examplesAxis], 'int32'),
    lengths: builder.input(lengthsInput, [examplesAxis], 'int32'),
  }).tokens;
}

function tokensOf(
  builder: GraphBuilder,
  config: EncoderConfig,
  found: Tensor,
  prefixes: Prefixes,
): { tokens: Tensor; last: Tensor } {
  const last = lastStates(builder.scope('encoder'), found, prefixes);
  return { tokens: resample(builder.scope('resampler'), config, found, last, prefixes), last };
}

const wholeWindows = (builder: GraphBuilder): Prefixes => ({
  rows: null,
  lengths: builder.input(lengthsInput, [windowsAxis], 'int32'),
});

/**
 * A window per user: tokens [U, K, D]; where there is an item head, its scores after the last event [U, V]; where that compares with
 * items' vectors, the direction [U, D] whose products with them the scores are.
 */
export const inferenceDefinition = (config: EncoderConfig, head: ItemHead = 'item'): GraphDefinition<Record<string, Tensor>> =>
  graph<Record<string, Tensor>>(({ builder }) => {
    const { tokens, last } = tokensOf(builder, config, states(builder, config).states, wholeWindows(builder));
    const scores = head === 'none' ? undefined : itemScores(builder, config.fields[0], last, head);
    return { tokens, ...(scores && { scores }), ...(head === 'labels' && { direction: normalised(last) }) };
  });

/** Names of the losses that pretraining reports. */
export const lossName = (name: string): string => `loss.${name}`;

/** What is minimised, its parts, what objectives give beside them, and the item head's scores for validation. */
export const pretrainingDefinition = (
  config: EncoderConfig,
  objective: BoundObjective,
  head: ItemHead,
): GraphDefinition<Record<string, Tensor>> =>
  graph<Record<string, Tensor>>(({ builder }) => {
    const encoder = builder.scope('encoder');
    const { states: found } = states(builder, config);
    const built = objective.build({
      builder,
      encoder,
      heads: builder.scope('heads'),
      config,
      states: found,
      encode: (prefix, axes) => states(builder, config, prefix, axes),
    });
    const losses = Object.fromEntries(Object.entries(built.parts).map(([name, loss]) => [lossName(name), loss]));
    const outputs = { loss: built.loss, ...losses, ...built.outputs };
    if (head === 'none') return outputs;
    const last = lastStates(encoder, found, wholeWindows(builder));
    return { ...outputs, scores: itemScores(builder, config.fields[0], last, head) };
  });
