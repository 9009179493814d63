import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { writeFileAtomically } from '../src/atomic-file.js';
import { elementCount, float32, toFloat32 } from '../src/host-tensor.js';
import type { HostTensor } from '../src/host-tensor.js';
import {
  SafetensorsError,
  decodeSafetensors,
  encodeSafetensors,
  readSafetensors,
  readSafetensorsHeader,
  safetensorsChunks,
  writeSafetensors,
} from '../src/safetensors.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(import.meta.dirname, '../../../../shared');
const fixtures = path.join(shared, 'fixtures/llm/TinyStories-656K.safetensors');
const testWithFixtures = existsSync(fixtures) ? test : test.skip;
if (!existsSync(fixtures)) console.warn(`skipped: reference tensors not found at ${fixtures}`);

const everyDtype = (): [string, HostTensor][] => [
  ['half', { dtype: 'float16', shape: [3], data: Uint16Array.of(0x3c00, 0xc000, 0x7c00) }],
  ['brain', { dtype: 'bfloat16', shape: [2, 1], data: Uint16Array.of(0x3f80, 0xc040) }],
  ['float', float32(Float32Array.of(1.5, -0, NaN, Infinity), [2, 2])],
  ['long', { dtype: 'int64', shape: [], data: BigInt64Array.of(-(2n ** 63n)) }],
  ['int', { dtype: 'int32', shape: [2], data: Int32Array.of(-1, 2 ** 31 - 1) }],
  ['byte', { dtype: 'int8', shape: [1], data: Int8Array.of(-128) }],
  ['octet', { dtype: 'uint8', shape: [3], data: Uint8Array.of(0, 1, 255) }],
  ['flag', { dtype: 'bool', shape: [2], data: Uint8Array.of(0, 1) }],
  ['empty', float32(new Float32Array(0), [0, 7])],
];

/** A file made by hand: any header, any number of value bytes. */
function forge(header: unknown, values = 0): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + values);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

