import { graph } from '@user-llm/onnx-autograd';
import type { GraphBuilder, GraphDefinition, HostTensor, Outputs, Tensor, Weights } from '@user-llm/onnx-autograd';
import type { Decoder } from '../decoder/decoder.js';
import { DecoderGraph, combineHooks } from '../decoder/decoder-graph.js';
import type { DecoderHooks } from '../decoder/decoder-graph.js';
import { trainingAttention } from '../decoder/training-graph.js';
import { AdaptationError } from '../errors.js';
import type { BlindPrefix } from '../integration/blind-prefix.js';
import { readsFrom, takesBlindLength } from '../integration/integration.js';
import type { Integration, UserShape } from '../integration/integration.js';
import { namedKinds, rowsName, rowsParameter } from '../items/item-tokens.js';
import type { NamedKind } from '../items/item-tokens.js';
import { choiceOutputs } from './choices.js';
import { isLoraParameter, loraHooks } from './lora.js';
import type { LoraOptions } from './lora.js';
import { encoderScope, isEncoderParameter, isResamplerParameter, withScope } from './trainable-encoder.js';
import type { TrainableEncoder } from './trainable-encoder.js';

/** Which weights learn: the integration and the encoder's resampler always; in the others the encoder too, LoRA on the decoder, or all. */
export type Strategy = 'full' | 'lora' | 'encoder' | 'projection';
export const strategies: readonly Strategy[] = ['full', 'lora', 'encoder', 'projection'];

/** An encoder, and the way in which a decoder reads its users. */
export interface JointUser<History> {
  readonly encoder: TrainableEncoder<History>;
  readonly integration: Integration;
  readonly shape: UserShape;
  readonly weights: Weights;
  /** Where prompts may begin without the user. */
  readonly blindPrefix?: BlindPrefix;
}

/** A decoder, and the encoder and integration through which it reads users, where there are any. */
export interface JointModel<History> {
  readonly decoder: Decoder;
  readonly user?: JointUser<History>;
  /** Rows of its item tokens, where it has some: `[items, hidden]`. They learn by every strategy. */
  readonly itemRows?: HostTensor | undefined;
  /** Rows of its labels' tokens: `[labels, hidden]`. They learn by every strategy. */
  readonly labelRows?: HostTensor | undefined;
}

/** A joint model's rows of a kind. */
export const rowsOf = ({ itemRows, labelRows }: Pick<JointModel<never>, 'itemRows' | 'labelRows'>, kind: NamedKind) =>
  kind === 'item' ? itemRows : labelRows;

/** The kinds of what a joint model names by one token each. */
export const kindsOf = (model: Pick<JointModel<never>, 'itemRows' | 'labelRows'>): NamedKind[] =>
  namedKinds.filter((kind) => rowsOf(model, kind) !== undefined);

/**
 * One training graph: the encoder's own, the integration and the decoder. Inputs are the encoder's (in the scope `encoder`) and the text's:
 * `input_ids` [B, text], `user_present` [B], where prompts may begin blindly `blind_lengths` [B], and what carries loss: the choices of
 * tokens and, with their tokens, of items and labels (`choiceOutputs`), over `normalizer`. With item tokens there are
 * `item_logits` too, of the states with one right item, with label tokens `label_logits`.
 */
export function jointDefinition<History>(
  model: JointModel<History>,
  lora: LoraOptions | undefined,
  options: { readonly recomputed?: boolean } = {},
): GraphDefinition<Outputs & { loss: Tensor }> {
  return graph(({ builder }): Outputs & { loss: Tensor } => {
    const normalizer = builder.input('normalizer', []);
    const { states, head } = jointStates(builder, model, lora, options);
    // Logits cost most of a small model: only the rows that carry loss become some.
    let { loss } = choiceOutputs(builder, 'token', states, head);
    const logits: Record<string, Tensor> = {};
    for (const kind of kindsOf(model)) {
      const table = rowsParameter(builder, kind, rowsOf(model, kind)!.shape[0], model.decoder.config.hiddenSize);
      const named = choiceOutputs(builder, kind, states, table);
      loss = loss.add(named.loss);
      logits[`${kind}_logits`] = named.logits;
    }
    return { ...logits, loss: loss.div(normalizer) };
  });
}

