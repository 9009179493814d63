import { MASK_ID, PADDING_ID } from '@user-llm/event-tokenizer/web';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { eventPrefix } from './event-feeds.js';
import { inputNames, type InputField } from './input-fields.js';

/** Hides the event at a place of the rows from the model: the mask in every field, no text. */
export function maskEvent(
  feeds: Readonly<Record<string, HostTensor>>,
  fields: readonly InputField[],
  place: number,
  prefix = eventPrefix,
): void {
  for (const field of fields)
    for (const name of inputNames(field)) {
      const { data, shape } = feeds[prefix + name];
      const width = shape[2] ?? 1;
      const values = (data as Int32Array | Float32Array).subarray(place * width, (place + 1) * width);
      values.fill(field.kind === 'text' ? 0 : PADDING_ID);
      if (field.kind !== 'text') values[0] = MASK_ID;
    }
}
