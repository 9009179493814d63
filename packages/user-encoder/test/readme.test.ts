import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tokenizerPackage from '@user-llm/event-tokenizer';
import * as enginePackage from '@user-llm/onnx-autograd';
import { afterAll, expect, jest, test } from '@jest/globals';
import * as encoderPackage from '../src/index.js';
import { largestDifference } from './support.js';

jest.setTimeout(120_000);

const folder = await mkdtemp(path.join(tmpdir(), 'readme-'));
afterAll(() => rm(folder, { recursive: true }));

const modules: Record<string, object> = {
  '@user-llm/user-encoder': encoderPackage,
  '@user-llm/event-tokenizer': tokenizerPackage,
  '@user-llm/onnx-autograd': enginePackage,
};

type Scope = Record<string, unknown>;

/** Runs a block with the names of `scope`; gives back the constants that it declares. */
async function run(code: string, scope: Scope): Promise<Scope> {
  const body = code.replace(
    /^import (\{[^}]*\}) from '([^']+)';$/gm,
    (_, names: string, from: string) => `const ${names} = modules['${from}'];`,
  );
  const declared = [...body.matchAll(/^const (\w+) =/gm)].map(([, name]) => name);
  const AsyncFunction = (async () => undefined).constructor as new (
    ...parts: string[]
  ) => (...values: unknown[]) => Promise<Scope>;
  const all: Scope = { modules, ...scope };
  // A block may import again what an earlier one did.
  const names = Object.keys(all).filter(
    (name) => !declared.includes(name) && !new RegExp(`\\{[^}]*\\b${name}\\b[^}]*\\} = modules`).test(body),
  );
  return new AsyncFunction(...names, `${body}\nreturn { ${declared.join(', ')} };`)(...names.map((name) => all[name]));
}

test('the code of the README runs, block after block', async () => {
  const readme = await readFile(path.join(path.dirname(fileURLToPath(import.meta.url)), '../README.md'), 'utf8');
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
  expect(blocks).toHaveLength(8);
  const [opening, fitting, pretraining, objectives, using, updating, asking, training] = blocks;

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
    store: {
      put: async (embedding: encoderPackage.UserEmbedding) => stored.push(embedding),
      get: async (user: string) => ({ embedding: stored.filter((embedding) => embedding.user === user).at(-1) }),
    },
    console: { log: (...what: unknown[]) => logged.push(what) },
    ...encoderPackage,
  };
  Object.assign(scope, await run(fitting, scope));
  const { encoder } = (await run(opening, scope)) as { encoder: encoderPackage.UserEncoder };
  expect(stored).toHaveLength(30);
  expect(stored[7]).toMatchObject({ user: 'user-7', encoder: encoder.hash, shape: [16, 64] });
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

  const { one, scores } = (await run(using, scope)) as { one: encoderPackage.UserEmbedding; scores: Float32Array };
  expect(one.data).toHaveLength(16 * 64);
  expect(scores).toHaveLength(4 + 20);
  expect(logged.at(-1)![0]).toBe(true);

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
