import type { EventTokenizer } from '@user-llm/event-tokenizer';
import { EncoderOptionError } from './errors.js';

/**
 * One field of an event as the encoder reads it. `size` counts ids, the special ones included; `width` is the length of its
 * embedding (of a text: of its vector).
 */
export type InputField =
  | {
      readonly kind: 'categorical' | 'categories' | 'number';
      readonly name: string;
      readonly size: number;
      readonly width: number;
    }
  | {
      readonly kind: 'time';
      readonly name: string;
      readonly gap: number;
      readonly hour: number;
      readonly weekday: number;
      readonly width: number;
    }
  | { readonly kind: 'text'; readonly name: string; readonly width: number };

/** The parts of a time field, each with an embedding table of its own. */
export const timeParts = ['gap', 'hour', 'weekday'] as const;
/** Those of a time that are predicted; the rest follows from the gap. */
export const predictedTimeParts = ['gap'] as const;

/**
 * The fields that an encoder reads, the item first. The item's embedding has the model's width, so that its head can share the
 * table; the others are a quarter as wide. A time that is only an order holds no information and is left out.
 *
 * @param names which fields; all by default
 */
export function inputFields(tokenizer: EventTokenizer, width: number, names?: readonly string[]): InputField[] {
  for (const name of names ?? [])
    if (!Object.hasOwn(tokenizer.fields, name))
      throw new EncoderOptionError(
        'fields',
        `the tokenizer has no field '${name}'; it has ${Object.keys(tokenizer.fields).join(', ')}`,
      );
  const narrow = Math.max(4, Math.ceil(width / 4));
  const fields: InputField[] = [];
  for (const [name, info] of Object.entries(tokenizer.fields)) {
    if (name !== tokenizer.itemField && names && !names.includes(name)) continue;
    switch (info.kind) {
      case 'categorical':
        if (name === tokenizer.itemField) fields.unshift({ kind: 'categorical', name, size: info.size, width });
        else fields.push({ kind: 'categorical', name, size: info.size, width: narrow });
        break;
      case 'categories':
      case 'number':
        fields.push({ kind: info.kind, name, size: info.size, width: narrow });
        break;
      case 'time':
        if (info.unit !== 'order')
          fields.push({ kind: 'time', name, gap: info.gap, hour: info.hour, weekday: info.weekday, width: narrow });
        break;
      case 'text':
        fields.push({ kind: 'text', name, width: info.width });
        break;
      default:
        throw new Error(`internal: no input for ${(info satisfies never as { kind: string }).kind}`);
    }
  }
  return fields;
}

/** How many numbers a field adds to the concatenation. */
export const fusedWidth = (field: InputField): number => (field.kind === 'time' ? timeParts.length * field.width : field.width);

/** Names of the graph's inputs for a field, without their prefix. */
export const inputNames = (field: InputField): string[] =>
  field.kind === 'time' ? timeParts.map((part) => `${field.name}.${part}`) : [field.name];
