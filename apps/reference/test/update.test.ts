import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { beforeAll, describe, expect, jest, test } from '@jest/globals';
import { openStore } from '@user-llm/embedding-store';
import { takeUsers } from '@user-llm/event-tokenizer';
import { LiveUsers } from '../src/live/live-users.js';
import { newEventsOf } from '../src/live/new-events.js';
import { ConsoleOutput } from '../src/run/console-output.js';
import { adaptAll } from '../src/stages/adapt.js';
import { loadAdaptedEncoder } from '../src/stages/adapted.js';
import { ask } from '../src/stages/ask.js';
import { encodeUsers } from '../src/stages/encode.js';
import { pretrain } from '../src/stages/pretrain.js';
import { update, type GivenEvents } from '../src/stages/update.js';
import { mainSystem } from '../src/system-specs.js';
import { Workspace } from '../src/workspace.js';
import { smallFilmService, smallLog } from './small-log.js';

jest.setTimeout(120_000);

const printed: string[] = [];
jest.spyOn(process.stdout, 'write').mockImplementation((text) => printed.push(String(text)) > 0);

/** When the log of the run ends. */
const end = 1_600_000_000 + 13 * 3600;
const options = { signal: new AbortController().signal, systems: [mainSystem.name], threads: 1 };

/** A run in which one system is trained, which takes seconds. */
async function trained(data: string): Promise<string> {
  const out = path.join(await mkdtemp(path.join(os.tmpdir(), 'update-')), 'run');
  const output = new ConsoleOutput({ json: true, quiet: true });
  const workspace = await Workspace.create({ ...options, out, output }, { data, seed: 1, minutes: 0.02 });
  await pretrain(workspace);
  await adaptAll(workspace);
  await encodeUsers(workspace);
  await workspace.close();
  return out;
}

/** What a command says in its result. */
async function said(out: string, command: (workspace: Workspace) => Promise<void>): Promise<Record<string, unknown>> {
  printed.length = 0;
  const workspace = await Workspace.open({ ...options, out, output: new ConsoleOutput({ json: true, quiet: true }) });
  try {
    await command(workspace);
  } finally {
    await workspace.close();
  }
  return JSON.parse(printed.at(-1)!) as Record<string, unknown>;
}

const updated = (out: string, given: GivenEvents) => said(out, (workspace) => update(workspace, given));
const asked = (out: string, user: string) => said(out, (workspace) => ask(workspace, { user }));

async function eventsFile(...rows: string[]): Promise<string> {
  const file = path.join(await mkdtemp(path.join(os.tmpdir(), 'events-')), 'new.csv');
  await writeFile(file, `${['user,item,rating,timestamp', ...rows].join('\n')}\n`);
  return file;
}

/** A user's embedding by now, and that of one pass over their whole history. */
async function bothWays(out: string, user: string): Promise<{ live: Float32Array; whole: Float32Array; events: number }> {
  const workspace = await Workspace.open({ ...options, out, output: new ConsoleOutput({ json: true, quiet: true }) });
  const corpus = await workspace.corpus();
  const encoder = await loadAdaptedEncoder(workspace, mainSystem);
  const live = await LiveUsers.open(workspace.run, corpus, encoder);
  const lines = await readFile(path.join(out, 'live', 'events.jsonl'), 'utf8');
  const since = lines
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as { user: string; item: string; time: number });
  const before = corpus.events.users.includes(user) ? [...corpus.tokenizer.decode(takeUsers(corpus.events, [user]))] : [];
  const rows = [...before, ...since.filter((event) => event.user === user).map((event) => live.withItem(event))];
  const whole = await encoder.encodeUser(await corpus.tokenizer.encode(rows), user);
  const found = await live.find(user);
  await live.close();
  await encoder.dispose();
  return { live: found!.embedding.data, whole: whole.data, events: found!.events };
}

const largest = (a: Float32Array, b: Float32Array): number => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);

