let table: Float32Array | undefined;

/** The value of every 16-bit float by its bits. */
function values(): Float32Array {
  if (table) return table;
  table = new Float32Array(65_536);
  for (let bits = 0; bits < 65_536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    table[bits] =
      exponent === 0
        ? sign * fraction * 2 ** -24
        : exponent === 31
          ? fraction
            ? NaN
            : sign * Infinity
          : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return table;
}

/** IEEE 754 binary16 bits to numbers. */
export function fromHalf(bits: Uint16Array, into: Float32Array): void {
  const known = values();
  for (let i = 0; i < bits.length; i++) into[i] = known[bits[i]];
}

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** The bits of the nearest binary16, ties to even; what is too large becomes infinite. */
export function toHalf(value: number): number {
  float[0] = value;
  const bits = word[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 and more round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Below 2^-14 a step is 2^-24, and adding 0.5 makes float32 round to it.
    float[0] = Math.abs(float[0]) + 0.5;
    return sign | (word[0] - 0x3f000000);
  }
  // Rounds the 13 bits that are cut off; a carry into the exponent is right.
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}
