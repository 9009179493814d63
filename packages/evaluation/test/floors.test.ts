import { expect, test } from '@jest/globals';
import { evaluate, itemKnn, leaveOneOut, markov, mix, nextItem, popularity } from '../src/index.js';
import { dataSets, readDataSet } from './support/data-sets.js';
import { describeWith } from './support/shared.js';

type Floor = [system: string, filteredHit: number, filteredNdcg: number, unfilteredHit: number, unfilteredNdcg: number];

/** The published floors: Hit@10 and NDCG@10, filtered and unfiltered. */
const floors: Record<keyof typeof dataSets, Floor[]> = {
  'ml-latest-small': [
    ['popularity', 0.041, 0.0188, 0.0197, 0.0092],
    ['item-knn', 0.1115, 0.0559, 0.0672, 0.0303],
    ['mix', 0.1033, 0.0551, 0.0836, 0.0446],
  ],
  'ml-100k': [
    ['popularity', 0.0859, 0.045, 0.0498, 0.023],
    ['mix', 0.1835, 0.1048, 0.1326, 0.07],
  ],
  'ml-1m': [
    ['popularity', 0.0369, 0.018, 0.0162, 0.0079],
    ['markov', 0.2144, 0.1259, 0.1887, 0.1073],
    ['mix', 0.2495, 0.1429, 0.1954, 0.1065],
  ],
  'amazon-musical-instruments': [['mix', 0.0903, 0.0477, 0.0777, 0.0409]],
};

for (const name of Object.keys(floors) as (keyof typeof dataSets)[]) {
  describeWith(dataSets[name].file, `the counting baselines reproduce the published floors of ${name}`, () => {
    test('to three decimals and better', async () => {
      const log = readDataSet(name);
      const wanted = floors[name].map(([system]) => system);
      const systems = [popularity(), markov(), itemKnn(), mix()].filter((system) => wanted.includes(system.name));
      const report = await evaluate({ task: nextItem(leaveOneOut(log)), systems, seed: 1 });
      const found = report.systems.map(({ name: system, filtered, unfiltered }) => [
        system,
        filtered?.['recall@10'],
        filtered?.['ndcg@10'],
        unfiltered?.['recall@10'],
        unfiltered?.['ndcg@10'],
      ]);
      expect(found.map((row) => row.map((value) => (typeof value === 'number' ? Number(value.toFixed(4)) : value)))).toEqual(
        floors[name],
      );
    }, 240_000);
  });
}
