import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { readSafetensors } from '@user-llm/onnx-autograd';
import { blockFormat, blockFormatNames } from '../src/gguf/block-formats.js';
import type { BlockFormatName } from '../src/gguf/block-formats.js';
import { dequantize } from '../src/gguf/dequantize.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(import.meta.dirname, '../../../../shared');
const fixture = path.join(shared, 'fixtures/gguf/blocks.safetensors');
if (!existsSync(fixture)) console.warn(`skipped: no reference blocks at ${fixture}; set USER_LLM_SHARED`);

const references = blockFormatNames.filter((name) => name !== 'F32');
(existsSync(fixture) ? test : test.skip).each(references)("%s: every value is the reference's, bit for bit", async (name) => {
  const { tensors } = await readSafetensors(fixture, { names: [`${name}.bytes`, `${name}.values`] });
  const values = dequantize(blockFormat(name), tensors.get(`${name}.bytes`)!.data as Uint8Array);
  expect(values).toEqual(tensors.get(`${name}.values`)!.data);
});

describe('blocks made by hand', () => {
  // A bit writer that knows the layouts only as lists of fields: codes, high bits and scales are put in one by one.
  const half = { one: [0x00, 0x3c], minusTwo: [0x00, 0xc0], quarter: [0x00, 0x34] };
  const codes = (bits: number, count: number) => Array.from({ length: count }, (_, i) => (i * 7 + (i >> 3)) % 2 ** bits);
  const nibbles = (list: readonly number[]) => list.slice(0, 16).map((low, i) => (low & 15) | ((list[i + 16] & 15) << 4));
  const fifths = (list: readonly number[]) =>
    [0, 8, 16, 24].map((from) => list.slice(from, from + 8).reduce((byte, code, i) => byte | ((code >> 4) << i), 0));
  const four = codes(4, 32);
  const five = codes(5, 32);
  const eight = codes(8, 32).map((code) => code - 128);

  test.each<[BlockFormatName, number[], number[]]>([
    ['F32', [0, 0, 0xc0, 0x3f], [1.5]],
    ['F16', [...half.quarter, ...half.minusTwo, 1, 0], [0.25, -2, 2 ** -24]],
    ['BF16', [0xc0, 0x3f], [1.5]],
    ['Q8_0', [...half.quarter, ...eight.map((code) => code & 255)], eight.map((code) => code / 4)],
    ['Q4_0', [...half.minusTwo, ...nibbles(four)], four.map((code) => -2 * (code - 8))],
    ['Q4_1', [...half.quarter, ...half.minusTwo, ...nibbles(four)], four.map((code) => code / 4 - 2)],
    ['Q5_0', [...half.quarter, ...fifths(five), ...nibbles(five)], five.map((code) => (code - 16) / 4)],
    ['Q5_1', [...half.quarter, ...half.one, ...fifths(five), ...nibbles(five)], five.map((code) => code / 4 + 1)],
  ])('%s', (name, bytes, values) => {
    expect(Array.from(dequantize(blockFormat(name), Uint8Array.from(bytes)), (value) => value + 0)).toEqual(
      values.map((value) => value + 0),
    );
  });

  // Super-blocks of eight groups of 32, each with a scale and a minimum of six bits.
  const scales = [3, 63, 17, 40, 0, 33, 62, 21];
  const minima = [60, 1, 35, 18, 47, 0, 16, 63];
  const packed = [
    ...[0, 1, 2, 3].map((j) => scales[j] | ((scales[j + 4] >> 4) << 6)),
    ...[0, 1, 2, 3].map((j) => minima[j] | ((minima[j + 4] >> 4) << 6)),
    ...[0, 1, 2, 3].map((j) => (scales[j + 4] & 15) | ((minima[j + 4] & 15) << 4)),
  ];
  const expected = (list: readonly number[]) => list.map((code, i) => 0.25 * scales[i >> 5] * code + 2 * minima[i >> 5]);
  const pairs = (list: readonly number[]) =>
    [0, 64, 128, 192].flatMap((from) =>
      list.slice(from, from + 32).map((low, i) => (low & 15) | ((list[from + 32 + i] & 15) << 4)),
    );

  test('Q4_K', () => {
    const list = codes(4, 256);
    const bytes = Uint8Array.from([...half.quarter, ...half.minusTwo, ...packed, ...pairs(list)]);
    expect(Array.from(dequantize(blockFormat('Q4_K'), bytes))).toEqual(expected(list));
  });

  test('Q5_K', () => {
    const list = codes(5, 256);
    const high = Array.from({ length: 32 }, (_, i) =>
      scales.reduce((byte, _scale, group) => byte | ((list[32 * group + i] >> 4) << group), 0),
    );
    const bytes = Uint8Array.from([...half.quarter, ...half.minusTwo, ...packed, ...high, ...pairs(list)]);
    expect(Array.from(dequantize(blockFormat('Q5_K'), bytes))).toEqual(expected(list));
  });

  test('Q6_K', () => {
    const list = codes(6, 256);
    const signed = Array.from({ length: 16 }, (_, i) => (i % 2 ? -1 : 1) * (i * 8 + 7));
    const low = [0, 128].flatMap((from) =>
      Array.from({ length: 64 }, (_, i) => (list[from + i] & 15) | ((list[from + 64 + i] & 15) << 4)),
    );
    const high = [0, 128].flatMap((from) =>
      Array.from({ length: 32 }, (_, i) =>
        [0, 1, 2, 3].reduce((byte, part) => byte | ((list[from + 32 * part + i] >> 4) << (2 * part)), 0),
      ),
    );
    const bytes = Uint8Array.from([...low, ...high, ...signed.map((scale) => scale & 255), ...half.quarter]);
    expect(Array.from(dequantize(blockFormat('Q6_K'), bytes))).toEqual(
      list.map((code, i) => 0.25 * signed[i >> 4] * (code - 32)),
    );
  });
});
