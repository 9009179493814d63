/** Writes small GGUF files for tests, lies included. */

export type Metadata = Readonly<
  Record<string, string | number | boolean | { u64: bigint } | readonly string[] | Int32Array | Float32Array>
>;

export interface WrittenTensor {
  readonly name: string;
  /** Rows first. */
  readonly shape: readonly (number | bigint)[];
  /** The format's number: 0 is F32. */
  readonly format: number;
  readonly bytes: Uint8Array;
  /** Where its values begin after the header, in place of the next free place. */
  readonly offset?: number | bigint;
}

const alignment = 32;
const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number | bigint) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string) => {
  const bytes = new TextEncoder().encode(value);
  return [u64(bytes.length), bytes];
};

function value(of: Metadata[string]): Uint8Array[] {
  if (typeof of === 'string') return [u32(8), ...text(of)];
  if (typeof of === 'boolean') return [u32(7), Uint8Array.of(Number(of))];
  if (typeof of === 'number')
    return Number.isInteger(of) ? [u32(4), u32(of)] : [u32(6), new Uint8Array(Float32Array.of(of).buffer)];
  if (of instanceof Int32Array) return [u32(9), u32(5), u64(of.length), new Uint8Array(of.buffer)];
  if (of instanceof Float32Array) return [u32(9), u32(6), u64(of.length), new Uint8Array(of.buffer)];
  if ('u64' in of) return [u32(10), u64(of.u64)];
  return [u32(9), u32(8), u64(of.length), ...of.flatMap(text)];
}

export function ggufBytes(
  metadata: Metadata,
  tensors: readonly WrittenTensor[],
  claims: { tensors?: number | bigint; entries?: number | bigint; version?: number } = {},
): Uint8Array {
  const entries = Object.entries(metadata);
  const data: Uint8Array[] = [];
  let end = 0;
  const infos = tensors.flatMap(({ name, shape, format, bytes, offset }) => {
    const info = [...text(name), u32(shape.length), ...[...shape].reverse().map(u64), u32(format), u64(offset ?? end)];
    const padded = new Uint8Array(Math.ceil(bytes.length / alignment) * alignment);
    padded.set(bytes);
    data.push(padded);
    end += padded.length;
    return info;
  });
  const header = [
    new TextEncoder().encode('GGUF'),
    u32(claims.version ?? 3),
    u64(claims.tensors ?? tensors.length),
    u64(claims.entries ?? entries.length),
    ...entries.flatMap(([key, of]) => [...text(key), ...value(of)]),
    ...infos,
  ];
  const length = header.reduce((sum, { length: size }) => sum + size, 0);
  header.push(new Uint8Array((alignment - (length % alignment)) % alignment));
  return new Uint8Array(Buffer.concat([...header, ...data]));
}

export const float32Bytes = (values: ArrayLike<number>): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
