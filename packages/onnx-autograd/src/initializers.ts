import { elementCount, type HostTensor } from './host-tensor.js';
import { Random } from './random.js';

/** Makes the first values of a parameter. */
export type Initializer = (shape: readonly number[], random: Random) => Float32Array;

function fill(shape: readonly number[], next: () => number): Float32Array {
  const data = new Float32Array(elementCount(shape));
  for (let i = 0; i < data.length; i++) data[i] = next();
  return data;
}

export const zeros = (): Initializer => constant(0);
export const ones = (): Initializer => constant(1);

export const constant =
  (value: number): Initializer =>
  (shape) =>
    new Float32Array(elementCount(shape)).fill(value);

/** Gaussian with the given standard deviation. */
export const normal =
  (deviation: number, mean = 0): Initializer =>
  (shape, random) =>
    fill(shape, () => mean + deviation * random.normal());

export const uniform =
  (low: number, high: number): Initializer =>
  (shape, random) =>
    fill(shape, () => low + (high - low) * random.next());

/** Glorot and Bengio 2010: uniform within sqrt(6 / (in + out)), for weights [in, out]. */
export const xavierUniform =
  (gain = 1): Initializer =>
  (shape, random) => {
    const limit = gain * Math.sqrt(6 / (shape[0] + (shape[1] ?? 1)));
    return uniform(-limit, limit)(shape, random);
  };

/** Given values, for example of a pretrained weight. */
export const values =
  (data: Float32Array): Initializer =>
  (shape) => {
    if (data.length !== elementCount(shape))
      throw new RangeError(`${data.length} values do not fill a parameter of shape [${shape.join(', ')}]`);
    return data.slice();
  };

/** Named weights. */
export type Weights = Map<string, HostTensor>;

/** First values of all parameters. Each depends on the seed and its own name alone, so that adding one changes no other. */
export function initialWeights(
  parameters: Iterable<{ name: string; shape: readonly number[]; initializer: Initializer }>,
  seed: number,
): Weights {
  const weights: Weights = new Map();
  for (const { name, shape, initializer } of parameters)
    weights.set(name, { data: initializer(shape, Random.of(seed, name)), shape: [...shape], dtype: 'float32' });
  return weights;
}
