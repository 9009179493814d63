import { concat, graph, zeros, type GraphBuilder, type GraphDefinition, type Tensor } from '@user-llm/onnx-autograd';
import type { EncoderConfig } from './config.js';
import { declareEvents, embedField, itemPassesThrough } from './fusion.js';
import { normalised } from './heads.js';
import { fusedWidth, type InputField } from './input-fields.js';
import type { Repeats } from './objectives/taken-items.js';
import { feedForward } from './transformer.js';

/** How the label tower makes a vector of an item (paper, section 3.1: dual encoder). */
export interface LabelTower {
  /** Names of the fields that it reads, the item first. */
  readonly fields: readonly string[];
  /** What cosines are divided by. */
  readonly temperature: number;
  /** Whether items were told from all others or from those alone that the user had not taken. Absent in records of earlier releases. */
  readonly repeats?: Repeats | undefined;
}

export const labelPrefix = 'labels.';

export const towerFields = ({ fields }: EncoderConfig, { fields: names }: LabelTower): InputField[] =>
  fields.filter(({ name }) => names.includes(name));

/**
 * Vectors of items from their fields, [U, T, D]: unit vectors over the temperature. Declares the fields' inputs. The embeddings are
 * those of the encoder; at first the item's passes unchanged.
 */
export function labelVectors(builder: GraphBuilder, config: EncoderConfig, tower: LabelTower): Tensor {
  const fields = towerFields(config, tower);
  const inputs = declareEvents(builder.scope('labels'), fields);
  const parts = fields.flatMap((field) => embedField(builder.scope('encoder'), field, inputs));
  const total = fields.reduce((sum, field) => sum + fusedWidth(field), 0);
  const own = builder.scope('heads').scope('labels');
  const fused =
    parts.length === 1
      ? parts[0]
      : concat(parts, 2).linear(
          own.parameter('fusion.weight', [total, config.width], itemPassesThrough(config.width)),
          own.parameter('fusion.bias', [config.width], zeros()),
        );
  return normalised(feedForward(own, fused, config.dropout)).mul(1 / tower.temperature);
}

export const labelDefinition = (config: EncoderConfig, tower: LabelTower): GraphDefinition<Record<string, Tensor>> =>
  graph<Record<string, Tensor>>(({ builder }) => ({ labels: labelVectors(builder, config, tower) }));
