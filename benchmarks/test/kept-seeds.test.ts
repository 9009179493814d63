import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { machineDescription } from '@user-llm/evaluation';
import { keepSeed, keptSeed, type SeedTerms } from '../src/study/kept-seeds.js';
import { overSeeds } from '../src/study/over-seeds.js';

const terms: SeedTerms = {
  seed: 1,
  shape: { width: 64, attention: { position: 'rotary', window: 100 }, userTokens: undefined },
  training: { steps: 3000, batch: 16 },
  recipe: 3,
  task: 'next-item/test/one',
};
const ranks = { mix: [0, 20, 3, 11], encoder: [1, 2, 40, 9] };

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'kept-seeds-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('seeds kept from run to run', () => {
  test('one that was measured is read again, with its machine and command', async () => {
    const file = path.join(folder, 'answers', 'seed1.json');
    expect(await keptSeed(file, terms)).toBeUndefined();
    const machine = { ...machineDescription(), cpu: 'Another' };
    await keepSeed(file, { terms, machine, command: 'bench one', ranks });
    const kept = await keptSeed(file, terms);
    expect(kept).toMatchObject({ command: 'bench one', machine: { cpu: 'Another' }, ranks });
  });

  test.each([
    [
      'training',
      { ...terms, training: { steps: 200, batch: 16 } },
      'with training {"steps":3000,"batch":16}, not {"steps":200,"batch":16}',
    ],
    ['shape', { ...terms, shape: { ...terms.shape, width: 32 } }, 'with shape'],
    ['recipe', { ...terms, recipe: 4 }, 'with recipe 3, not 4; leave out --keep, and measure it again'],
    ['log', { ...terms, task: 'next-item/test/other' }, 'with task "next-item/test/one", not "next-item/test/other"'],
  ])('one of another %s is refused', async (_, asked, said) => {
    const file = path.join(folder, 'refused.json');
    await keepSeed(file, { terms, machine: machineDescription(), command: 'bench', ranks });
    await expect(keptSeed(file, asked)).rejects.toThrow(said);
  });

  test('several are one comparison, user by user', () => {
    const second = { mix: ranks.mix, encoder: [0, 1, 2, 3] };
    const { encoder, mix } = overSeeds([ranks, second], 'mix');
    // Hits at ten of Mix: users 1 and 3; of the encoder 3 of 4 and 4 of 4.
    expect(encoder['recall@10']).toMatchObject({ mean: 0.875, lowest: 0.75, highest: 1, difference: 0.375 });
    expect(mix['recall@10']).toMatchObject({ mean: 0.5, difference: 0, interval: [0, 0] });
  });
});
