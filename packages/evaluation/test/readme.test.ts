import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, jest, test } from '@jest/globals';
import * as evaluation from '../src/index.js';

const readme = path.join(path.dirname(fileURLToPath(import.meta.url)), '../README.md');

test('the code blocks of the README run, one after the other', async () => {
  const blocks = [...(await readFile(readme, 'utf8')).matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]);
  expect(blocks).toHaveLength(4);
  const folder = await mkdtemp(path.join(os.tmpdir(), 'readme-'));
  const table = jest.spyOn(console, 'table').mockImplementation(() => undefined);
  const rows = Array.from({ length: 60 }, (_, i) => ({ user: i % 6, item: (i * 7) % 11, time: i }));
  const ask = async (_: string, depth: number): Promise<{ id: string; score: number }[]> =>
    [{ id: '3', score: 1 }].slice(0, depth);
  // Nothing is in scope but what a block, or one before it, imports.
  const imported = new Set<string>();
  const code = blocks
    .join('\n')
    .replace(/import \{([^}]*)\} from '@user-llm\/evaluation';\n/g, (_, list: string) => {
      const fresh = list.split(',').filter((name) => !imported.has(name.trim()));
      for (const name of fresh) imported.add(name.trim());
      return `const {${fresh.join(',')}} = evaluation;\n`;
    })
    .replaceAll("'report.", `'${folder}/report.`);
  const AsyncFunction = Object.getPrototypeOf(async () => undefined).constructor as new (
    ...parameters: string[]
  ) => (...values: unknown[]) => Promise<unknown>;
  const run = new AsyncFunction('rows', 'ask', 'evaluation', `${code}\nreturn [report, both, blended];`);
  try {
    const [report, both, blended] = (await run(rows, ask, evaluation)) as evaluation.Report[];
    expect(report.systems.map(({ name }) => name)).toEqual(['popularity', 'mix', 'service', 'last-item-first']);
    expect(both.systems).toHaveLength(2);
    expect(blended.systems.map(({ name }) => name)).toEqual(['mix', 'mix+popularity']);
    expect(table).toHaveBeenCalledWith(report.rows);
    expect(await readFile(path.join(folder, 'report.html'), 'utf8')).toContain('last-item-first');
  } finally {
    table.mockRestore();
    await rm(folder, { recursive: true });
  }
});

test('every name the README imports is exported', async () => {
  const names = [...(await readFile(readme, 'utf8')).matchAll(/import \{([^}]*)\} from '@user-llm\/evaluation'/g)].flatMap(
    (match) => match[1].split(','),
  );
  for (const name of names) expect(evaluation).toHaveProperty(name.trim());
});
