import { LanguageModel } from '../src/language-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';

/** Six films, two of whose titles begin like another's. */
export const films = ['Heat', 'Heat and Dust', 'Toy Story', 'Toy Story 2', 'Jumanji', 'The Quiet Harbour'].map((text, i) => ({
  id: `film-${i}`,
  text,
}));

export const filmTokenizer = trainByteLevelBpe(
  films.map(({ text }) => text),
  { vocabularySize: 300 },
);

export const filmModelSizes = { width: 64, layers: 2, heads: 4, keyValueHeads: 2, intermediate: 64, context: 48 };

/** An untrained model of their titles' words. */
export const filmModel = LanguageModel.create(filmModelSizes, filmTokenizer, 1);
