import { expect, test } from '@jest/globals';
import { servedCodes } from '../src/decoder/packable-matrix.js';
import { processorFlags } from '../src/serving/byte-products.js';

const info = (flags: string): string => `processor\t: 0\nmodel name\t: AMD EPYC\n${flags}bugs\t\t: sysret_ss_attrs avx512_vnni\n`;

test("a processor's flags are those of the first one", () => {
  const flags = processorFlags(info('flags\t\t: fpu avx2 avx512f avx512_vnni \n') + info('flags\t\t: fpu amx_tile\n'));
  expect([...flags]).toEqual(['fpu', 'avx2', 'avx512f', 'avx512_vnni']);
});

test.each([
  ['a processor without flags', info('')],
  ['an ARM processor', 'processor\t: 0\nFeatures\t: fp asimd asimddp\n'],
  ['no text at all', ''],
])('%s has none', (_, text) => {
  expect(processorFlags(text).size).toBe(0);
});

test('codes lie in bytes where bytes are fast, in models that are small, at level 4; or as asked for', () => {
  const small = 100e6;
  expect(servedCodes(small, {}, true)).toBe('bytes');
  expect(servedCodes(small, {}, false)).toBe('nibbles');
  expect(servedCodes(200e6, {}, true)).toBe('nibbles');
  expect(servedCodes(small, { accuracyLevel: 0 }, true)).toBe('nibbles');
  expect(servedCodes(small, { codes: 'nibbles' }, true)).toBe('nibbles');
  expect(servedCodes(small, { codes: 'bytes' }, false)).toBe('bytes');
});
