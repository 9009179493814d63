import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, jest, test } from '@jest/globals';
import { Trainer, sgd } from '@user-llm/onnx-autograd';
import type { HostTensor, Weights } from '@user-llm/onnx-autograd';
import { jointWeights } from '../src/adaptation/joint-model.js';
import type { JointModel, JointUser } from '../src/adaptation/joint-model.js';
import type { TrainingProgress } from '../src/adaptation/training-options.js';
import { alignJointModel } from '../src/alignment/align.js';
import type { AlignOptions, AlignmentSource } from '../src/alignment/align.js';
import type { AlignmentExample } from '../src/alignment/alignment-example.js';
import { alignmentDefinition } from '../src/alignment/alignment-graph.js';
import { foundPairs } from '../src/alignment/retrieval-accuracy.js';
import { TextReader } from '../src/alignment/text-reader.js';
import { createDecoder } from '../src/decoder/decoder.js';
import { AdaptationError, DoesNotFitError } from '../src/errors.js';
import { combined } from '../src/integration/combined.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { initialIntegrationWeights } from '../src/integration/integration.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { filmModel, films } from './film-model.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

const decoder = createDecoder(
  { vocabularySize: 24, width: 32, layers: 2, heads: 2, keyValueHeads: 1, intermediate: 32, context: 16, endTokens: [0] },
  1,
);
const encoder = ToyEncoder.create(2);
const shape = { userTokens: 2, userWidth: 8 };

function joint(integration: Integration): JointModel<ToyHistory> & { readonly user: JointUser<ToyHistory> } {
  return { decoder, user: { encoder, integration, shape, weights: initialIntegrationWeights(integration, decoder, shape, 3) } };
}
const crossAttention = joint(gatedCrossAttention({ every: 1 }));

/** Users of two different films, told in words of two tokens each. */
const pairs: AlignmentExample<ToyHistory>[] = Array.from({ length: 36 }, (_, i) => [i % 6, Math.floor(i / 6)] as const)
  .filter(([a, b]) => a !== b)
  .map(([a, b]) => ({ history: [a, b], textIds: [1 + 2 * a, 2 + 2 * a, 1 + 2 * b, 2 + 2 * b] }));
const held = pairs.filter((_, i) => i % 4 === 3);
const learned = pairs.filter((_, i) => i % 4 !== 3);
const options = { batchSize: 23, steps: 4, seed: 5, learningRate: 2e-2, threads: 1, width: 16 } as const;

async function watch<P>(run: AsyncIterable<P>): Promise<P[]> {
  const all: P[] = [];
  for await (const progress of run) all.push(progress);
  return all;
}

const bytes = ({ data }: HostTensor) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
const changed = (before: Weights, after: Weights) =>
  [...before].filter(([name, tensor]) => !bytes(tensor).equals(bytes(after.get(name)!))).map(([name]) => name);