function problemOf(bytes: Uint8Array): SafetensorsError {
  try {
    decodeSafetensors(bytes, 'weights.safetensors');
  } catch (error) {
    if (SafetensorsError.isInstance(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('bytes', () => {
  test('every dtype comes back with its shape and bits', () => {
    const { tensors, metadata } = decodeSafetensors(encodeSafetensors(everyDtype(), { format: 'pt' }));
    expect(metadata).toEqual({ format: 'pt' });
    expect(new Map(tensors)).toEqual(new Map(everyDtype()));
  });

  test('come in pieces too, for files of any size, and values are asked for only then', () => {
    let asked = 0;
    const late: HostTensor = {
      dtype: 'float32',
      shape: [2],
      get data() {
        asked++;
        return Float32Array.of(1, 2);
      },
    };
    const tensors = [...everyDtype(), ['late', late] as const];
    const chunks = safetensorsChunks(tensors, { format: 'pt' });
    expect(asked).toBe(0);
    const bytes = new Uint8Array(Buffer.concat([...chunks]));
    expect(asked).toBe(1);
    expect(bytes).toEqual(encodeSafetensors(tensors, { format: 'pt' }));
    const short = [
      [
        'late',
        {
          ...late,
          shape: [3],
          get data() {
            return late.data;
          },
        },
      ],
    ] as const;
    expect(() => [...safetensorsChunks(short)]).toThrow('needs 3 elements of 4 bytes, but the array has 2 of 4');
    expect(() =>
      safetensorsChunks([
        ['x', float32(new Float32Array(2), [2])],
        ['x', late],
      ]),
    ).toThrow('must be unique');
  });

  test('any names, shapes and values survive; order of insertion does not matter', () => {
    const tensor = fc
      .array(fc.nat({ max: 4 }), { maxLength: 3 })
      .chain((shape) =>
        fc
          .array(fc.float(), { minLength: elementCount(shape), maxLength: elementCount(shape) })
          .map((values) => float32(Float32Array.from(values), shape)),
      );
    const named = fc.uniqueArray(
      fc.tuple(
        fc.string({ unit: 'grapheme' }).filter((name) => name !== '__metadata__'),
        tensor,
      ),
      { selector: ([name]) => name, maxLength: 5 },
    );
    fc.assert(
      fc.property(named, (tensors) => {
        const bytes = encodeSafetensors(tensors);
        expect(decodeSafetensors(bytes).tensors).toEqual(new Map(tensors));
        expect(encodeSafetensors([...tensors].reverse())).toEqual(bytes);
      }),
      { numRuns: 60 },
    );
  });

  test('half precision is widened on request', () => {
    const { tensors } = decodeSafetensors(encodeSafetensors(everyDtype()), undefined, {
      asFloat32: true,
      names: ['half', 'brain', 'int'],
    });
    expect(tensors.get('half')).toEqual(float32(Float32Array.of(1, -2, Infinity), [3]));
    expect(tensors.get('brain')).toEqual(float32(Float32Array.of(1, -3), [2, 1]));
    expect(tensors.get('int')?.dtype).toBe('int32');
    const subnormal: HostTensor = { dtype: 'float16', shape: [3], data: Uint16Array.of(1, 0x8001, 0x7e00) };
    expect(toFloat32(subnormal)).toEqual(Float32Array.of(2 ** -24, -(2 ** -24), NaN));
  });

  test.each([
    ['too short', Uint8Array.of(1, 2, 3), 'bad-header', /at least 10/],
    ['a huge header', forge('{}').fill(0xff, 0, 8), 'bad-header', /limit of 100000000/],
    ['a header beyond the end', forge('{}').fill(9, 0, 1), 'bad-header', /cut short/],
    ['not JSON', forge('userId,movieId'), 'bad-header', /not JSON/],
    ['a list', forge([]), 'bad-header', /not a JSON object/],
    ['metadata of numbers', forge({ __metadata__: { a: 1 } }), 'bad-header', /strings/],
    ['trailing bytes', forge({}, 3), 'bad-header', /end at byte 10/],
    [
      'a lying shape',
      forge({ w: { dtype: 'F32', shape: [2 ** 30, 2 ** 30], data_offsets: [0, 8] } }, 8),
      'bad-tensor',
      /offsets span 8/,
    ],
    ['out of range', forge({ w: { dtype: 'F32', shape: [4], data_offsets: [0, 16] } }, 8), 'bad-tensor', /cut short/],
    ['a negative size', forge({ w: { dtype: 'F32', shape: [-1], data_offsets: [0, 4] } }, 4), 'bad-tensor', /non-negative/],
    ['descending offsets', forge({ w: { dtype: 'F32', shape: [1], data_offsets: [4, 0] } }, 4), 'bad-tensor', /ascending/],
    ['a null entry', forge({ w: null }), 'bad-tensor', /not an object/],
    [
      'an overlap',
      forge({ v: { dtype: 'U8', shape: [4], data_offsets: [0, 4] }, w: { dtype: 'U8', shape: [4], data_offsets: [2, 6] } }, 6),
      'bad-tensor',
      /overlaps/,
    ],
    ['a gap', forge({ w: { dtype: 'U8', shape: [2], data_offsets: [2, 4] } }, 4), 'bad-tensor', /gap/],
    ['an unknown dtype', forge({ w: { dtype: 'F8_E4M3', shape: [1], data_offsets: [0, 1] } }, 1), 'unsupported-dtype', /F8_E4M3/],
  ])('%s is refused and named', (_name, bytes, problem, message) => {
    const error = problemOf(bytes);
    expect(error.problem).toBe(problem);
    expect(error.message).toMatch(message);
    expect(error.file).toBe('weights.safetensors');
    if (problem === 'bad-tensor' || problem === 'unsupported-dtype') expect(error.tensor).toBe('w');
  });

  test('random damage gives an error or tensors, never anything else', () => {
    const good = encodeSafetensors(everyDtype());
    fc.assert(
      fc.property(fc.nat({ max: good.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = good.slice();
        bytes[at] ^= flip;
        try {
          decodeSafetensors(bytes);
        } catch (error) {
          expect(SafetensorsError.isInstance(error)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('a tensor whose array does not fit its shape is not written', () => {
    const wrong: HostTensor = { dtype: 'float32', shape: [3], data: new Float32Array(2) };
    expect(() => encodeSafetensors([['w', wrong]])).toThrow(/'w'.*\[3\].*but the array has 2/);
    expect(() => float32(new Float32Array(2), [3])).toThrow(RangeError);
  });
});

describe('files', () => {
  let folder: string;
  beforeEach(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'safetensors-'))));
  afterEach(async () => rm(folder, { recursive: true }));

  test('write, then read all of it, a part of it, or the header', async () => {
    const file = path.join(folder, 'a.safetensors');
    await writeSafetensors(file, everyDtype(), { step: '7' });
    expect((await readSafetensors(file)).tensors).toEqual(new Map(everyDtype()));
    expect([...(await readSafetensors(file, { names: ['int'] })).tensors.keys()]).toEqual(['int']);
    const { entries, metadata } = await readSafetensorsHeader(file);
    expect(entries.get('float')).toMatchObject({ dtype: 'float32', shape: [2, 2] });
    expect(metadata).toEqual({ step: '7' });
    await expect(readSafetensors(file, { names: ['nothing'] })).rejects.toMatchObject({
      problem: 'missing-tensor',
      tensor: 'nothing',
    });
  });

  test('a failed write leaves the old file and nothing beside it', async () => {
    const file = path.join(folder, 'a.bin');
    await writeFileAtomically(file, [Uint8Array.of(1)]);
    const interrupted = function* () {
      yield new Uint8Array(1000);
      throw new Error('the disk is full');
    };
    await expect(writeFileAtomically(file, interrupted())).rejects.toThrow('the disk is full');
    expect([...(await readFile(file))]).toEqual([1]);
    expect(await readdir(folder)).toEqual(['a.bin']);
  });

  test('missing file, missing folder, a folder, a text file', async () => {
    await expect(readSafetensors(path.join(folder, 'none'))).rejects.toThrow(/no such file/);
    await expect(readSafetensors(folder)).rejects.toMatchObject({ problem: 'unreadable' });
    await expect(writeSafetensors(path.join(folder, 'x/y'), [])).rejects.toMatchObject({ problem: 'unwritable' });
    const text = path.join(folder, 'ratings.csv');
    await writeFile(text, 'userId,movieId,rating\n1,2,3\n');
    await expect(readSafetensors(text)).rejects.toThrow(/Is this a safetensors file/);
  });

  testWithFixtures('a file by the reference implementation', async () => {
    const { tensors } = await readSafetensors(fixtures);
    expect(tensors.size).toBeGreaterThan(3);
    const again = decodeSafetensors(encodeSafetensors(tensors));
    expect(again.tensors).toEqual(tensors);
  });
});