/** The graph of the states after prompts: `states` [n, hidden], those at `state_rows` [n] of the text. */
export function statesDefinition<History>(model: JointModel<History>): GraphDefinition<Outputs & { states: Tensor }> {
  return graph(({ builder }) => {
    const at = builder.input('state_rows', ['states'], 'int32');
    return { states: jointStates(builder, model, undefined, {}).states.gather(at) };
  });
}

/** States after every token of a joint model's text, [B * text, hidden], and the matrix that makes them logits of tokens. */
function jointStates<History>(
  builder: GraphBuilder,
  { decoder: { config }, user }: JointModel<History>,
  lora: LoraOptions | undefined,
  { recomputed = false }: { readonly recomputed?: boolean },
): { states: Tensor; head: Tensor } {
  const hooks: DecoderHooks[] = [];
  let rows: Tensor['shape'][number] = 'batch';
  if (user !== undefined) {
    const tokens = userTokens(builder, user);
    rows = tokens.shape[0];
    const present = builder.input('user_present', [rows]);
    const built = user.integration.build({ builder, config, user: user.shape });
    const reads = takesBlindLength(user.integration, user.blindPrefix)
      ? readsFrom(builder.range('text').unsqueeze(0), builder.input('blind_lengths', [rows], 'int32').unsqueeze(1))
      : undefined;
    hooks.push(built.hooks(built.read(tokens, present), reads));
  }
  if (lora !== undefined) hooks.push(loraHooks(builder, config, lora));
  const ids = builder.input('input_ids', [rows, 'text'], 'int32');
  const decoder = new DecoderGraph(builder, config, hooks.length === 0 ? {} : combineHooks(hooks));
  const hidden = decoder.hidden(decoder.embed(ids), trainingAttention(builder, config), { recomputed });
  return { states: hidden.reshape([-1, config.hiddenSize]), head: decoder.head };
}

/**
 * Adds the encoder, in its scope, to a graph: user tokens [B, K, D]. Throws an `AdaptationError` where they are not what its manifest says,
 * or where the encoder is not in its trainable form.
 */
export function userTokens<History>(builder: GraphBuilder, { encoder, shape }: JointUser<History>): Tensor {
  if (typeof encoder.build !== 'function')
    throw new AdaptationError(
      'encoder',
      'cannot be built into a graph; give its trainable form, such as encoder.trainable(events) of a UserEncoder',
    );
  const { tokens, mask } = encoder.build(builder.scope(encoderScope));
  if (tokens.rank !== 3 || tokens.shape[1] !== shape.userTokens || tokens.shape[2] !== shape.userWidth)
    throw new AdaptationError(
      'encoder',
      `gives user tokens [${tokens.shape.join(', ')}], and its manifest says [B, ${shape.userTokens}, ${shape.userWidth}]`,
    );
  if (mask !== undefined)
    throw new AdaptationError(
      'encoder',
      'masks its user tokens; a resampler makes a fixed number of them, and a language model reads those',
    );
  return tokens;
}

/** All weights of a joint model by their names in the joint graph. */
export function jointWeights<History>(model: JointModel<History>): Weights {
  const { decoder, user } = model;
  return new Map([
    ...decoder.weights,
    ...(user === undefined ? [] : [...user.weights, ...withScope(user.encoder.weights)]),
    ...kindsOf(model).map((kind) => [rowsName(kind), rowsOf(model, kind)!] as const),
  ]);
}

/** Whether a strategy trains a parameter of the joint graph. */
export function trainedBy<History>(strategy: Strategy, { user }: JointModel<History>): (name: string) => boolean {
  return (name) => {
    if (isEncoderParameter(name)) {
      if (strategy !== 'projection') return true;
      return isResamplerParameter(user!.encoder as TrainableEncoder<never>, name);
    }
    if (user?.integration.owns(name) === true) return true;
    if (namedKinds.some((kind) => name === rowsName(kind))) return true;
    if (isLoraParameter(name)) return strategy === 'lora';
    return strategy === 'full';
  };
}