describe('users and texts that were not trained on', () => {
  test.each([
    ['gated cross-attention with closed gates', gatedCrossAttention({ every: 1 }), 'mean'],
    ['gated cross-attention, by the last token', gatedCrossAttention({ every: 2 }), 'last'],
    ['a soft prompt', softPrompt(), 'mean'],
    ['both together', combined([softPrompt(), gatedCrossAttention({ every: 1 })]), 'mean'],
  ] as const)('find each other after alignment, through %s', async (_, integration, reading) => {
    const validation = { examples: held, everySteps: 10 };
    const accuracyAfter = async (more: Partial<AlignOptions>) => {
      const { record } = await alignJointModel(joint(integration), learned, { ...options, reading, validation, ...more }).result;
      return record.validation.find(({ step }) => step === record.bestStep)!.accuracy!;
    };
    // Of seven texts one is right: guessing finds .14.
    expect(await accuracyAfter({ steps: 1, learningRate: 1e-9 })).toBeLessThan(0.3);
    expect(await accuracyAfter({ steps: 40 })).toBeGreaterThan(0.4);
  });

  test('are compared as in training: the graph and the host agree, equal texts left out', async () => {
    const twice = [...pairs.slice(0, 8), { ...pairs[8], textIds: pairs[2].textIds }, { ...pairs[9], textIds: pairs[2].textIds }];
    const run = alignJointModel(crossAttention, twice, {
      ...options,
      batchSize: 10,
      steps: 1,
      learningRate: 1e-9,
      validation: { examples: twice },
    });
    const [{ loss }] = await watch(run);
    expect((await run.result).record.validation[0].loss).toBeCloseTo(loss, 4);
  });

  test('the loss and the accuracy are those of the definition', () => {
    const vectors = (...rows: number[][]) => rows.map((row) => Float32Array.from(row));
    const users = vectors([1, 0], [0, 1], [0.6, 0.8]);
    const texts = vectors([1, 0], [0, 1], [0, 1]);
    // Products of users (rows) and texts: 1 0 0 / 0 1 1 / .6 .8 .8; sharpness 2.
    const cost = (own: number, ...all: number[]) => Math.log(all.reduce((sum, x) => sum + Math.exp(2 * x), 0)) - 2 * own;
    const byUser = cost(1, 1, 0, 0) + cost(1, 0, 1, 1) + cost(0.8, 0.6, 0.8, 0.8);
    const byText = cost(1, 1, 0, 0.6) + cost(1, 0, 1, 0.8) + cost(0.8, 0, 1, 0.8);
    const found = foundPairs(users, texts, ['a', 'b', 'c'], 2);
    expect(found.loss).toBeCloseTo((byUser + byText) / 6, 6);
    // The second and the third text are alike: a tie is not found, and the third text is nearer to the second user.
    expect(found.accuracy).toBe(3 / 6);
    const same = foundPairs(users, texts, ['a', 'b', 'b'], 2);
    expect(same.accuracy).toBe(1);
  });
});

describe('the step', () => {
  test('goes down the gradient, which is that of finite differences', async () => {
    const definition = alignmentDefinition(crossAttention, { reading: 'mean', width: 8 });
    const learningRate = 1e-2;
    const batch = pairs.filter((_, i) => i % 4 === 0);
    const n = batch.length;
    const feeds = {
      'encoder.events': encoder.feeds(batch.map(({ history }) => history)).events,
      text_states: { dtype: 'float32', data: Float32Array.from({ length: n * 32 }, (_, i) => Math.sin(i * i)), shape: [n, 32] },
      apart: { dtype: 'float32', data: new Float32Array(n * n), shape: [n, n] },
    } as const;
    const trainer = await Trainer.create(definition, {
      minimize: 'loss',
      optimizer: sgd({ learningRate }),
      seed: 1,
      weights: jointWeights(crossAttention),
      trainable: (name) => !decoder.weights.has(name),
      threads: 1,
    });
    const before = trainer.weights({ trainableOnly: true });
    await trainer.step(feeds);
    const after = trainer.weights({ trainableOnly: true });
    for (const [name, { data: held, ...rest }] of before) {
      const data = held as Float32Array;
      const gradient = Float64Array.from(data, (value, i) => (value - Number(after.get(name)!.data[i])) / learningRate);
      const length = Math.hypot(...gradient);
      const step = 1e-2 / length;
      const lossAt = async (far: number): Promise<number> => {
        const moved = data.map((value, i) => value + far * gradient[i]);
        const weights = new Map([...before, [name, { ...rest, data: moved } as HostTensor]]);
        return ((await trainer.evaluate(feeds, ['loss'], { weights })).loss.data as Float32Array)[0];
      };
      const slope = ((await lossAt(step)) - (await lossAt(-step))) / (2 * step);
      expect({ name, ratio: Math.round((20 * slope) / length ** 2) / 20 }).toEqual({ name, ratio: 1 });
    }
    await trainer.dispose();
  });

  test.each([
    ['encoder', ['events.weight', 'resampler.weight']],
    ['projection', ['resampler.weight']],
  ] as const)('by %s changes the way in and of the encoder its part', async (strategy, ofEncoder) => {
    const { integration, encoder: trained } = await alignJointModel(crossAttention, pairs, { ...options, strategy }).result;
    expect(changed(encoder.weights, trained).sort()).toEqual(ofEncoder);
    expect(trained.get('head.weight')).toBeDefined();
    // What is not asked of attention that looks at all tokens alike stays as it was.
    const moved = changed(crossAttention.user.weights, integration);
    expect(moved).toEqual([...crossAttention.user.weights.keys()].filter((name) => /user_norm|[vo]_proj/.test(name)));
  });

  test('reads each text once', async () => {
    const read = jest.spyOn(Trainer.prototype, 'evaluate');
    const validation = { examples: held, everySteps: 2 };
    await alignJointModel(crossAttention, learned, { ...options, steps: 6, batchSize: 9, validation }).result;
    expect(read.mock.calls.filter(([, names]) => names?.includes('reading'))).toHaveLength(30);
    read.mockRestore();
  });
});

