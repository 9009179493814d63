/** Element types that a tensor in Node's memory can have. `bfloat16` exists in files; onnxruntime computes in the others. */
export type DType = 'float32' | 'float16' | 'bfloat16' | 'int64' | 'int32' | 'int8' | 'uint8' | 'bool';

/**
 * The array that holds a tensor's elements. `float16` and `bfloat16` are kept as raw bits in a `Uint16Array`
 * (Node 20 has no `Float16Array`), `bool` as one byte per element.
 */
export type TypedArray = Float32Array | Uint16Array | BigInt64Array | Int32Array | Int8Array | Uint8Array;

/** A dense, row-major tensor in Node's memory. `data.length` is the product of `shape`; a scalar has shape `[]`. */
export interface HostTensor {
  readonly data: TypedArray;
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** Bytes of one element. */
export const bytesPerElement: Readonly<Record<DType, number>> = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** Whether numbers of the type have fractions. */
export const isFloat = (dtype: DType): boolean => dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16';

/** ONNX's numbers for the element types (`TensorProto.DataType`). */
export const onnxTypes: Readonly<Record<DType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
};

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) count *= size;
  return count;
}

/** A float32 tensor around `data`, without copying it. Throws a `RangeError` when the shape does not hold as many elements. */
export function float32(data: Float32Array, shape: readonly number[]): HostTensor {
  if (data.length !== elementCount(shape)) {
    throw new RangeError(
      `A tensor of shape [${shape.join(', ')}] has ${elementCount(shape)} elements, but ${data.length} were given.`,
    );
  }
  return { data, shape, dtype: 'float32' };
}

/** The values of a floating-point tensor as float32: the same array when it already is float32, a converted copy otherwise. */
export function toFloat32(tensor: HostTensor): Float32Array {
  switch (tensor.dtype) {
    case 'float32':
      return tensor.data as Float32Array;
    case 'bfloat16':
      return fromBfloat16(tensor.data as Uint16Array);
    case 'float16':
      return fromFloat16(tensor.data as Uint16Array);
    default:
      throw new TypeError(
        `A tensor of dtype ${tensor.dtype} does not hold floating-point values; give float32, float16 or bfloat16.`,
      );
  }
}

/** The same tensor in float32; itself when it already is. */
export const asFloat32 = (tensor: HostTensor): HostTensor =>
  tensor.dtype === 'float32' ? tensor : float32(toFloat32(tensor), tensor.shape);

function fromBfloat16(bits: Uint16Array): Float32Array {
  // bfloat16 is the upper half of a float32.
  const wide = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) wide[i] = bits[i] << 16;
  return new Float32Array(wide.buffer);
}

function fromFloat16(bits: Uint16Array): Float32Array {
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i];
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) values[i] = sign * fraction * 2 ** -24;
    else if (exponent === 31) values[i] = fraction ? NaN : sign * Infinity;
    else values[i] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return values;
}
