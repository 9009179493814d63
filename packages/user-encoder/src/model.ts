import { concat, graph, splitHeads, type GraphBuilder, type GraphDefinition, type Tensor } from '@user-llm/onnx-autograd';
import { declareBand, type AttentionForm } from './band.js';
import type { EncoderConfig } from './config.js';
import { declareEvents, eventsAxis, fuseEvents, windowsAxis, type EventInputs } from './fusion.js';
import { fieldLoss, itemScores, targetName } from './heads.js';
import { fieldWeights, type Objective } from './objective.js';
import { lastStates, resample, type Prefixes } from './resampler.js';
import { causalLayers, type LayerCache } from './transformer.js';

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
  return layered(builder, config).states;
}

/** The same with the layers' keys and values. */
function layered(
  builder: GraphBuilder,
  config: EncoderConfig,
  form: AttentionForm = 'mask',
): { states: Tensor; cache: LayerCache[] } {
  const encoder = builder.scope('encoder');
  const inputs = declareEvents(builder.scope('events'), config.fields);
  return causalLayers(encoder, config, fuseEvents(encoder, config, inputs), declareBand(builder, config, form));
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
export const inferenceDefinition = (
  config: EncoderConfig,
  form: AttentionForm = 'mask',
): GraphDefinition<{ tokens: Tensor; scores: Tensor }> =>
  graph(({ builder }) => {
    const { states: found } = layered(builder, config, form);
    const { tokens, last } = tokensOf(builder, config, found, wholeWindows(builder));
    return { tokens, scores: itemScores(builder.scope('encoder'), config.fields[0], last) };
  });

/** int32 [U, W]: which row of all windows' states (U * T of them) stands in each place of a user's ring. */
export const ringInput = 'ring';

/**
 * The same with what an update goes on from: keys and values of the last W events in every layer, cache [2 L, U, H, W, D / H] (a layer's
 * keys, then its values), and the last states, recent [U, W, D].
 */
export const statefulDefinition = (
  config: EncoderConfig,
  form: AttentionForm,
): GraphDefinition<{ tokens: Tensor; cache: Tensor; recent: Tensor }> =>
  graph(({ builder }) => {
    const { width, heads, attention } = config;
    const { states: found, cache } = layered(builder, config, form);
    const ring = builder.input(ringInput, [windowsAxis, attention!.window], 'int32');
    const recent = (x: Tensor): Tensor => x.reshape([-1, width]).gather(ring); // [U, W, D]
    const { tokens } = tokensOf(builder, config, found, wholeWindows(builder));
    return {
      tokens,
      cache: concat(
        cache.flatMap(({ keys, values }) => [keys, values].map((x) => splitHeads(recent(x), heads).unsqueeze(0))),
        0,
      ),
      recent: recent(found),
    };
  });

/** User tokens [U, K, D] and item scores [U, V] from the states of the last events alone, [U, T, D] with `lengths` of them. */
export const fromStatesDefinition = (config: EncoderConfig): GraphDefinition<{ tokens: Tensor; scores: Tensor }> =>
  graph(({ builder }) => {
    const found = builder.input('states', [windowsAxis, eventsAxis, config.width]);
    const { tokens, last } = tokensOf(builder, config, found, wholeWindows(builder));
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
