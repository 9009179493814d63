import { AutogradError } from './errors.js';
import { bytesPerElement, elementCount, onnxTypes, type HostTensor } from './host-tensor.js';
import { MessageReader } from './protobuf.js';

/** A named value that is stored in a model. */
export interface OnnxValue {
  readonly dtype: 'float32' | 'uint8';
  readonly shape: readonly number[];
  /** Its elements, as a view of the model's bytes: where they begin in it need not be aligned. */
  readonly bytes: Uint8Array;
}

/**
 * The weights and values that are stored in a model which `toOnnx` wrote, by name and where they lie.
 *
 * @throws AutogradError when the bytes are no such model
 */
export function onnxValues(bytes: Uint8Array): Map<string, OnnxValue> {
  const values = new Map<string, OnnxValue>();
  for (const { bytes: graph } of fields(bytes, 7))
    for (const { bytes: tensor } of fields(graph, 5)) {
      const name = new TextDecoder().decode(fields(tensor, 8)[0]?.bytes);
      // Constants are named after their nodes.
      if (name.startsWith('#')) continue;
      const shape = fields(tensor, 1).map(({ integer }) => integer);
      const type = fields(tensor, 2)[0]?.integer;
      const dtype = (['float32', 'uint8'] as const).find((known) => onnxTypes[known] === type);
      const raw = fields(tensor, 9)[0]?.bytes;
      if (dtype === undefined || raw?.length !== bytesPerElement[dtype] * elementCount(shape))
        throw new AutogradError(`the weight '${name}' is not in the form that toOnnx writes; make the model anew`);
      values.set(name, { dtype, shape, bytes: raw });
    }
  return values;
}

/**
 * The same as tensors. They are copies: the bytes are needed no more.
 *
 * @throws AutogradError when the bytes are no such model
 */
export function onnxWeights(bytes: Uint8Array): Map<string, HostTensor> {
  return new Map(Array.from(onnxValues(bytes), ([name, value]) => [name, tensorOfValue(value)]));
}

/** A stored value as a tensor of its own. */
export function tensorOfValue({ dtype, shape, bytes }: OnnxValue): HostTensor {
  const own = new Uint8Array(bytes);
  return { dtype, shape, data: dtype === 'uint8' ? own : new Float32Array(own.buffer) };
}

const fields = (message: Uint8Array, wanted: number) =>
  Array.from(new MessageReader(message)).filter(({ field }) => field === wanted);
