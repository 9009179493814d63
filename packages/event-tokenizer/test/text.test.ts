import { describe, expect, test } from '@jest/globals';

import { EventTokenizer, eventSchema, hashedNgrams, item, SchemaError, text, TextEmbedderError } from '../src/index.js';
import type { TextColumn, TextEmbedder } from '../src/index.js';

const embed = (texts: string[], options?: Parameters<typeof hashedNgrams>[0]) =>
  hashedNgrams(options).embed(texts) as Float32Array[];
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((sum, value, i) => sum + value * b[i], 0);
const rows = (texts: unknown[]) => texts.map((note, i) => ({ u: `user ${i % 2}`, film: 'a', note }));
const vectors = async (tokenizer: EventTokenizer, texts: unknown[]) =>
  (await tokenizer.encode(rows(texts))).fields.note as TextColumn;

function schemaWith(options?: Parameters<typeof text>[1]) {
  return eventSchema({ user: 'u', fields: { film: item('film'), note: text('note', options) } });
}

describe('hashedNgrams', () => {
  test('is the documented hash', () => {
    // Written from the docstring alone, one n-gram at a time.
    const reference = (raw: string, width: number) => {
      const written = ` ${raw.normalize('NFKC').toLowerCase().replace(/\s+/g, ' ').trim()} `;
      const vector = new Array<number>(width).fill(0);
      for (let length = 3; length <= 5; length++)
        for (let start = 0; start + length <= written.length; start++) {
          let h = 2166136261n;
          for (const unit of written.slice(start, start + length).split(''))
            h = ((h ^ BigInt(unit.charCodeAt(0))) * 16777619n) % 2n ** 32n;
          h = ((h ^ (h >> 16n)) * 0x85ebca6bn) % 2n ** 32n;
          h = ((h ^ (h >> 13n)) * 0xc2b2ae35n) % 2n ** 32n;
          h ^= h >> 16n;
          vector[Number((h % 2n ** 31n) % BigInt(width))] += h >= 2n ** 31n ? -1 : 1;
        }
      const norm = Math.hypot(...vector);
      return vector.map((value) => value / norm);
    };
    for (const raw of ['Toy Story (1995)', '  Ｆｕｌｌ  width\tÉTÉ ', '😀 yes', 'a'])
      embed([raw], { width: 37 })[0].forEach((value, i) => expect(value).toBeCloseTo(reference(raw, 37)[i], 6));
  });

  test('has length 1, ignores case and spacing, and brings like texts together', () => {
    const [a, b, near, far, empty] = embed([
      'The Lord of the Rings',
      ' the lord  of the RINGS',
      'Lord of the Rings, The',
      'Pulp Fiction',
      ' ',
    ]);
    expect(dot(a, a)).toBeCloseTo(1, 5);
    expect(b).toEqual(a);
    expect(dot(a, near)).toBeGreaterThan(dot(a, far) + 0.3);
    expect(empty.every((value) => value === 0)).toBe(true);
  });

  test('refuses widths and lengths that cannot be', () => {
    for (const options of [{ width: 0 }, { width: 1.5 }, { minLength: 0 }, { minLength: 4, maxLength: 3 }])
      expect(() => hashedNgrams(options)).toThrow(expect.objectContaining({ name: 'SchemaError' }));
    expect(SchemaError.isInstance(undefined)).toBe(false);
  });
});

