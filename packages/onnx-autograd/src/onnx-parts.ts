import { AutogradError } from './errors.js';
import type { AttributeValue, InputInfo } from './graph-builder.js';
import { onnxTypes } from './host-tensor.js';
import type { MessageWriter } from './protobuf.js';

/** Where the values of an input lie. */
export interface ExternalValue {
  /** Name of the file. */
  readonly file: string;
  /** Bytes before the values, best a multiple of 4,096, which can be mapped into memory. */
  readonly offset: number;
  readonly bytes: number;
}

/** An initializer whose values lie in a file. */
export function writeExternal(
  writer: MessageWriter,
  { name, shape, dtype }: InputInfo,
  { file, offset, bytes }: ExternalValue,
): void {
  for (const size of shape) {
    if (typeof size !== 'number')
      throw new AutogradError(`'${name}' has values in a file, so its axes must be numbers, not '${size}'`);
    writer.integer(1, size);
  }
  writer.integer(2, onnxTypes[dtype]);
  writer.string(8, name);
  for (const [key, value] of Object.entries({ location: file, offset: String(offset), length: String(bytes) }))
    writer.message(13, (entry) => {
      entry.string(1, key);
      entry.string(2, value);
    });
  writer.integer(14, 1);
}

/** An attribute of a node. */
export function writeAttribute(writer: MessageWriter, name: string, value: AttributeValue): void {
  writer.string(1, name);
  if (typeof value === 'number') {
    writer.integer(3, value);
    writer.integer(20, 2);
  } else if (typeof value === 'string') {
    writer.string(4, value);
    writer.integer(20, 3);
  } else if ('float' in value) {
    writer.float(2, value.float);
    writer.integer(20, 1);
  } else if ('floats' in value) {
    for (const item of value.floats) writer.float(7, item);
    writer.integer(20, 6);
  } else {
    for (const item of value) writer.integer(8, item);
    writer.integer(20, 7);
  }
}
