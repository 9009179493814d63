import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  evaluate,
  leaveOneOut,
  machineDescription,
  nextItem,
  popularity,
  processorOf,
  type HistoryLengthRow,
  type Report,
  type System,
} from '@user-llm/evaluation';
import { KeptSystems } from '../src/study/kept-systems.js';

const users = 12;
const log = {
  users: Array.from({ length: users }, (_, user) => `user ${user}`),
  itemIds: Array.from({ length: 20 }, (_, item) => `item ${item}`),
  offsets: Int32Array.from({ length: users + 1 }, (_, user) => 4 * user),
  items: Int32Array.from({ length: 4 * users }, (_, event) => (event * 7 + Math.floor(event / 4)) % 20),
};
const reader = (name: string): System => ({
  name,
  rank: ({ candidates }) => ({ scores: Float64Array.from(candidates.ids, (_, i) => -i) }),
});
const report = async (...names: string[]): Promise<Report> => {
  const systems = [popularity(), ...names.map(reader)];
  const answered = await evaluate({ task: nextItem(leaveOneOut(log)), systems, seed: 1, sample: { users: 8, systems: names } });
  return answered.with({ training: names.map((name) => ({ name, steps: 3 })) });
};
const terms = { seed: 1, users: 8, examples: 2000, encoderSteps: 800, minutes: null, recipe: 2 };

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'kept-systems-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('systems kept from run to run', () => {
  test('a comparison is made of two runs', async () => {
    const file = path.join(folder, 'answers', 'two.json');
    const another = { ...machineDescription(), cpu: 'Another', cores: 3 };
    await KeptSystems.none(file, terms).write(await report('user-llm/soft-prompt'), another, 'bench one');

    const kept = await KeptSystems.read(file, terms);
    const here = (await report('text-prompt-10')).with({ unfinished: ['user-llm/soft-prompt', 'text-prompt-50'] });
    await kept.write(here, machineDescription(), 'bench two');
    const whole = kept.addTo(here).toJSON();
    expect(whole.systems.map(({ name }) => name)).toEqual(['popularity', 'text-prompt-10', 'user-llm/soft-prompt']);
    expect(whole.systems[2].notes).toEqual([`measured in a run of its own, on ${processorOf(another)}`]);
    expect(whole.training?.map(({ name }) => name)).toEqual(['text-prompt-10', 'user-llm/soft-prompt']);
    expect(whole.unfinished).toEqual(['text-prompt-50']);
    expect(whole.finished).toBe(false);
    expect(whole.commands).toEqual({ 'user-llm/soft-prompt': 'bench one' });

    // One that began before the second was finished does not undo it.
    const slow = await KeptSystems.read(file, terms);
    await (await KeptSystems.read(file, terms)).write(await report('text-prompt-50'), machineDescription(), 'bench two');
    await slow.write(await report('text-prompt-10'), machineDescription(), 'bench two');
    expect(
      slow
        .addTo(here)
        .toJSON()
        .systems.map(({ name }) => name),
    ).toContain('text-prompt-50');

    // A third run finds all, and what it measures again takes the place of what was kept.
    const again = await KeptSystems.read(file, terms);
    const third = again.addTo(await report('user-llm/soft-prompt')).toJSON();
    expect(third.systems.map(({ name, notes = [] }) => [name, notes.length])).toEqual([
      ['popularity', 0],
      ['user-llm/soft-prompt', 0],
      ['text-prompt-10', 1],
      ['text-prompt-50', 1],
    ]);
  });
  test('quality against history length is of all runs that measured it, and nothing is missing once each system is there', async () => {
    const file = path.join(folder, 'lengths.json');
    const lengths = (events: number, asked: number, ...names: string[]): HistoryLengthRow => ({
      events,
      users: asked,
      systems: names.map((name) => ({ name, 'recall@10': 0.5, 'ndcg@10': 0.3, ci95: [0.4, 0.6] })),
    });
    const first = (await report('user-llm/soft-prompt')).with({
      historyLength: [lengths(50, 8, 'encoder', 'user-llm/soft-prompt'), lengths(100, 7, 'encoder', 'user-llm/soft-prompt')],
    });
    await KeptSystems.none(file, terms).write(first, machineDescription(), 'bench one');
    const kept = await KeptSystems.read(file, terms);
    const second = (await report('text-prompt-10')).with({ finished: false, unfinished: ['user-llm/soft-prompt'] });
    expect(kept.addTo(second).toJSON()).toMatchObject({
      finished: true,
      unfinished: [],
      historyLength: [lengths(50, 8, 'encoder', 'user-llm/soft-prompt'), lengths(100, 7, 'encoder', 'user-llm/soft-prompt')],
    });
    const measured = second.with({ historyLength: [lengths(50, 8, 'encoder', 'text-prompt-10'), lengths(100, 8, 'encoder')] });
    // A later command that finds it finished, and has no lengths yet, takes nothing away; another measurement does.
    await kept.write(first.with({ historyLength: undefined }), machineDescription(), 'bench three');
    expect((await KeptSystems.read(file, terms)).addTo(second).toJSON()).toMatchObject({
      commands: { 'user-llm/soft-prompt': 'bench one' },
      historyLength: [lengths(50, 8, 'encoder', 'user-llm/soft-prompt'), lengths(100, 7, 'encoder', 'user-llm/soft-prompt')],
    });
    const again = await KeptSystems.read(file, terms);
    await again.write(await report('user-llm/soft-prompt'), machineDescription(), 'bench four');
    expect(again.addTo(second).toJSON()).toMatchObject({ commands: { 'user-llm/soft-prompt': 'bench four' } });
    expect(again.addTo(second).toJSON().historyLength).toBeUndefined();
    // Other users are no comparison.
    expect(kept.addTo(measured).toJSON().historyLength).toEqual([
      lengths(50, 8, 'encoder', 'text-prompt-10', 'user-llm/soft-prompt'),
      lengths(100, 8, 'encoder'),
    ]);
  });

  test('systems that were trained in an earlier way are not compared', async () => {
    const file = path.join(folder, 'earlier.json');
    const { recipe: _, ...earlier } = terms;
    await writeFile(file, JSON.stringify({ terms: earlier, systems: {} }));
    await expect(KeptSystems.read(file, terms)).rejects.toThrow(
      'what earlier.json holds was measured with recipe 1, not 2; leave out --keep, and measure it again',
    );
  });

  test('systems of other terms are not compared', async () => {
    const file = path.join(folder, 'terms.json');
    await KeptSystems.none(file, terms).write(await report('user-llm/soft-prompt'), machineDescription(), 'bench two');
    await expect(KeptSystems.read(file, { ...terms, examples: 500 })).rejects.toThrow(
      'what terms.json holds was measured with examples 2000, not 500; give the same, or leave out --keep',
    );
  });
  test('without --keep what lies there is not read, and a file that is not there keeps nothing', async () => {
    const file = path.join(folder, 'there.json');
    await KeptSystems.none(file, terms).write(await report('user-llm/soft-prompt'), machineDescription(), 'bench two');
    const alone = await report('text-prompt-10');
    const absent = path.join(folder, 'absent.json');
    for (const kept of [KeptSystems.none(file, terms), await KeptSystems.read(absent, terms)])
      expect(kept.addTo(alone).systems).toEqual(alone.systems);
    expect((await KeptSystems.read(file, terms)).addTo(alone).systems).toHaveLength(alone.systems.length + 1);
  });
});
