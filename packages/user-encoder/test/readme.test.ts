import * as fileSystem from 'node:fs/promises';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tokenizerPackage from '@user-llm/event-tokenizer';
import * as enginePackage from '@user-llm/onnx-autograd';
import { afterAll, expect, jest, test } from '@jest/globals';
import * as runtime from 'onnxruntime-node';
import * as encoderPackage from '../src/index.js';
import * as webPackage from '../src/web.js';
import { largestDifference } from './support.js';

jest.setTimeout(120_000);

const folder = await mkdtemp(path.join(tmpdir(), 'readme-'));
afterAll(() => rm(folder, { recursive: true }));

const modules: Record<string, object> = {
  '@user-llm/user-encoder': encoderPackage,
  '@user-llm/user-encoder/web': webPackage,
  '@user-llm/event-tokenizer': tokenizerPackage,
  '@user-llm/onnx-autograd': enginePackage,
  'node:fs/promises': fileSystem,
  'onnxruntime-node': runtime,
};

type Scope = Record<string, unknown>;

/** Runs a block with the names of `scope`, to which it adds what it imports; gives back the constants that it declares. */
async function run(code: string, scope: Scope): Promise<Scope> {
  const body = code
    .replace(/^import (\{[^}]*\}|\* as \w+) from '([^']+)';\n/gm, (_, names: string, from: string) => {
      const all = modules[from] as Scope;
      const whole = /^\* as (\w+)$/.exec(names);
      if (whole) scope[whole[1]] = all;
      else
        for (const name of names
          .slice(1, -1)
          .split(',')
          .map((part) => part.trim())) {
          expect(all).toHaveProperty(name);
          scope[name] = all[name];
        }
      return '';
    })
    .trimStart();
  expect(body).not.toMatch(/^import /m);
  const declared = [...body.matchAll(/^const (\w+) =/gm)].map(([, name]) => name);
  const AsyncFunction = (async () => undefined).constructor as new (
    ...parts: string[]
  ) => (...values: unknown[]) => Promise<Scope>;
  const names = Object.keys(scope).filter((name) => !declared.includes(name));
  return new AsyncFunction(...names, `${body}\nreturn { ${declared.join(', ')} };`)(...names.map((name) => scope[name]));
}

/** What `store` promises of an embedding store: the user by `{ user }`, the encoder by its hash, and an answer that has a status. */
function strictStore(stored: encoderPackage.UserEmbedding[]): Scope {
  return {
    put: async (embedding: encoderPackage.UserEmbedding) => stored.push(embedding),
    get: async ({ tenant = '', user }: { tenant?: string; user: string }, { encoder }: { encoder: string }) => {
      for (const name of [user, encoder]) if (typeof name !== 'string') throw new TypeError('get takes { user }, { encoder }');
      const embedding = stored.filter((one) => one.tenant === tenant && one.user === user && one.encoder === encoder).at(-1);
      return embedding ? { status: 'found', embedding } : { status: 'missing' };
    },
  };
}

test('the code of the README runs, block after block', async () => {
  const readme = await readFile(path.join(path.dirname(fileURLToPath(import.meta.url)), '../README.md'), 'utf8');
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
  expect(blocks).toHaveLength(10);
  const [opening, fitting, pretraining, objectives, own, using, serving, updating, asking, training] = blocks;

  const rows = Array.from({ length: 30 * 12 }, (_, i) => ({
    userId: `user-${i % 30}`,
    timestamp: 1_700_000_000 + i * 500,
    movieId: `movie-${((i % 30) + 7 * Math.floor(i / 30)) % 20}`,
    genres: ['drama', 'comedy|war', 'horror'][i % 3],
    rating: 1 + (i % 5),
  }));
  const stored: encoderPackage.UserEmbedding[] = [];
  const shown: unknown[] = [];
  const logged: unknown[][] = [];
  const scope: Scope = {
    rows,
    folder: path.join(folder, 'encoder'),
    checkpointFile: path.join(folder, 'checkpoint.safetensors'),
    signal: new AbortController().signal,
    show: (...what: unknown[]) => shown.push(...what),
    store: strictStore(stored),
    console: { log: (...what: unknown[]) => logged.push(what) },
  };
  Object.assign(scope, await run(fitting, scope));
  const tokenizer = scope.tokenizer as tokenizerPackage.EventTokenizer;
  scope.newEvents = await tokenizer.encode([{ ...rows[7], timestamp: 1_800_000_000 }]);
  const { encoder } = (await run(opening, scope)) as { encoder: encoderPackage.UserEncoder };
  expect(stored).toHaveLength(31);
  expect(stored[7]).toMatchObject({ user: 'user-7', encoder: encoder.hash, shape: [16, 64] });
  expect(stored[30]).toMatchObject({ user: 'user-7', encoder: encoder.hash, sequence: 13 });
  expect(shown.length).toBeGreaterThanOrEqual(20);

  // Twenty seconds is for a reader; the run's own limits are tested elsewhere.
  expect(pretraining).toContain('seconds: 20,');
  Object.assign(scope, await run(pretraining.replace('seconds: 20,', 'steps: 6,'), scope));
  expect(logged.at(-1)![0]).toMatchObject({ step: expect.any(Number) });

  const { both, scoresOfUnseen } = (await run(objectives.replaceAll('seconds: 20,', 'steps: 3,'), scope)) as {
    both: encoderPackage.UserEncoder;
    scoresOfUnseen: Float32Array;
  };
  expect(both.training!.steps).toBe(3);
  expect(scoresOfUnseen).toHaveLength(1);

  const { returning } = (await run(own.replace('seconds: 20', 'steps: 3'), scope)) as { returning: encoderPackage.UserEncoder };
  expect(returning.training).toMatchObject({ steps: 3, itemHead: 'item' });
  expect(returning.weights.has('heads.back-soon')).toBe(true);

  const { one, scores } = (await run(using, scope)) as { one: encoderPackage.UserEmbedding; scores: Float32Array };
  expect(one.data).toHaveLength(16 * 64);
  expect(scores).toHaveLength(4 + 20);
  expect(logged.at(-1)![0]).toBe(true);

  const { servedScores } = (await run(serving, scope)) as { servedScores: Float32Array };
  expect([...servedScores.subarray(0, 4)]).toEqual([...scores.subarray(0, 4)]);
  expect(largestDifference(servedScores.subarray(4), scores.subarray(4))).toBeLessThan(1e-4);

  const { next, tokens, user } = (await run(updating, scope)) as {
    next: encoderPackage.UserEmbedding;
    tokens: Float32Array;
    user: encoderPackage.LiveUser;
  };
  expect(next).toMatchObject({ user: 'user-7', watermark: { time: 1_800_000_000, count: 13 } });
  expect(stored.at(-1)).toBe(next);
  expect(user.count).toBe(14);
  expect(tokens).toHaveLength(16 * 64);

  const { why, ranking } = (await run(asking, scope)) as Record<string, encoderPackage.Attribution>;
  expect(why.contributions).toHaveLength(12);
  expect(ranking.value).toBeLessThan(0);

  const { adapted } = (await run(training, scope)) as { adapted: encoderPackage.UserEncoder };
  const before = scope.encoder as encoderPackage.UserEncoder;
  expect(adapted.hash).not.toBe(before.hash);
  expect(
    largestDifference(
      adapted.weights.get('encoder.positions')!.data as Float32Array,
      before.weights.get('encoder.positions')!.data as Float32Array,
    ),
  ).toBe(0);
});