describe('new events of a run', () => {
  let out: string;
  beforeAll(async () => {
    out = await trained(await smallLog());
  });

  test('are taken into the states of their users, one step each, and equal one pass over the whole history', async () => {
    expect(await updated(out, { user: 'u3', item: 'film 30', rating: 4, time: String(end + 60) })).toMatchObject({
      ...{ taken: 1, users: 1, historiesRead: 1, statesUpdated: 0 },
    });
    const file = await eventsFile(
      `u3,film 31,5,${end + 120}`,
      `u3,film 32,1,${end + 180}`,
      `u4,film 33,2,${end + 60}`,
      `u4,something new,2,${end + 60}`,
    );
    expect(await updated(out, { events: file })).toMatchObject({
      ...{ taken: 4, users: 2, unknownItems: 1, historiesRead: 1, statesUpdated: 1 },
    });
    for (const user of ['u3', 'u4']) {
      const { live, whole, events } = await bothWays(out, user);
      expect([user, events]).toEqual([user, user === 'u3' ? 17 : 16]);
      expect(largest(live, whole)).toBeLessThan(1e-5);
    }
  });

  test('that are known already, or older than what their user has, change nothing', async () => {
    const before = await bothWays(out, 'u3');
    const file = await eventsFile(
      `u3,film 31,5,${end + 120}`, // taken a moment ago
      `u3,film 9,1,1600000000`, // of the run's data
      `u3,film 9,1,1600000001`, // older than the last one
      `u5,film 1,five,${end + 60}`,
      `u5,film 1,5,`,
    );
    expect(await updated(out, { events: file })).toMatchObject({ taken: 0, known: 2, late: 1, rejected: 2 });
    expect(await bothWays(out, 'u3')).toEqual(before);
  });

  test('of somebody new make a user whom `ask` knows', async () => {
    await expect(asked(out, 'newcomer')).rejects.toThrow("there is no user 'newcomer'");
    const first = await updated(out, { user: 'newcomer', item: 'film 7', time: '2024-12-31T10:00:00Z' });
    expect(first).toMatchObject({ taken: 1, historiesRead: 1 });
    await updated(out, { user: 'newcomer', item: 'film 8', time: '2024-12-31T11:00:00Z' });
    const { live, whole } = await bothWays(out, 'newcomer');
    expect(largest(live, whole)).toBeLessThan(1e-5);
    expect(await asked(out, 'newcomer')).toMatchObject({ user: 'newcomer', events: 2 });
  });

  test('are known to `ask`, with the test item, and to nothing that is evaluated', async () => {
    expect(await asked(out, 'u3')).toMatchObject({ user: 'u3', events: 17 });
    expect(await asked(out, 'u6')).toMatchObject({ user: 'u6', events: 13 });
    const store = await openStore(`lmdb:${path.join(out, 'users')}`);
    for await (const { watermark } of store.scan({ tenant: '' })) expect(watermark.count).toBe(13);
    await store.close();
  });

  test('that a crash left in the log alone, or in half a line, are taken by the next update, once', async () => {
    const log = path.join(out, 'live', 'events.jsonl');
    const line = (item: string, time: number) => JSON.stringify({ user: 'u8', item, time });
    await updated(out, { user: 'u8', item: 'film 30', time: String(end + 60) });
    await appendFile(log, `${line('film 31', end + 120)}\n${line('film 32', end + 180).slice(0, 20)}`);
    expect(await updated(out, { user: 'u8', item: 'film 30', time: String(end + 60) })).toMatchObject({
      ...{ taken: 0, known: 1, statesUpdated: 1 },
    });
    await updated(out, { user: 'u8', item: 'film 33', time: String(end + 240) });
    const { live, whole, events } = await bothWays(out, 'u8');
    expect(events).toBe(17);
    expect(largest(live, whole)).toBeLessThan(1e-5);

    // The store can be made from the log anew.
    await rm(path.join(out, 'live', 'users'), { recursive: true });
    expect(await updated(out, { user: 'u8', item: 'film 33', time: String(end + 240) })).toMatchObject({
      taken: 0,
      historiesRead: 4,
    });
    expect(largest((await bothWays(out, 'u8')).live, whole)).toBeLessThan(1e-5);
  });

  test('whose state is gone are told of, and the next update makes it anew', async () => {
    const gone = async (): Promise<void> => {
      const store = await openStore(`lmdb:${path.join(out, 'live', 'users')}`);
      await store.erase({ user: 'u4' });
      await store.close();
    };
    await gone();
    await expect(asked(out, 'u4')).rejects.toThrow(/state of a user .* is missing; make it anew with: user-llm update --run/);
    expect(await updated(out, {})).toMatchObject({ taken: 0, historiesRead: 1, statesUpdated: 0 });
    expect(await asked(out, 'u4')).toMatchObject({ user: 'u4', events: 16 });
    await gone();
    expect(await updated(out, { user: 'u3', item: 'film 31', time: String(end + 120) })).toMatchObject({
      known: 1,
      historiesRead: 1,
    });
  });

  test('stay taken where a line was taken out of the log', async () => {
    const log = path.join(out, 'live', 'events.jsonl');
    const lines = (await readFile(log, 'utf8')).split('\n').slice(0, -1);
    const without = lines.filter((line) => !line.includes('"film 33"') || !line.includes('"u8"'));
    expect(without).toHaveLength(lines.length - 1);
    await writeFile(log, `${without.join('\n')}\n`);
    await updated(out, { user: 'u9', item: 'film 1', time: String(end + 60) });
    for (const user of ['u8', 'u9']) {
      const { live, whole, events } = await bothWays(out, user);
      expect([user, events]).toEqual([user, user === 'u8' ? 16 : 15]);
      expect(largest(live, whole)).toBeLessThan(1e-5);
    }
  });

  test.each<[string, GivenEvents, RegExp]>([
    ['a user without an item', { user: 'u1' }, /--user and --item/],
    ['a time that is none', { user: 'u1', item: 'film 1', time: 'soon' }, /--time soon is no time/],
    ['a file that is not there', { events: '/nowhere.csv' }, /no file or folder \/nowhere\.csv; check what --events names/],
  ])('are not: %s', async (_, given, message) => {
    await expect(updated(out, given)).rejects.toThrow(message);
  });

  test('that could not be stored are refused before they are taken', async () => {
    const file = path.join(await mkdtemp(path.join(os.tmpdir(), 'events-')), 'new.jsonl');
    const rows = [
      { user: 'u7', item: 'film 20', time: end + 60 },
      { user: 'x'.repeat(5000), item: 'film 20', time: end + 60 },
      { user: 'u7', item: 'film 21', time: Infinity },
    ];
    await writeFile(file, rows.map((row) => `${JSON.stringify(row).replace('null', '1e400')}\n`).join(''));
    expect(await updated(out, { events: file })).toMatchObject({ taken: 1, rejected: 2 });
    expect((await bothWays(out, 'u7')).events).toBe(15);
  });

  test('of which none can be read are an error that names the first', async () => {
    const file = await eventsFile(`u3,film 1,five,${end + 600}`);
    await expect(updated(out, { events: file })).rejects.toThrow(/none of the 1 events can be read; the first, line 2, rating/);
  });
});

test('a run without new events has nothing to take', async () => {
  const out = await trained(await smallLog());
  await expect(updated(out, {})).rejects.toThrow(/name a file of events with --events, or a single event with --user and --item/);
});

test('events of a log with a file of items need not say their categories', async () => {
  const out = await trained(await smallFilmService());
  await updated(out, { user: '3', item: '5', rating: 4, time: String(end + 60) });
  await updated(out, { user: '3', item: '8', rating: 4, time: String(end + 120) });
  const { live, whole } = await bothWays(out, '3');
  expect(largest(live, whole)).toBeLessThan(1e-5);
});

test('of one time and item count once, whatever the order they come in', () => {
  const event = (user: string, item: string, time: number) => ({ user, item, time });
  const history = { last: 10, has: (time: number, item: string) => time === 10 && item === 'a' };
  const { taken, known, late } = newEventsOf(
    [event('u', 'c', 12), event('u', 'a', 10), event('u', 'b', 10), event('u', 'c', 12), event('u', 'd', 9), event('u', 'b', 10)],
    () => history,
  );
  expect(taken.map(({ item }) => item)).toEqual(['b', 'c']);
  expect({ known, late }).toEqual({ known: 3, late: 1 });
});
