import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as autograd from '../src/index.js';

const readme = readFileSync(path.resolve(import.meta.dirname, '../README.md'), 'utf8');
const blocks = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code);

type Runner = (...values: unknown[]) => Promise<unknown>;
const AsyncFunction = (async () => undefined).constructor as new (...parts: string[]) => Runner;

/** Runs a block as it stands, but for its import, with more names in scope; returns what it logged and one of its constants. */
async function run(
  code: string,
  scope: Record<string, unknown>,
  wanted = 'undefined',
): Promise<{ logged: unknown[][]; value: unknown }> {
  const imported: string[] = [];
  const body = code.replace(/import \{([^}]*)\} from '@user-llm\/onnx-autograd';/g, (_, names: string) => {
    imported.push(...names.split(',').map((name) => name.trim()));
    return '';
  });
  for (const name of imported) expect(autograd).toHaveProperty(name);
  const logged: unknown[][] = [];
  const all = {
    ...Object.fromEntries(imported.map((name) => [name, autograd[name as keyof typeof autograd]])),
    console: { log: (...values: unknown[]) => logged.push(values) },
    ...scope,
  };
  const value = await new AsyncFunction(...Object.keys(all), `${body}\nreturn ${wanted};`)(...Object.values(all));
  return { logged, value };
}

describe('the README', () => {
  const before = process.cwd();
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'readme-'));
    process.chdir(folder);
  });
  afterAll(async () => {
    process.chdir(before);
    await rm(folder, { recursive: true });
  });

  test('has the blocks that are run here', () => {
    expect(blocks).toHaveLength(7);
  });

  test('trains, then serves', async () => {
    const { value: batches } = await run(blocks[1], {}, 'batches');
    const { logged } = await run(blocks[0], { batches, signal: new AbortController().signal });
    expect(logged).toEqual([[1, expect.any(Number)]]);
    const served = await run(blocks[2], {}, 'bytes');
    expect(served.logged[0][0]).toHaveLength(1);
    expect((served.value as Uint8Array).length).toBeGreaterThan(200);
    expect(await readdir('.')).toEqual(['weights.safetensors']);
  });

  test('stops, resumes and goes on where it was', async () => {
    const { logged, value } = await run(blocks[3], {}, 'averaged');
    expect(logged.slice(0, -1).map(([step]) => step)).toEqual([6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    expect(logged.at(-1)).toEqual([{ loss: expect.objectContaining({ shape: [] }) }]);
    // The schedule has not run out: the step that is shown changes something.
    expect(value).toMatchObject({ step: 21, learningRate: expect.any(Number) });
    expect((value as autograd.StepResult).learningRate).toBeGreaterThan(1e-4);
  });

  test('trains a few rows of a table', async () => {
    const { logged } = await run(blocks[4], {});
    expect(logged).toEqual([[expect.closeTo(Math.log(3), 1)]]); // three candidates, nothing learned yet
  });

  test('forgets the inner values of layers', async () => {
    const { value } = await run(blocks[5], {}, 'deep');
    const options = { minimize: 'loss', optimizer: autograd.sgd({ learningRate: 0.1 }), seed: 1, threads: 1 } as const;
    const trainer = await autograd.Trainer.create(value as autograd.GraphDefinition, options);
    const x = { dtype: 'float32', shape: [2, 8], data: new Float32Array(16).fill(1) } as const;
    const losses = [await trainer.step({ x }), await trainer.step({ x })].map(({ loss }) => loss);
    expect(losses[1]).toBeLessThan(losses[0]);
    await trainer.dispose();
  });

  test('rounds with a gradient of its own', async () => {
    const { value } = await run(blocks[6], {}, 'definition');
    const program = await autograd.Program.create(value as autograd.GraphDefinition, { weights: new Map() });
    const { y, slope } = await program.run({ x: { dtype: 'float32', shape: [3], data: Float32Array.of(0.2, 1.7, -2.6) } });
    expect(Array.from(y.data as Float32Array)).toEqual([0, 4, 9]);
    expect(Array.from(slope.data as Float32Array)).toEqual([0, 4, -6]);
    await program.dispose();
  });
});
