/**
 * `npm run bench -- tokenizer-figures [--events N] [--rounds N]`
 *
 * The event tokenizer on one core: events per second from rows in memory, and reading a CSV file into columns against the bare CSV
 * parser on the same file. All take turns, round by round; the fastest round of each counts. The last line is one JSON object.
 */
import { openDataset } from '@user-llm/datasets';
import { EventTokenizer } from '@user-llm/event-tokenizer';
import type { EventColumns } from '@user-llm/event-tokenizer';
import { parse } from 'csv-parse';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { logSchema, simulatedLog, simulatedRows } from './tokenizer/simulated-log.js';
import type { LogShape } from './tokenizer/simulated-log.js';

export interface TokenizerFigures {
  tokenizer: {
    /** Encoding rows (one object each) that are in memory: item, categories, number and time. */
    eventsPerSecond: number;
    fitEventsPerSecond: number;
    /** The same rows column by column. */
    columnsEventsPerSecond: number;
    /** Of the encoded columns. */
    bytesPerMillionEvents: number;
  };
  csv: {
    /** Seconds from file to encoded columns over those that csv-parse takes to read the file's records and drop them. */
    overBareParser: number;
    /** The same for a file whose texts are all in quotes. */
    quotedOverBareParser: number;
    eventsPerSecond: number;
    megabytesPerSecond: number;
  };
}

/** @param events rows of the simulated log @param rounds turns of which the fastest counts */
export async function tokenizerFigures({ events = 1_000_000, rounds = 5 } = {}): Promise<TokenizerFigures> {
  const shape: LogShape = { events, users: Math.ceil(events / 50), items: 10_000, order: 'time' };
  const rows = simulatedRows(shape);
  const blocks = [...simulatedLog(shape)];
  const folder = await mkdtemp(path.join(tmpdir(), 'tokenizer-figures-'));
  try {
    const plain = path.join(folder, 'plain.csv');
    const quoted = path.join(folder, 'quoted.csv');
    await writeCsv(plain, shape, (text) => text);
    await writeCsv(quoted, shape, (text) => `"${text}"`);
    const fit: number[] = [];
    const encode: number[] = [];
    const columns: number[] = [];
    const files = [plain, quoted].map((file) => ({ file, bare: [] as number[], read: [] as number[] }));
    let encoded: EventColumns | undefined;
    for (let round = 0; round < rounds; round++) {
      let tokenizer: EventTokenizer | undefined;
      fit.push(await seconds(async () => (tokenizer = await EventTokenizer.fit(logSchema, rows))));
      const fitted = tokenizer as EventTokenizer;
      encode.push(await seconds(async () => (encoded = await fitted.encode(rows))));
      columns.push(await seconds(() => fitted.encode(blocks)));
      for (const { file, bare, read } of files) {
        bare.push(await seconds(() => readBare(file)));
        const data = await openDataset(file, { checksum: false });
        const own = await EventTokenizer.fit(data.schema, data.eventBlocks);
        read.push(
          await seconds(async () => {
            const { counts } = await own.encode(data.eventBlocks);
            if (counts.events !== events) throw new Error(`${counts.events} of ${events} rows became events`);
          }),
        );
      }
    }
    const [bare, read] = [Math.min(...files[0].bare), Math.min(...files[0].read)];
    const { size } = await stat(plain);
    return {
      tokenizer: {
        eventsPerSecond: Math.round(events / Math.min(...encode)),
        fitEventsPerSecond: Math.round(events / Math.min(...fit)),
        columnsEventsPerSecond: Math.round(events / Math.min(...columns)),
        bytesPerMillionEvents: Math.round((bytesOf(encoded as EventColumns) / events) * 1e6),
      },
      csv: {
        overBareParser: Number((read / bare).toPrecision(4)),
        quotedOverBareParser: Number((Math.min(...files[1].read) / Math.min(...files[1].bare)).toPrecision(4)),
        eventsPerSecond: Math.round(events / read),
        megabytesPerSecond: Number((size / 1e6 / read).toPrecision(4)),
      },
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** csv-parse as its documentation reads a file, with lists instead of objects, which is its faster form. */
async function readBare(file: string): Promise<void> {
  const parser = createReadStream(file, { highWaterMark: 1 << 18 }).pipe(parse({ quote: '"' }));
  for await (const record of parser as AsyncIterable<string[]>) void record;
}

async function writeCsv(file: string, shape: LogShape, quote: (text: string) => string): Promise<void> {
  await pipeline(function* () {
    yield 'user,item,categories,rating,time\n';
    for (const block of simulatedLog(shape)) {
      const [users, items, bags, ratings, times] = ['user', 'item', 'categories', 'rating', 'time'].map(
        (name) => block.column(name) ?? [],
      );
      let text = '';
      for (let i = 0; i < block.length; i++)
        text += `${quote(users[i] as string)},${quote(items[i] as string)},${quote(bags[i] as string)},${String(ratings[i])},${String(times[i])}\n`;
      yield text;
    }
  }, createWriteStream(file));
}

/** Bytes of all typed arrays. */
export function bytesOf({ offsets, times, fields }: EventColumns): number {
  let bytes = offsets.byteLength + times.byteLength;
  for (const column of Object.values(fields))
    for (const values of Object.values(column)) if (ArrayBuffer.isView(values)) bytes += values.byteLength;
  return bytes;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { events: { type: 'string', default: '1000000' }, rounds: { type: 'string', default: '5' } },
  });
  const figures = await tokenizerFigures({ events: Number(values.events), rounds: Number(values.rounds) });
  const { tokenizer, csv } = figures;
  const million = (count: number) => `${(count / 1e6).toFixed(2)} million events/s`;
  console.log(
    `from memory: fit ${million(tokenizer.fitEventsPerSecond)}, encode ${million(tokenizer.eventsPerSecond)} (rows), ${million(tokenizer.columnsEventsPerSecond)} (columns)`,
  );
  console.log(`encoded: ${(tokenizer.bytesPerMillionEvents / 1e6).toFixed(1)} MB per million events`);
  console.log(
    `from CSV: ${million(csv.eventsPerSecond)}, ${csv.megabytesPerSecond} MB/s; ${csv.overBareParser} times the bare parser's time (all texts quoted: ${csv.quotedOverBareParser})`,
  );
  console.log(JSON.stringify(figures));
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  });
