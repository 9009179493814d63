import path from 'node:path';

import { malformed, sourceLine } from './dataset.js';
import { parseLine, readDelimited } from './delimited.js';
import type { SourceReader } from './source-reader.js';
import { stream } from './streams.js';
import { tableFormat } from './tables.js';
import { sniffText } from './text-file.js';
import { idOf, numberOrRaw } from './values.js';

/** Positions of the columns: 2014's files have the user first, 2018's the item. */
export interface AmazonRatingsOrder {
  user: 0 | 1;
  item: 0 | 1;
}

const user = /^A[0-9A-Z]{9,27}$/;
const item = /^(B[0-9A-Z]{9}|\d{9}[\dX])$/;

/** Amazon's "ratings only" files have no header; user and item are told apart by the look of their ids. */
export async function sniffAmazonRatings(file: string): Promise<AmazonRatingsOrder | undefined> {
  if (tableFormat(file) !== 'csv') return undefined;
  const { lines } = await sniffText(file);
  const rows = lines
    .slice(0, 51)
    .slice(0, -1)
    .map((line) => parseLine(line, ',', false));
  if (lines.length === 1) rows.push(parseLine(lines[0], ',', false));
  const fits = (u: 0 | 1, i: 0 | 1) =>
    rows.length > 0 &&
    rows.every(
      (row) =>
        row.length === 4 &&
        user.test(row[u]) &&
        item.test(row[i]) &&
        row[2] !== '' &&
        Number(row[2]) <= 5 &&
        Number(row[3]) > 8e8,
    );
  if (fits(0, 1)) return { user: 0, item: 1 };
  return fits(1, 0) ? { user: 1, item: 0 } : undefined;
}

export function readAmazonRatings(file: string, order: AmazonRatingsOrder): SourceReader {
  return {
    layout: 'amazon-ratings',
    contents: { time: 's', rating: true },
    eventBatches: stream(async function* () {
      for await (const records of readDelimited(file, {
        delimiter: ',',
        encoding: 'utf-8',
        quotes: false,
        header: false,
        fields: 4,
      })) {
        yield records.map(({ fields, line, problem }) =>
          problem !== undefined
            ? { [sourceLine]: line, [malformed]: problem }
            : {
                [sourceLine]: line,
                user: idOf(fields[order.user]),
                item: idOf(fields[order.item]),
                time: numberOrRaw(fields[3]),
                rating: numberOrRaw(fields[2]),
              },
        );
      }
    }),
    honours: [],
    files: [file],
    source: 'Amazon reviews (ratings only), McAuley Lab, UC San Diego',
    licence: 'No licence is stated: for research, as its authors ask; do not redistribute',
    notes: [`${path.basename(file)} holds ids, ratings and times only: the items have no titles.`],
  };
}
