import { constant, crossEntropy, graph, normal } from '@user-llm/onnx-autograd';
import type { GraphBuilder, GraphDefinition, Outputs, Tensor } from '@user-llm/onnx-autograd';
import { userTokens } from '../adaptation/joint-model.js';
import type { JointModel, JointUser } from '../adaptation/joint-model.js';
import { DecoderGraph } from '../decoder/decoder-graph.js';
import { trainingAttention } from '../decoder/training-graph.js';

/** What of the model's states stands for a text: that after its last token, or the mean of all. */
export type TextReading = 'last' | 'mean';

const prefix = 'alignment.';
export const isAlignmentParameter = (name: string): boolean => name.startsWith(prefix);

/** Temperature of the similarities at first, and the least that it may become (Radford et al., arXiv 2103.00020, section 2.5). */
const temperature = { first: 0.07, least: 0.01 };

/** What a step's graph and its outputs are made of. */
export interface AlignmentShape {
  readonly reading: TextReading;
  /** Elements of the vectors that are compared. */
  readonly width: number;
}

/**
 * The graph of contrastive alignment. Of a text `text_ids` [1, text] the frozen decoder, without any user, makes `reading` [1, hidden]. A
 * training step reads users, by the encoder's inputs (in the scope `encoder`), and what was read of their texts, `text_states` [B, hidden]:
 * it projects both to `users` and `texts` [B, width] of length 1, and `loss` is the symmetric cross-entropy of finding each user's text
 * among all, and each text's user (InfoNCE: van den Oord et al., arXiv 1807.03748), their products over the learned temperature
 * `1 / sharpness`. `apart` [B, B] is added to these products: 0, or far below it where two texts are the same, which are not told apart.
 */
export function alignmentDefinition<History>(
  model: JointModel<History> & { readonly user: JointUser<History> },
  { reading, width }: AlignmentShape,
): GraphDefinition<Outputs & { loss: Tensor }> {
  const { config } = model.decoder;
  return graph(({ builder }): Outputs & { loss: Tensor } => {
    const tokens = userTokens(builder, model.user);
    const [rows] = tokens.shape;
    const { integration, shape } = model.user;
    const taken = integration.build({ builder, config, user: shape }).taken(tokens);
    const project = (name: string, x: Tensor): Tensor => {
      const from = Number(x.shape[1]);
      return ofLengthOne(x.linear(builder.parameter(`${prefix}${name}.weight`, [from, width], normal(1 / Math.sqrt(from)))));
    };
    const users = project('user', taken);
    const texts = project('text', builder.input('text_states', [rows, config.hiddenSize]));
    const logSharpness = builder.parameter(`${prefix}log_sharpness`, [1], constant(-Math.log(temperature.first)));
    const sharpness = logSharpness.minimum(-Math.log(temperature.least)).exp();
    const apart = builder.input('apart', [rows, rows]);
    const similarities = users.matmul(texts, { transposeB: true }).mul(sharpness).add(apart);
    const right = builder.range(rows);
    const byUser = crossEntropy(similarities, right).mean();
    const byText = crossEntropy(similarities.transpose(), right).mean();
    return { loss: byUser.add(byText).mul(0.5), users, texts, sharpness, reading: textReading(builder, model, reading) };
  });
}

const ofLengthOne = (x: Tensor): Tensor => x.div(x.square().sum(-1, true).add(1e-12).sqrt());

/** What the frozen decoder reads of one text. */
function textReading<History>(builder: GraphBuilder, { decoder: { config } }: JointModel<History>, reading: TextReading): Tensor {
  const ids = builder.input('text_ids', [1, 'text'], 'int32');
  const decoder = new DecoderGraph(builder, config);
  const states = decoder.hidden(decoder.embed(ids), trainingAttention(builder, config));
  if (reading === 'mean') return states.mean(1);
  return states.reshape(['text', config.hiddenSize]).gather(builder.dims(['text']).cast('int32').sub(1));
}
