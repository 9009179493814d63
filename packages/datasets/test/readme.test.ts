import { afterAll, expect, jest, test } from '@jest/globals';
import * as tokenizer from '@user-llm/event-tokenizer';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import * as datasets from '../src/index.js';

jest.setTimeout(60_000);

const scratch = await fs.mkdtemp(path.join(tmpdir(), 'readme-'));
afterAll(() => fs.rm(scratch, { recursive: true, force: true }));
const modules: Record<string, object> = {
  '@user-llm/datasets': datasets,
  '@user-llm/event-tokenizer': tokenizer,
  'node:fs/promises': { ...fs, mkdtemp: (prefix: string) => fs.mkdtemp(path.join(scratch, prefix)) },
};
const readme = await fs.readFile(new URL('../README.md', import.meta.url), 'utf8');
const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);

/** Runs a block, its imports turned into the modules above; gives what it prints. */
async function run(code: string): Promise<unknown[][]> {
  const body = code.replace(/^import (\{.*\}) from '(.*)';$/gm, "const $1 = modules['$2'];");
  const printed: unknown[][] = [];
  const AsyncFunction = (async () => undefined).constructor as new (...code: string[]) => (...values: unknown[]) => Promise<void>;
  await new AsyncFunction('modules', 'console', body)(modules, { log: (...values: unknown[]) => printed.push(values) });
  return printed;
}

test('the opening example runs', async () => {
  const [about, event, summary] = await run(blocks[0]);
  expect(about).toEqual(['simulated-film-service-1', 'simulated', true, 's']);
  expect(event).toHaveLength(6);
  expect(summary.slice(0, 2)).toEqual([1200, 0]);
});

test('the shop example gives the row that it says', async () => {
  const [[row]] = await run(blocks[1]);
  const said = /\/\/ (\{.*\})/.exec(blocks[1])![1];
  expect(Object.fromEntries(Object.entries(row as object))).toEqual(new Function(`return (${said})`)());
});

test('the truth example finds the likeliest film', async () => {
  const [[id, probability, theme, taste]] = await run(blocks[2]);
  expect(Number(id)).toBeGreaterThan(0);
  expect(probability).toBeGreaterThan(0.01);
  expect(typeof theme).toBe('string');
  expect(Object.values(taste as object).length).toBe(36);
  expect(blocks).toHaveLength(3);
});