test('what is read of texts is given relative to what is usual, and does not depend on its company', async () => {
  const evaluate = jest.fn(async ({ text_ids: { data } }: { text_ids: { data: ArrayLike<number> } }) => ({
    reading: { dtype: 'float32', shape: [1, 3], data: Float32Array.of(data[0], 100 * data[0] + 7, 5) },
  }));
  const reader = new TextReader({ evaluate } as unknown as Trainer, 3, undefined);
  await reader.standardise([[1], [3], [3], [1, 2, 3]]);
  const { data, shape: size } = await reader.read([[3], [1]]);
  expect(size).toEqual([2, 3]);
  // Three different texts begin with 1, 3 and 1: mean 5/3, deviation sqrt(8)/3.
  const [high, low] = [4 / Math.sqrt(8), -2 / Math.sqrt(8)];
  [high, high, 0, low, low, 0].forEach((value, i) => expect(data[i]).toBeCloseTo(value, 5));
  expect(evaluate).toHaveBeenCalledTimes(3);
});

describe('a run', () => {
  test('that was stopped goes on to the same losses and weights', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'align-'));
    const given = { ...options, batchSize: 9, steps: 8, validation: { examples: held, everySteps: 3 } };
    const straight = alignJointModel(crossAttention, learned, given);
    const losses = (await watch(straight)).map(({ loss }) => loss);

    const stop = new AbortController();
    const checkpoint = { file: path.join(folder, 'align.safetensors') };
    const first = alignJointModel(crossAttention, learned, { ...given, checkpoint, signal: stop.signal });
    const seen: TrainingProgress[] = [];
    const watched = (async () => {
      for await (const progress of first) {
        seen.push(progress);
        if (progress.step === 4) stop.abort(new Error('enough'));
      }
    })();
    await expect(watched).rejects.toThrow('enough');
    const second = alignJointModel(crossAttention, learned, { ...given, checkpoint });
    const rest = await watch(second);
    expect([...seen, ...rest].map(({ loss }) => loss)).toEqual(losses);
    const [a, b] = [await straight.result, await second.result];
    expect(changed(a.integration, b.integration)).toEqual([]);
    expect(changed(a.encoder, b.encoder)).toEqual([]);
    expect(b.record.validation.map(({ loss, accuracy }) => [loss, accuracy])).toEqual(
      a.record.validation.map(({ loss, accuracy }) => [loss, accuracy]),
    );
    await rm(folder, { recursive: true });
  });

  test('that was stopped in the middle of a validation keeps what it has trained', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'alignment-'));
    const given = { ...options, batchSize: 9, steps: 3, validation: { examples: held, everySteps: 2 } };
    const straight = await alignJointModel(crossAttention, learned, given).result;
    // The first validation reads texts, and its signal was given while the step before it was made.
    for (const everySteps of [2, 5]) {
      const checkpoint = { file: path.join(folder, `${everySteps}.safetensors`) };
      const stop = new AbortController();
      let steps = 0;
      const stopping = Object.assign(Object.create(encoder) as ToyEncoder, {
        feeds: (histories: readonly ToyHistory[]) => {
          if (++steps === Math.min(everySteps, 3)) stop.abort(new Error('enough'));
          return encoder.feeds(histories);
        },
      });
      const user = { ...crossAttention.user, encoder: stopping };
      const validation = { examples: held, everySteps };
      const first = alignJointModel({ ...crossAttention, user }, learned, {
        ...given,
        validation,
        checkpoint,
        signal: stop.signal,
      });
      await expect(first.result).rejects.toThrow('enough');
      const rest = alignJointModel(crossAttention, learned, { ...given, checkpoint });
      expect((await watch(rest)).map(({ step }) => step)).toEqual(everySteps === 2 ? [3] : []);
      const { integration, record } = await rest.result;
      expect(changed(straight.integration, integration)).toEqual([]);
      expect(record.validation.map(({ step, loss }) => [step, loss]).at(-1)).toEqual([
        3,
        straight.record.validation.at(-1)!.loss,
      ]);
      if (everySteps === 2) expect(record.validation.map(({ step }) => step)).toEqual([2, 3]);
    }
    await rm(folder, { recursive: true });
  });

  test('tells how it goes, and ends by its budget', async () => {
    const progress = await watch(
      alignJointModel(crossAttention, pairs, { ...options, steps: undefined, epochs: 2, batchSize: 12 }),
    );
    expect(progress.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(progress.at(-1)).toMatchObject({ examplesSeen: 60, secondsLeft: 0 });
    expect(progress.at(-1)!.examplesPerSecond).toBeGreaterThan(0);
    // A list that does not divide into batches makes them about equal: no pair is left without others.
    const even = await watch(alignJointModel(crossAttention, pairs.slice(0, 13), { ...options, steps: 2, batchSize: 12 }));
    expect(even.map(({ examplesSeen }) => examplesSeen)).toEqual([7, 13]);
  });

  test('with nothing to be told apart, or what cannot be read, is refused with the reason', async () => {
    const refusal = (source: AlignmentSource<ToyHistory>, more: object = {}) =>
      alignJointModel(crossAttention, source, { ...options, ...more }).result.then(
        () => 'accepted',
        (error: Error) => error.message,
      );
    const [one] = pairs;
    expect(await refusal([])).toContain('there are none');
    expect(await refusal([one])).toContain('one alone');
    expect(await refusal(() => [one], { batchSize: undefined })).toContain('step 1 has one alone');
    expect(await refusal(() => pairs)).toContain('batchSize: is for a list of examples');
    expect(await refusal(pairs, { itemRate: 1 })).toContain('itemRate: is no setting; there are strategy, reading, width, steps');
    expect(await refusal([one, { ...one, textIds: [] }])).toBe(
      'example 1: its text is empty; leave out users of whom there is nothing to read',
    );
    expect(await refusal([one, { ...one, textIds: [24] }])).toContain('token id 24 is outside the vocabulary of 24');
    expect(await refusal([one, { textIds: [1] } as never])).toContain('example 1: has no history');
    expect(await refusal(pairs, { batchSize: 1 })).toContain('at least 2');
    expect(await refusal(pairs, { strategy: 'full' })).toContain('the language model does not learn here');
    expect(await refusal(pairs, { reading: 'first' })).toContain("'first' is none of last, mean");
    expect(await refusal(pairs, { width: 0 })).toContain('width');
    expect(await refusal(pairs, { validation: { examples: [one] } })).toContain('no other to be told from');
    expect(await refusal(() => pairs, { steps: undefined, batchSize: undefined })).toContain('budget');
    const long = alignJointModel(crossAttention, [one, { ...one, textIds: Array<number>(17).fill(1) }], options).result;
    await expect(long).rejects.toThrow(DoesNotFitError);
    await expect(alignJointModel(crossAttention, [one], options).result).rejects.toThrow(AdaptationError);
  });
});

test('adaptation goes on from what alignment left', async () => {
  const integration = gatedCrossAttention({ every: 1 });
  const examples = pairs.map(({ history }) => ({ history, textIds: filmModel.tokenizer.encode(films[history[1]].text) }));
  const reader = filmModel.withUserEmbeddings({ encoder, integration });
  const { model, encoder: aligned, record } = await reader.align(examples, options).result;
  expect(record.steps).toBe(4);
  expect(model.weights).toBe(filmModel.weights);
  expect(model.user!.encoder).toBe(aligned.manifest.hash);
  expect(aligned.manifest.hash).not.toBe(encoder.manifest.hash);
  const next = model.withUserEmbeddings({ encoder: aligned, integration });
  expect(next.model.user!.weights).toBe(model.user!.weights);
  const { model: adapted } = await next.adapt(
    [filmModel.example({ history: [0, 1] as ToyHistory, prompt: 'Next?', answer: 'Heat' })],
    { strategy: 'encoder', steps: 2, warmup: 0, threads: 1 },
  ).result;
  expect(adapted.user!.encoder).not.toBe(aligned.manifest.hash);
});