describe('text fields', () => {
  test('give a vector per event, in event order; a missing text is zero', async () => {
    const tokenizer = await EventTokenizer.fit(schemaWith({ width: 16 }), rows(['x']));
    const texts = ['one film', 'two', null, '', 'five', 1995];
    const column = await vectors(tokenizer, texts);
    expect(column.width).toBe(16);
    const zero = new Float32Array(16);
    const expected = [0, 2, 4, 1, 3, 5].map((i) => (texts[i] ? embed([String(texts[i])], { width: 16 })[0] : zero));
    expect(column.vectors).toEqual(Float32Array.from(expected.flatMap((vector) => [...vector])));
  });

  test('call the given function in batches, for kept rows with a text alone', async () => {
    const calls: string[][] = [];
    const embedder: TextEmbedder = {
      name: 'lengths',
      width: 2,
      batchSize: 2,
      embed: async (texts) => {
        calls.push([...texts]);
        return texts.map((given) => [given.length, 1]);
      },
    };
    const tokenizer = await EventTokenizer.fit(schemaWith({ embedder }), rows(['x']));
    expect(calls).toEqual([]);
    const events = await tokenizer.encode([...rows(['aa', null, 'b', {}, 'cccc']), { u: '', film: 'a', note: 'not embedded' }]);
    expect(calls).toEqual([['aa', 'b'], ['cccc']]);
    expect(Array.from((events.fields.note as TextColumn).vectors)).toEqual([2, 1, 1, 1, 4, 1, 0, 0]);
    expect(events.rejected.map(({ line, field }) => [line, field])).toEqual([
      [4, 'note'],
      [6, 'u'],
    ]);
  });

  test('say what is wrong with a function that gives the wrong shape', async () => {
    const wrong = (give: (texts: readonly string[]) => number[][]) =>
      EventTokenizer.fit(schemaWith({ embedder: { name: 'wrong', width: 2, embed: give } }), rows(['x'])).then((tokenizer) =>
        tokenizer.encode(rows(['x', 'y'])).catch((error: unknown) => error),
      );
    const few = await wrong(() => [[1, 2]]);
    expect(TextEmbedderError.isInstance(few)).toBe(true);
    expect((few as Error).message).toBe('The text field "note": "wrong" gave 1 vectors for 2 texts; it must give one each.');
    expect(((await wrong((texts) => texts.map(() => [1]))) as Error).message).toContain('it says its width is 2');
  });

  test.each([0, -1, 0.5, NaN])('that take %s texts per call are refused where they are given', async (batchSize) => {
    const embedder: TextEmbedder = { name: 'mine-1', width: 1, embed: (texts) => texts.map(() => [1]) };
    const refused = { ...embedder, batchSize };
    const problem = `batchSize: the embedder "mine-1" takes ${batchSize} texts per call, which is not a positive whole number.`;
    expect(() => schemaWith({ embedder: refused })).toThrow(SchemaError);
    expect(() => schemaWith({ embedder: refused })).toThrow(problem);
    const saved = (await EventTokenizer.fit(schemaWith({ embedder }), rows(['x']))).toJSON();
    expect(() => EventTokenizer.fromJSON(saved, { embedders: { note: refused } })).toThrow(problem);
  });

  test('a loaded tokenizer needs the same function again; the default one comes by itself', async () => {
    const embedder: TextEmbedder = { name: 'mine-1', width: 1, embed: (texts) => texts.map((given) => [given.length]) };
    const saved = (await EventTokenizer.fit(schemaWith({ embedder }), rows(['x']))).toJSON();
    const error = await EventTokenizer.fromJSON(saved)
      .encode(rows(['x']))
      .catch((caught: unknown) => caught);
    expect(TextEmbedderError.isInstance(error)).toBe(true);
    expect((error as Error).message).toContain('"mine-1"');
    const again = EventTokenizer.fromJSON(saved, { embedders: { note: embedder } });
    expect(Array.from((await vectors(again, ['xyz'])).vectors)).toEqual([3]);
    expect(() => EventTokenizer.fromJSON(saved, { embedders: { note: { ...embedder, name: 'mine-2' } } })).toThrow(
      'fitted with "mine-1"',
    );
    expect(() => EventTokenizer.fromJSON(saved, { embedders: { film: embedder } })).toThrow('no text field "film"');

    const usual = await EventTokenizer.fit(schemaWith({ width: 8 }), rows(['x']));
    expect(await vectors(EventTokenizer.fromJSON(usual.toJSON()), ['xyz'])).toEqual(await vectors(usual, ['xyz']));
  });
});
