import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import * as embeddingStore from '../src/index.js';
import { embedding, encoder as hash, temporaryFolder } from './support.js';

// Runs the README's code blocks as they stand, with the names that they take from outside.
const readme = readFileSync(path.join(import.meta.dirname, '../README.md'), 'utf8');
const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
const events = [embedding('user-41'), embedding('user-42')];
const encoder = {
  hash,
  async *encode(given: typeof events): AsyncGenerator<embeddingStore.NewUserEmbedding> {
    yield* given;
  },
  /** The state is the events themselves. */
  async update(
    { state = new Uint8Array() }: { state?: Uint8Array },
    [event]: number[],
  ): Promise<embeddingStore.NewUserEmbedding> {
    return embedding('user-42', { state: Uint8Array.of(...state, event), sequence: state.length + 1 });
  },
};

async function run(code: string, result: string, more: Record<string, unknown> = {}): Promise<unknown> {
  const body = code.replace(/import \{([^}]*)\} from '@user-llm\/embedding-store';/, 'const {$1} = embeddingStore;');
  expect(body).not.toContain('import ');
  const AsyncFunction = Object.getPrototypeOf(run).constructor as new (
    ...parts: string[]
  ) => (...values: unknown[]) => Promise<unknown>;
  const scope = { embeddingStore, encoder, events, console: { log }, ...more };
  return new AsyncFunction(...Object.keys(scope), `${body}\nreturn ${result};`)(...Object.values(scope));
}

const log = jest.fn();
const before = process.cwd();
const folder = temporaryFolder();
beforeAll(() => process.chdir(folder));
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true, force: true });
});

test('the opening snippet runs as it stands', async () => {
  const found = await run(blocks[0], 'found');
  expect(found).toMatchObject({ status: 'found', embedding: { user: 'user-42', data: events[1].data } });
  await using store = await embeddingStore.openStore('lmdb:./users');
  expect(await store.count()).toBe(1);
});

test('the second snippet writes one record and reads it back', async () => {
  expect(blocks).toHaveLength(3);
  await run(blocks[1], 'result');
  expect(log.mock.calls[0]).toEqual(['written']);
  expect(log.mock.calls[1]).toEqual(['user-42', [16, 64]]);
  expect(log.mock.calls[2]).toMatchObject([1, { driver: 'memory', records: 1 }]);
});

test('the third snippet, run for four requests at once, loses none of their events', async () => {
  await using store = await embeddingStore.openStore('memory:');
  const encodeWhole = async (): Promise<embeddingStore.NewUserEmbedding> =>
    embedding('user-42', { state: Uint8Array.of(0), sequence: 1 });
  const request = (newEvents: number[]): Promise<unknown> => run(blocks[2], 'result', { store, newEvents, encodeWhole });
  expect(await request([])).toEqual({ status: 'written' });
  await Promise.all([1, 2, 3, 4].map((event) => request([event])));
  const found = await store.get({ user: 'user-42' }, { encoder: hash });
  expect(found.status === 'found' && [...found.embedding.state!].sort()).toEqual([0, 1, 2, 3, 4]);
});
