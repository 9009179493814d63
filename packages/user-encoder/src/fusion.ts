import { concat, normal, type Dim, type GraphBuilder, type Initializer, type Tensor, zeros } from '@user-llm/onnx-autograd';
import type { EncoderConfig } from './config.js';
import { fusedWidth, timeParts, type InputField } from './input-fields.js';

/** Inputs of one batch of windows: ids int32 [windows, events] and so on, by input name without prefix. */
export type EventInputs = ReadonlyMap<string, Tensor>;

/** Named axes: U windows of T events each. */
export const windowsAxis = 'windows';
export const eventsAxis = 'events';

/** Declares the inputs of the fields under the builder's scope; ids [rows, events] by the names of the axes. */
export function declareEvents(
  builder: GraphBuilder,
  fields: readonly InputField[],
  shape: readonly Dim[] = [windowsAxis, eventsAxis],
): EventInputs {
  const inputs = new Map<string, Tensor>();
  fields.forEach((field, i) => {
    if (field.kind === 'time')
      for (const part of timeParts) inputs.set(`${field.name}.${part}`, builder.input(`${field.name}.${part}`, shape, 'int32'));
    else if (field.kind === 'text') inputs.set(field.name, builder.input(field.name, [...shape, field.width], 'float32'));
    else if (field.kind === 'categories') inputs.set(field.name, builder.input(field.name, [...shape, `bag${i}`], 'int32'));
    else inputs.set(field.name, builder.input(field.name, shape, 'int32'));
  });
  return inputs;
}

/** The embedding table of a field, [size, width]; heads share it. */
export function fieldTable(
  builder: GraphBuilder,
  field: Exclude<InputField, { kind: 'text' }>,
  part?: (typeof timeParts)[number],
): Tensor {
  if (field.kind === 'time') return builder.parameter(`fields.${field.name}.${part}`, [field[part!], field.width], normal(0.02));
  return builder.parameter(`fields.${field.name}`, [field.size, field.width], normal(0.02));
}

/**
 * Rows of a field's table by id, [...ids, width]. Pretraining may hold the item's as a table of which a step reads and changes only
 * the rows that its inputs name; `ids` must then be an input.
 */
export function fieldRows(builder: GraphBuilder, field: Extract<InputField, { size: number }>, ids: Tensor): Tensor {
  const { name, size, width } = field;
  const apart = builder.tables.has(`encoder.fields.${name}`);
  return apart
    ? builder.table(`fields.${name}`, [size, width], normal(0.02)).gather(ids)
    : fieldTable(builder, field).gather(ids);
}

/** Makes the item's table one of rows in this graph; before anything reads it. @param builder scope of the encoder */
export function declareItemRows(builder: GraphBuilder, item: Extract<InputField, { size: number }>): void {
  builder.table(`fields.${item.name}`, [item.size, item.width], normal(0.02));
}

/**
 * Early fusion (paper, section 3.1): embeddings of an event's fields, concatenated and projected, plus a learned
 * position where places are not told by the attention.
 *
 * @returns [U, T, D]
 */
export function fuseEvents(
  builder: GraphBuilder,
  { fields, width, context, dropout, attention }: EncoderConfig,
  inputs: EventInputs,
): Tensor {
  const parts = fields.flatMap((field) => embedField(builder, field, inputs)); // each [U, T, width of the field]
  const total = fields.reduce((sum, field) => sum + fusedWidth(field), 0);
  const fused =
    parts.length === 1
      ? parts[0]
      : concat(parts, 2).linear(
          builder.parameter('fusion.weight', [total, width], itemPassesThrough(width)),
          builder.parameter('fusion.bias', [width], zeros()),
        ); // [U, T, D]
  if (typeof attention === 'object') return fused.dropout(dropout);
  const positions = builder.parameter('positions', [context, width], normal(0.02)).slice(0, 0, fused.shape[1]); // [T, D]
  return fused.add(positions).dropout(dropout);
}

/** The embeddings of one field of every event, each [U, T, width]. */
export function embedField(builder: GraphBuilder, field: InputField, inputs: EventInputs): Tensor[] {
  switch (field.kind) {
    case 'categorical':
    case 'number':
      return [fieldRows(builder, field, inputs.get(field.name)!)];
    case 'time':
      return timeParts.map((part) => fieldTable(builder, field, part).gather(inputs.get(`${field.name}.${part}`)!));
    case 'text':
      return [inputs.get(field.name)!];
    case 'categories': {
      const ids = inputs.get(field.name)!; // [U, T, bag], 0 where the bag is smaller
      const present = ids.greater(0).cast('float32');
      const share = present.div(present.sum(2, true).maximum(1)); // [U, T, bag]
      return [fieldTable(builder, field).gather(ids).mul(share.unsqueeze(3)).sum(2)];
    }
    default:
      throw new Error(`internal: no embedding for ${(field satisfies never as InputField).kind}`);
  }
}

/** At first the item's embedding passes unchanged and the other fields add a little: training starts where an item-only model would. */
export const itemPassesThrough =
  (width: number): Initializer =>
  (shape, random) => {
    const weight = normal(0.02)(shape, random);
    for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) weight[i * width + j] = i === j ? 1 : 0;
    return weight;
  };
