import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  adam,
  adamW,
  CheckpointError,
  graph,
  normal,
  Random,
  readSafetensors,
  sgd,
  Trainer,
  writeSafetensors,
  type Feeds,
  type StepResult,
  type TrainerOptions,
} from '../src/index.js';
import { f32, randomTensor } from './support.js';

const width = 8;
const model = graph(({ input, parameter }) => {
  const x = input('x', ['batch', width]);
  const y = x
    .matmul(parameter('first', [width, width], normal(0.3)))
    .tanh()
    .dropout(0.3)
    .matmul(parameter('second', [width, 1], normal(0.3)));
  return { loss: y.sub(1).square().mean() };
});
const options = { minimize: 'loss', optimizer: adam({ learningRate: 0.01 }), seed: 3, threads: 1 } as const;
const create = (more: Partial<TrainerOptions<{ loss: never }>> = {}): Promise<Trainer> =>
  Trainer.create(model, { ...options, ...(more as object) }) as unknown as Promise<Trainer>;
const source = (step: number): Feeds => ({ x: randomTensor(Random.of('x', step), [4, width]) });

async function losses(steps: AsyncIterable<StepResult>): Promise<number[]> {
  const found: number[] = [];
  for await (const { loss } of steps) found.push(loss);
  return found;
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'checkpoint-'));
});
afterAll(() => rm(folder, { recursive: true }));
const file = (name: string): string => path.join(folder, `${name}.safetensors`);

describe('a run that was stopped and resumed', () => {
  test('has the very losses of one that never stopped, dropout included', async () => {
    const whole = await create();
    const expected = await losses(whole.run(source, { steps: 12 }));

    const first = await create({ checkpoint: { file: file('resume'), everySteps: 5 } });
    const before = await losses(first.run(source, { steps: 7 }));
    await first.dispose();
    expect(before).toEqual(expected.slice(0, 7));

    const second = await create();
    await second.resume(file('resume')); // step 5: the last that was written
    expect(second.steps).toBe(5);
    expect(await losses(second.run(source, { steps: 12 }))).toEqual(expected.slice(5));
    expect(second.weights()).toEqual(whole.weights());
    await whole.dispose();
    await second.dispose();
  });

  test('a checkpoint asked for during a step is of that step, and the next step waits for it', async () => {
    const [trainer, alike, next] = [await create(), await create(), await create()];
    await alike.step(source(1));
    const done: string[] = [];
    const note = (what: string) => () => void done.push(what);
    const first = trainer.step(source(1));
    const saving = trainer.saveCheckpoint(file('beside')).then(note('save'));
    await first.then(note('step 1'));
    await trainer.step(source(2)).then(note('step 2'));
    await saving;
    expect(done).toEqual(['step 1', 'save', 'step 2']);

    const running = next.step(source(1));
    await Promise.all([running, next.resume(file('beside'))]);
    expect(next.steps).toBe(1);
    expect(next.weights()).toEqual(alike.weights());
    for (const one of [trainer, alike, next]) await one.dispose();
  });

  test('an abort writes the checkpoint and throws its reason', async () => {
    const controller = new AbortController();
    const trainer = await create({ checkpoint: { file: file('abort') } });
    const seen: number[] = [];
    const run = (async () => {
      for await (const { step } of trainer.run(source, { signal: controller.signal })) {
        seen.push(step);
        if (step === 3) controller.abort(new Error('enough for today'));
      }
    })();
    await expect(run).rejects.toThrow('enough for today');
    expect(seen).toEqual([1, 2, 3]);
    const next = await create();
    await next.resume(file('abort'));
    expect(next.steps).toBe(3);
    expect(next.weights()).toEqual(trainer.weights());
    await expect(losses(trainer.run(source, { signal: AbortSignal.abort() }))).rejects.toThrow('abort');
    await trainer.dispose();
    await next.dispose();
  });

  test.each(['throws', 'ends'])('a source that heeds the signal itself, and %s, leaves a checkpoint too', async (how) => {
    const controller = new AbortController();
    const { signal } = controller;
    const trainer = await create({ checkpoint: { file: file(`heeding-${how}`) } });
    const heeding = async (step: number) => {
      if (step === 3) controller.abort(new Error('enough for today'));
      if (signal.aborted && how === 'throws') throw new Error('the download was stopped');
      return signal.aborted ? null : source(step);
    };
    await expect(losses(trainer.run(heeding as never, { signal }))).rejects.toThrow('enough for today');
    await trainer.dispose();
    const next = await create();
    await next.resume(file(`heeding-${how}`));
    expect(next.steps).toBe(2);
    await next.dispose();
  });

  test('an abort while a batch is awaited takes no further step', async () => {
    const controller = new AbortController();
    const trainer = await create();
    const slow = (step: number): Feeds => {
      if (step === 2) controller.abort();
      return source(step);
    };
    await expect(losses(trainer.run(slow, { signal: controller.signal }))).rejects.toThrow('abort');
    expect(trainer.steps).toBe(1);
    await trainer.dispose();
  });
});

