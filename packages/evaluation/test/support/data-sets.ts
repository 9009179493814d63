import { interactionsFromRows } from '../../src/index.js';
import type { InteractionLog, InteractionRow } from '../../src/index.js';
import { sharedText } from './shared.js';

const lines = (file: string, encoding?: BufferEncoding): string[] => sharedText(file, encoding).split(/\r?\n/).filter(Boolean);
const rating = (line: string, separator: string): InteractionRow => {
  const [user, item, , time] = line.split(separator);
  return { user, item, time: Number(time) };
};

/** Just enough of a reader for each data set that the floors are published for. */
export const dataSets = {
  'ml-latest-small': {
    file: 'data/ml-latest-small/ratings.csv',
    read: (file: string) =>
      lines(file)
        .slice(1)
        .map((line) => rating(line, ',')),
  },
  'ml-100k': { file: 'data/ml-100k/u.data', read: (file: string) => lines(file).map((line) => rating(line, '\t')) },
  'ml-1m': { file: 'data/ml-1m/ratings.dat', read: (file: string) => lines(file).map((line) => rating(line, '::')) },
  'amazon-musical-instruments': {
    file: 'data/amazon-musical-instruments/reviews_Musical_Instruments_5.json',
    read: (file: string) =>
      lines(file).map((line) => {
        const { reviewerID, asin, unixReviewTime } = JSON.parse(line) as {
          reviewerID: string;
          asin: string;
          unixReviewTime: number;
        };
        return { user: reviewerID, item: asin, time: unixReviewTime };
      }),
  },
} as const;

export function readDataSet(name: keyof typeof dataSets): InteractionLog {
  return interactionsFromRows(dataSets[name].read(dataSets[name].file));
}
