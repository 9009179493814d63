/**
 * `npm run bench -- tokenizer-scale [--events 50000000] [--users 1000000] [--items 100000] [--order time|user] [--folder PATH] [--write]`
 *
 * Fits a tokenizer to a simulated log that is never in memory, encodes it into a folder of columns, and reads all of it back, user by
 * user. Reports events per second, the most memory that was resident, and the bound it must stay within. The last line is one JSON
 * object; `--write` also keeps it as benchmarks/results/tokenizer-scale-PROCESSOR.json.
 *
 * The bound: what Node holds before the first row; the vocabularies; 250 bytes per user; eight times the bytes of the events of one
 * chunk; 128 MiB for what the garbage collector has not collected yet.
 */
import { ColumnFolder, EventTokenizer } from '@user-llm/event-tokenizer';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { bytesOf } from './tokenizer-figures.js';
import { logSchema, simulatedLog } from './tokenizer/simulated-log.js';
import type { LogShape } from './tokenizer/simulated-log.js';
import { keepSpeeds } from './record/results.js';

const eventsPerChunk = 1 << 19;
const mebibyte = 2 ** 20;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      events: { type: 'string', default: '50000000' },
      users: { type: 'string', default: '1000000' },
      items: { type: 'string', default: '100000' },
      order: { type: 'string', default: 'time' },
      folder: { type: 'string', default: os.tmpdir() },
      write: { type: 'boolean', default: false },
    },
  });
  const { order } = values;
  if (order !== 'time' && order !== 'user') throw new Error(`--order ${order} is not "time" or "user"`);
  const shape: LogShape = { events: Number(values.events), users: Number(values.users), items: Number(values.items), order };
  for (const name of ['events', 'users', 'items'] as const)
    if (!Number.isInteger(shape[name]) || shape[name] < 1)
      throw new Error(`--${name} ${values[name]} is not a positive whole number`);
  if (shape.events < shape.users) throw new Error(`--events ${shape.events} are fewer than --users ${shape.users}`);
  const folder = await mkdtemp(path.join(values.folder, 'tokenizer-scale-'));
  try {
    const result = await measure(shape, folder);
    if (values.write) await keepSpeeds('tokenizer-scale', result);
    console.log(JSON.stringify(result));
    if (!result.withinBound) throw new Error('more memory was resident than the bound allows');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(shape: LogShape, folder: string) {
  const { events, users } = shape;
  const startBytes = process.memoryUsage().rss;
  console.log(`${events.toLocaleString('en')} events of ${users.toLocaleString('en')} users, in the order of ${shape.order}`);
  const timed = async <T>(what: string, work: () => T | Promise<T>): Promise<{ result: T; seconds: number }> => {
    const start = performance.now();
    const result = await work();
    const seconds = (performance.now() - start) / 1000;
    console.log(
      `  ${what}: ${seconds.toFixed(1)} s, ${(events / seconds / 1e6).toFixed(2)} million events/s, at most ${(peak() / mebibyte).toFixed(0)} MiB resident so far`,
    );
    return { result, seconds };
  };

  const simulate = await timed('simulate alone', () => {
    let rows = 0;
    for (const block of simulatedLog(shape)) rows += block.length;
    return rows;
  });
  const fit = await timed('fit', () => EventTokenizer.fit(logSchema, () => simulatedLog(shape)));
  const tokenizer = fit.result;
  const encode = await timed('encode into a folder', () =>
    ColumnFolder.write(
      path.join(folder, 'columns'),
      tokenizer.encodeChunks(() => simulatedLog(shape), { eventsPerChunk, scratch: folder }),
    ),
  );
  const stored = encode.result;
  let bytes = 0;
  const read = await timed('read back', async () => {
    let seen = 0;
    for await (const chunk of stored.chunks({ events: eventsPerChunk })) {
      const { offsets, times } = chunk;
      for (let u = 0; u + 1 < offsets.length; u++)
        for (let e = offsets[u] + 1; e < offsets[u + 1]; e++)
          if (times[e] < times[e - 1]) throw new Error(`an event of ${chunk.users[u]} stands before an earlier one`);
      seen += times.length;
      bytes += bytesOf(chunk);
    }
    return seen;
  });
  await stored.close();
  if (simulate.result !== events || read.result !== events || stored.users !== users)
    throw new Error(`${read.result} events of ${stored.users} users were read back`);

  const bytesPerEvent = bytes / events;
  const vocabularyBytes = 300 * (tokenizer.vocabulary('item').length + tokenizer.vocabulary('categories').length);
  const boundBytes = startBytes + vocabularyBytes + 250 * users + 8 * eventsPerChunk * bytesPerEvent + 128 * mebibyte;
  const rate = (seconds: number) => Math.round(events / seconds);
  return {
    shape,
    eventsPerChunk,
    fitEventsPerSecond: rate(fit.seconds),
    encodeEventsPerSecond: rate(encode.seconds),
    readEventsPerSecond: rate(read.seconds),
    /** Making the rows is part of the times above. */
    simulateEventsPerSecond: rate(simulate.seconds),
    seconds: Number((fit.seconds + encode.seconds + read.seconds).toFixed(1)),
    bytesPerEvent: Number(bytesPerEvent.toFixed(2)),
    folderMiB: Number(((await sizeOf(path.join(folder, 'columns'))) / mebibyte).toFixed(0)),
    peakMiB: Number((peak() / mebibyte).toFixed(0)),
    boundMiB: Number((boundBytes / mebibyte).toFixed(0)),
    withinBound: peak() <= boundBytes,
    machine: {
      cpu: os.cpus()[0].model,
      cores: os.availableParallelism(),
      node: process.version,
      memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    },
  };
}

/** The most bytes that were resident since the process began. */
const peak = (): number => process.resourceUsage().maxRSS * 1024;

async function sizeOf(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true })) bytes += (await stat(path.join(folder, entry))).size;
  return bytes;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
