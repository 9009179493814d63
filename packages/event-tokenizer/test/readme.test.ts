import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';

import * as api from '../src/index.js';

const readme = readFileSync(path.join(import.meta.dirname, '../README.md'), 'utf8');
const blocks = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);

const rows = [
  { userId: 'ann', movieId: '1', genres: 'Comedy|Drama', rating: 4.5, review: 'warm and funny', timestamp: 1_000_000 },
  { userId: 'bob', movieId: '2', genres: 'War', rating: 2, review: 'too long', timestamp: 1_000_100 },
  { userId: 'ann', movieId: '2', genres: 'War', rating: 3, review: null, timestamp: 1_000_200 },
  { userId: 'ann', movieId: '1', genres: 'Comedy|Drama', rating: 5, review: 'again!', timestamp: 1_000_300 },
];

describe('README', () => {
  test('its code runs from top to bottom, and prints what it says', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'event-tokenizer-'));
    const printed: unknown[] = [];
    try {
      // Nothing is in scope but what a block, or one before it, imports.
      const imported = new Set<string>();
      const code = blocks
        .join('\n')
        .replace(/^import \{ (.*?) \} from '@user-llm\/event-tokenizer';$/gm, (_, list: string) => {
          const fresh = list.split(', ').filter((name) => !imported.has(name));
          for (const name of fresh) imported.add(name);
          return `const { ${fresh.join(', ')} } = api;`;
        })
        .replaceAll("'tokenizer.json'", JSON.stringify(path.join(folder, 'tokenizer.json')))
        .replaceAll("'columns'", JSON.stringify(path.join(folder, 'columns')));
      const run = new Function('api', 'readRows', 'file', 'myModel', 'console', `return (async () => {${code}})();`) as (
        ...values: unknown[]
      ) => Promise<void>;
      const model = (texts: string[]) => texts.map(() => new Float32Array(384));
      await run(api, () => rows, 'log.csv', model, { log: (...values: unknown[]) => printed.push(...values) });
    } finally {
      await rm(folder, { recursive: true });
    }
    expect(blocks).toHaveLength(7);
    expect(printed[0]).toEqual(['1', '2', '1']);
    expect(printed[1]).toEqual([{ line: 1, field: 'rating', kind: 'malformed', reason: '"five" is not a finite number' }]);
    expect(printed[2]).toBe(true);
    expect(printed[3]).toEqual({ userId: 'ann', timestamp: 1_000_000, movieId: '1', genres: ['Comedy', 'Drama'], rating: 4.5 });
    expect(printed.splice(3, rows.length)).toHaveLength(rows.length);
    expect(printed.slice(3)).toEqual([2, 4, 0, 2, 4]);
  });

  test('every import in it is exported', () => {
    const imported = [...readme.matchAll(/^import \{ (.*?) \} from/gm)].flatMap(([, names]) => names.split(', '));
    expect(imported.filter((name) => !(name in api))).toEqual([]);
  });
});
