import { graph } from '@user-llm/onnx-autograd';
import type { GraphDefinition, HostTensor, Outputs, Tensor, Weights } from '@user-llm/onnx-autograd';
import type { Decoder } from '../decoder/decoder.js';
import { DecoderGraph, combineHooks } from '../decoder/decoder-graph.js';
import type { DecoderHooks } from '../decoder/decoder-graph.js';
import { trainingAttention } from '../decoder/training-graph.js';
import { AdaptationError } from '../errors.js';
import type { BlindPrefix } from '../integration/blind-prefix.js';
import { readsFrom, takesBlindLength } from '../integration/integration.js';
import type { Integration, UserShape } from '../integration/integration.js';
import { itemRows, itemRowsName } from '../items/item-tokens.js';
import { choiceLoss } from './choices.js';
import { isLoraParameter, loraHooks } from './lora.js';
import type { LoraOptions } from './lora.js';
import { encoderScope, isEncoderParameter, isResamplerParameter, withScope } from './trainable-encoder.js';
import type { TrainableEncoder } from './trainable-encoder.js';

/** Which weights learn: the integration and the encoder's resampler always; in the others the encoder too, LoRA on the decoder, or all. */
export type Strategy = 'full' | 'lora' | 'encoder' | 'projection';
export const strategies: readonly Strategy[] = ['full', 'lora', 'encoder', 'projection'];

/** A decoder, and the encoder and integration through which it reads users, where there are any. */
export interface JointModel<History> {
  readonly decoder: Decoder;
  readonly user?: {
    readonly encoder: TrainableEncoder<History>;
    readonly integration: Integration;
    readonly shape: UserShape;
    readonly weights: Weights;
    /** Where prompts may begin without the user. */
    readonly blindPrefix?: BlindPrefix;
  };
  /** Rows of its item tokens, where it has some: `[items, hidden]`. They learn by every strategy. */
  readonly itemRows?: HostTensor;
}

/**
 * One training graph: the encoder's own, the integration and the decoder. Inputs are the encoder's (in the scope `encoder`) and the text's:
 * `input_ids` [B, text], `user_present` [B], where prompts may begin blindly `blind_lengths` [B], and what carries loss: the choices of
 * tokens and, with item tokens, of items (`choiceLoss`), over `normalizer`.
 */
export function jointDefinition<History>(
  { decoder: { config }, user, itemRows: rowsOfItems }: JointModel<History>,
  lora: LoraOptions | undefined,
  { recomputed = false }: { readonly recomputed?: boolean } = {},
): GraphDefinition<Outputs & { loss: Tensor }> {
  return graph(({ builder }) => {
    const hooks: DecoderHooks[] = [];
    let rows: Tensor['shape'][number] = 'batch';
    let present: Tensor | undefined;
    if (user !== undefined) {
      const { tokens, mask } = user.encoder.build(builder.scope(encoderScope));
      const { userTokens, userWidth } = user.shape;
      if (tokens.rank !== 3 || tokens.shape[1] !== userTokens || tokens.shape[2] !== userWidth)
        throw new AdaptationError(
          'encoder',
          `gives user tokens [${tokens.shape.join(', ')}], and its manifest says [B, ${userTokens}, ${userWidth}]`,
        );
      if (mask !== undefined)
        throw new AdaptationError(
          'encoder',
          'masks its user tokens; a resampler makes a fixed number of them, and a language model reads those',
        );
      rows = tokens.shape[0];
      present = builder.input('user_present', [rows]);
      const built = user.integration.build({ builder, config, user: user.shape });
      const reads = takesBlindLength(user.integration, user.blindPrefix)
        ? readsFrom(builder.range('text').unsqueeze(0), builder.input('blind_lengths', [rows], 'int32').unsqueeze(1))
        : undefined;
      hooks.push(built.hooks(built.read(tokens, present), reads));
    }
    if (lora !== undefined) hooks.push(loraHooks(builder, config, lora));
    const ids = builder.input('input_ids', [rows, 'text'], 'int32');
    const normalizer = builder.input('normalizer', []);
    const decoder = new DecoderGraph(builder, config, hooks.length === 0 ? {} : combineHooks(hooks));
    const hidden = decoder.hidden(decoder.embed(ids), trainingAttention(builder, config), { recomputed });
    // Logits cost most of a small model: only the rows that carry loss become some.
    const states = hidden.reshape([-1, config.hiddenSize]);
    const inWords = choiceLoss(builder, 'token', states, decoder.head);
    if (rowsOfItems === undefined) return { loss: inWords.div(normalizer) };
    const table = itemRows(builder, rowsOfItems.shape[0], config.hiddenSize);
    return { loss: inWords.add(choiceLoss(builder, 'item', states, table)).div(normalizer) };
  });
}

/** All weights of a joint model by their names in the joint graph. */
export function jointWeights<History>({ decoder, user, itemRows }: JointModel<History>): Weights {
  return new Map([
    ...decoder.weights,
    ...(user === undefined ? [] : [...user.weights, ...withScope(user.encoder.weights)]),
    ...(itemRows === undefined ? [] : [[itemRowsName, itemRows] as const]),
  ]);
}

/** Whether a strategy trains a parameter of the joint graph. */
export function trainedBy<History>(strategy: Strategy, { user }: JointModel<History>): (name: string) => boolean {
  return (name) => {
    if (isEncoderParameter(name)) {
      if (strategy !== 'projection') return true;
      return isResamplerParameter(user!.encoder as TrainableEncoder<never>, name);
    }
    if (user !== undefined && name.startsWith(`${user.integration.prefix}.`)) return true;
    if (name === itemRowsName) return true;
    if (isLoraParameter(name)) return strategy === 'lora';
    return strategy === 'full';
  };
}