describe('a checkpoint is refused', () => {
  test('by another model, optimizer, seed, set of trainable or frozen weights; and when it is something else', async () => {
    const frozen = new Map([['first', randomTensor(Random.of(5), [width, width])]]);
    const trainer = await create();
    await trainer.step(source(1));
    await trainer.saveCheckpoint(file('refuse'));
    const half = await create({ trainable: (name) => name === 'second', weights: frozen });
    await half.saveCheckpoint(file('half'));
    await writeSafetensors(file('plain'), new Map([['first', f32([1])]]));
    await writeFile(file('text'), 'not a checkpoint at all, and longer than eight bytes');
    const wide = graph(({ input, parameter }) => ({
      loss: input('x', ['batch', 9])
        .matmul(parameter('first', [9, 9], normal(1)))
        .matmul(parameter('second', [9, 1], normal(1)))
        .mean(),
    }));
    const deep = graph(({ input, parameter }) => ({
      loss: input('x', ['batch', 8])
        .matmul(parameter('first', [8, 8], normal(1)))
        .matmul(parameter('third', [8, 1], normal(1)))
        .mean(),
    }));

    const cases: [string, Promise<unknown>, RegExp][] = [
      ['refuse', create({ seed: 4 }), /was made with seed 3, and this run has 4/],
      ['refuse', create({ optimizer: sgd({ learningRate: 1 }) }), /was made by .*adamw.*, and this run uses .*sgd/],
      ['refuse', create({ optimizer: adamW({ learningRate: 1, weightDecay: 0.2 }) }), /use the same settings or start anew/],
      ['refuse', Trainer.create(wide, options), /'first' is \[8, 8\], and this model has \[9, 9\]/],
      ['refuse', Trainer.create(deep, options), /has no 'third'; it belongs to another model/],
      ['refuse', create({ trainable: (name) => name === 'second' }), /has 6 tensors, and this model has 3/],
      ['half', create({ trainable: (name) => name === 'second' }), /was made with other frozen weights/],
      ['plain', create(), /is no training checkpoint; give the file that a trainer wrote/],
    ];
    for (const [name, made, message] of cases) {
      const other = (await made) as Trainer;
      const before = other.weights();
      const failing = other.resume(file(name));
      await expect(failing).rejects.toThrow(message);
      await failing.catch((error: unknown) => expect(CheckpointError.isInstance(error) && error.file).toBe(file(name)));
      expect(other.weights()).toEqual(before);
      expect(other.steps).toBe(0);
      await other.dispose();
    }
    await expect(trainer.resume(file('text'))).rejects.toThrow();
    await expect(trainer.resume(file('absent'))).rejects.toThrow(/ENOENT|absent/);
    await trainer.dispose();
    await half.dispose();
  });
});

describe('a process killed while it writes', () => {
  const built = path.resolve(import.meta.dirname, '../dist/index.js');
  const child = `
    import { adam, graph, normal, Trainer } from ${JSON.stringify(pathToFileURL(built).href)};
    const model = graph(({ input, parameter }) => ({ loss: input('x', [1, 256]).matmul(parameter('w', [256, 512], normal(1))).square().mean() }));
    const trainer = await Trainer.create(model, { minimize: 'loss', optimizer: adam({ learningRate: 0.01 }), seed: 1, threads: 1 });
    for (;;) {
      await trainer.step({ x: { dtype: 'float32', data: new Float32Array(256).fill(1), shape: [1, 256] } });
      await trainer.saveCheckpoint(process.argv[1]);
      process.stdout.write('.');
    }`;

  test('leaves a checkpoint that loads, every time', async () => {
    let last = 0;
    for (let round = 0; round < 4; round++) {
      const writer = spawn(process.execPath, ['--input-type=module', '-e', child, file('killed')], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let written = 0;
      // Killed at a moment that depends on the round, in the middle of some later write.
      for await (const dots of writer.stdout) if ((written += (dots as Buffer).length) >= 3 + round) break;
      await new Promise((resolve) => setTimeout(resolve, round));
      writer.kill('SIGKILL');
      if (writer.exitCode === null && writer.signalCode === null) await once(writer, 'exit');
      const { tensors, metadata } = await readSafetensors(file('killed'));
      last = Number(metadata?.step);
      expect(last).toBeGreaterThanOrEqual(3 + round);
      expect([...tensors.keys()].sort()).toEqual(['mean/w', 'variance/w', 'w']);
      for (const { data } of tensors.values()) expect(Array.prototype.every.call(data, Number.isFinite)).toBe(true);
    }
    // Temporary files of a killed writer may stay behind; they never carry the checkpoint's name.
    for (const name of await readdir(folder))
      if (name.startsWith('killed')) expect(name === 'killed.safetensors' || name.endsWith('.tmp')).toBe(true);
  }, 30_000);
});
