import { describe, expect, test } from '@jest/globals';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';
import { promptTexts, questionMessages, titleText } from '../src/text/title-format.js';

const history = ['Toy Story (1995)', ' Heat\n(1995) ', 'Jumanji (1995)'];

describe('questions in words', () => {
  test('with the embedding alone, and with the last titles', () => {
    expect(questionMessages('nextItem')).toEqual([{ role: 'user', content: 'Next title?' }]);
    expect(questionMessages('nextItem', { history, last: 2 })[0].content).toBe(
      'History:\nHeat (1995)\nJumanji (1995)\nNext title?',
    );
    expect(questionMessages('favouriteGenre', { history })[0].content.split('\n')).toHaveLength(5);
    expect(questionMessages('nextItem', { history, last: 0 })).toEqual(questionMessages('nextItem'));
    expect(() => questionMessages('nextItem', { history, last: -1 })).toThrow(/last must be/);
  });

  test('a prompt without history is at most eight tokens, turns included', () => {
    const tokenizer = TextTokenizer.fromFiles(trainByteLevelBpe([...history, ...promptTexts(100)], { vocabularySize: 400 }));
    for (const question of ['nextItem', 'favouriteGenre'] as const) {
      expect(tokenizer.chat(questionMessages(question)).length).toBeLessThanOrEqual(8);
    }
  });

  test('a history costs its titles, one line break each, and a fixed heading', () => {
    const tokenizer = TextTokenizer.fromFiles(trainByteLevelBpe([...history, ...promptTexts(100)], { vocabularySize: 400 }));
    const length = (last: number) => tokenizer.chat(questionMessages('nextItem', { history, last })).length;
    expect(length(3) - length(2)).toBe(tokenizer.encode(titleText(history[0])).length + 1);
  });
});
