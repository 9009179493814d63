import { describe, expect, test } from '@jest/globals';
import { said } from '../src/stages/ask.js';

const answering = (...pieces: string[]): Parameters<typeof said>[0] => ({
  textStream: (async function* () {
    for (const piece of pieces) yield await Promise.resolve(piece);
  })(),
  text: Promise.resolve(pieces.join('')),
  timings: Promise.resolve({ userMs: 0, firstTokenMs: 4.2, totalMs: 10 }),
});

/** What is shown, piece by piece, and what is returned. */
async function shown(answer: Parameters<typeof said>[0], words?: ReadonlySet<string>) {
  const pieces: string[] = [];
  const text = await said(
    answer,
    { write: (piece) => pieces.push(piece), print: (line = '') => pieces.push(`${line}\n`) },
    words,
  );
  return { pieces, text };
}

describe('an answer in words', () => {
  const words = new Set(['The Last Harbour (1998)', 'Drama']);

  test('of a model that can write is shown as it comes', async () => {
    const { pieces, text } = await shown(answering('You might ', 'like The Last Harbour.'));
    expect(pieces).toEqual(['You might ', 'like The Last Harbour.', '  (first word after 4 ms)\n']);
    expect(text).toBe('You might like The Last Harbour.');
  });

  test('of one that learned nothing but titles and genres is shown where it is one', async () => {
    expect((await shown(answering('The Last ', 'Harbour (1998)'), words)).pieces).toEqual([
      'The Last Harbour (1998)  (first word after 4 ms)\n',
    ]);
  });

  test('and is left out where it is noise, though it is returned', async () => {
    const { pieces, text } = await shown(answering('TheTheThe', 'The'), words);
    expect(pieces).toEqual(['(no answer in words yet: they take more training)\n']);
    expect(text).toBe('TheTheTheThe');
  });

  test.each([[undefined], [words]])('that ended at once is said to have done so', async (known) => {
    expect((await shown(answering(' '), known)).pieces.at(-1)).toBe('(the model ended its answer at once)\n');
  });
});
