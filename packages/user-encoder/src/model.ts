import { graph, type GraphBuilder, type GraphDefinition, type Tensor } from '@user-llm/onnx-autograd';
import type { EncoderConfig } from './config.js';
import { declareEvents, eventsAxis, fuseEvents, windowsAxis, type EventInputs } from './fusion.js';
import { fieldLoss, itemScores, targetName } from './heads.js';
import { fieldWeights, type Objective } from './objective.js';
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

/** States of every event of every window, [U, T, D]. Declares the events' inputs. */
function states(builder: GraphBuilder, config: EncoderConfig): Tensor {
  const encoder = builder.scope('encoder');
  const inputs = declareEvents(builder.scope('events'), config.fields);
  return causalStates(encoder, config, fuseEvents(encoder, config, inputs));
}

/** User tokens of prefixes of the windows: [B, K, D], B = examples. */
export function exampleTokens(builder: GraphBuilder, config: EncoderConfig): Tensor {
  const found = states(builder, config);
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

/** A window per user: tokens [U, K, D], and the item head's scores after the last event [U, V]. */
export const inferenceDefinition = (config: EncoderConfig): GraphDefinition<{ tokens: Tensor; scores: Tensor }> =>
  graph(({ builder }) => {
    const { tokens, last } = tokensOf(builder, config, states(builder, config), wholeWindows(builder));
    return { tokens, scores: itemScores(builder.scope('encoder'), config.fields[0], last) };
  });

/** Names of the losses that pretraining reports, by field. */
export const lossName = (field: string): string => `loss.${field}`;

/** The weighted average of the fields' cross-entropies, each of them, and the item head's scores for validation. */
export const pretrainingDefinition = (config: EncoderConfig, objective: Objective): GraphDefinition =>
  graph(({ builder }) => {
    const encoder = builder.scope('encoder');
    const found = states(builder, config);
    const last = lastStates(encoder, found, wholeWindows(builder));
    const predicted = fieldWeights(objective, config.fields);
    const targets = declareTargets(
      builder,
      config,
      predicted.map(({ field }) => field),
    );
    const losses: Record<string, Tensor> = {};
    let total: Tensor | undefined;
    for (const { field, weight } of predicted) {
      const loss = fieldLoss(builder.scope('heads'), encoder, field, found, targets);
      losses[lossName(field.name)] = loss;
      total = total ? total.add(loss.mul(weight)) : loss.mul(weight);
    }
    return { loss: total!, ...losses, scores: itemScores(encoder, config.fields[0], last) };
  });

function declareTargets(
  builder: GraphBuilder,
  config: EncoderConfig,
  predicted: Parameters<typeof targetName>[0][],
): EventInputs {
  const targets = builder.scope('targets');
  return new Map(
    predicted.map((field) => {
      const name = targetName(field);
      const shape = [windowsAxis, eventsAxis];
      // A bag has the same number of places as in the inputs.
      if (field.kind === 'categories') shape.push(`bag${config.fields.indexOf(field)}`);
      return [name, targets.input(name, shape, 'int32')] as const;
    }),
  );
}
