import { AutogradError } from './errors.js';
import { elementCount, float32, onnxTypes, type HostTensor } from './host-tensor.js';
import { MessageReader } from './protobuf.js';

/**
 * The weights that are stored in a model which `toOnnx` wrote, by name. They are copies: the bytes are needed no more.
 *
 * @throws AutogradError when the bytes are no such model
 */
export function onnxWeights(bytes: Uint8Array): Map<string, HostTensor> {
  const weights = new Map<string, HostTensor>();
  for (const { bytes: graph } of fields(bytes, 7))
    for (const { bytes: tensor } of fields(graph, 5)) {
      const name = new TextDecoder().decode(fields(tensor, 8)[0]?.bytes);
      // Constants are named after their nodes.
      if (name.startsWith('#')) continue;
      const shape = fields(tensor, 1).map(({ integer }) => integer);
      const raw = fields(tensor, 9)[0]?.bytes;
      if (fields(tensor, 2)[0]?.integer !== onnxTypes.float32 || raw?.length !== 4 * elementCount(shape))
        throw new AutogradError(`the weight '${name}' is not in the form that toOnnx writes; make the model anew`);
      weights.set(name, float32(new Float32Array(new Uint8Array(raw).buffer), shape));
    }
  return weights;
}

const fields = (message: Uint8Array, wanted: number) =>
  Array.from(new MessageReader(message)).filter(({ field }) => field === wanted);
