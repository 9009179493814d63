import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { Weights } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../src/errors.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { LanguageModel } from '../src/language-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

jest.setTimeout(60_000);

const films = ['Toy Story (1995)', 'Heat (1995)', 'Jumanji (1995)'];
const tokenizer = trainByteLevelBpe(films, { vocabularySize: 280 });
const base = LanguageModel.create({ width: 32, layers: 2, heads: 2, keyValueHeads: 1, context: 64 }, tokenizer, 1);
const encoder = ToyEncoder.create(1);
const prompt = 'What next?';
const both = (gate = 0): Integration[] => [softPrompt(), gatedCrossAttention({ every: 1, gate })];
const reading = (integration: Integration | readonly Integration[], model = base) =>
  model.withUserEmbeddings({ encoder, integration });

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'ways-in-'))));
afterAll(() => rm(folder, { recursive: true }));

/** What a model thinks of the films, for a user or for none. */
async function scores(model: LanguageModel, user?: ReturnType<ToyEncoder['encode']>): Promise<number[]> {
  const served = await model.serve({ threads: 1 });
  const ranking = await served.rank({ prompt, user, trie: model.trie(films), top: films.length, among: 'vocabulary' });
  await served.dispose();
  return films.map((_, film) => ranking.scores[ranking.items.indexOf(film)]);
}

const close = (found: readonly number[], expected: readonly number[]) =>
  found.forEach((score, i) => expect(score).toBeCloseTo(expected[i], 4));

const changed = (before: Weights, after: Weights) =>
  [...before].filter(([name, { data }]) => after.get(name)!.data.some((value, i) => value !== data[i])).map(([name]) => name);

describe('a soft prompt and cross-attention at once', () => {
  const user = encoder.encode([1, 4]);

  test('begin as each does alone: with closed gates there is the soft prompt, and without a user the base', async () => {
    const [together, soft] = [reading(both()).model, reading(softPrompt()).model];
    close(await scores(together, user), await scores(soft, user));
    close(await scores(together), await scores(base));
    const cross = reading(gatedCrossAttention({ every: 1 })).model;
    expect(together.user!.weights).toEqual(new Map([...soft.user!.weights, ...cross.user!.weights]));
    expect(await scores(reading(both(0.9)).model, user)).not.toEqual(await scores(together, user));
  });

  const examples = Array.from({ length: 12 }, (_, i) => {
    const history: ToyHistory = [i % 6, (i + 1) % 3];
    return base.example({ prompt, answer: films[history[1]], history });
  });
  const options = { steps: 6, batchSize: 6, learningRate: 1e-2, threads: 1 } as const;

  test.each(['projection', 'encoder', 'lora', 'full'] as const)(
    'learn both by %s, and are served as they were trained',
    async (strategy) => {
      const reader = reading(both(0.5));
      const [example] = examples;
      const {
        model,
        encoder: adapted,
        record,
      } = await reader.adapt(examples, { ...options, strategy, validation: { examples: [example], everySteps: 6 } }).result;
      expect(changed(reader.model.user!.weights, model.user!.weights)).toEqual([...reader.model.user!.weights.keys()]);
      const found = await scores(model, adapted.encode(example.history!));
      expect(-found[example.history![1]] / example.answerIds.length).toBeCloseTo(record.validation.at(-1)!.loss, 4);
    },
  );

  test('are named in the saved folder, and opened by it', async () => {
    const place = path.join(folder, 'both');
    const { model } = reading(both(0.5));
    await model.save(place);
    const file = path.join(place, 'user_llm.json');
    const manifest = JSON.parse(await readFile(file, 'utf8'));
    expect(manifest.adapter).toMatchObject({
      kind: 'combined',
      settings: {},
      parts: [
        { kind: 'soft-prompt', settings: {} },
        { kind: 'cross-attention', settings: { every: 1, gate: 0.5 } },
      ],
      placeholders: '<|user_0|><|user_1|>',
    });
    const loaded = await LanguageModel.load(place);
    expect(loaded.user!.weights).toEqual(model.user!.weights);
    close(await scores(loaded, user), await scores(model, user));
    for (const parts of [
      undefined,
      [],
      [{ kind: 'soft-prompt', settings: {} }],
      [
        { kind: 'soft-prompt', settings: {} },
        { kind: 'prefix', settings: {} },
      ],
    ]) {
      await writeFile(file, JSON.stringify({ ...manifest, adapter: { ...manifest.adapter, parts } }));
      await expect(LanguageModel.load(place)).rejects.toThrow("names the adapter 'combined', which this version does not know");
    }
  });

  test('are one of each kind', () => {
    expect(() => reading([softPrompt(), softPrompt()])).toThrow(
      new AdaptationError(
        'integration',
        "has two of the kind 'soft-prompt', whose weights have the same names; give softPrompt(), gatedCrossAttention({ every }), or a list of both",
      ),
    );
    for (const none of [[], [undefined], undefined, 'soft-prompt'])
      expect(() => reading(none as never)).toThrow('integration: must be a way to read users; give softPrompt(), gated');
    expect(reading([softPrompt()]).model.user!.integration.kind).toBe('soft-prompt');
  });
});

describe('a model that reads users already', () => {
  const { model } = reading(gatedCrossAttention({ every: 1, gate: 0.5 }));

  test('keeps how it does, also where its gates would begin elsewhere', () => {
    const again = model.withUserEmbeddings({
      encoder: ToyEncoder.create(2),
      integration: gatedCrossAttention({ every: 1 }),
      seed: 5,
    });
    expect(again.model.user!.weights).toEqual(model.user!.weights);
  });

  test('may be given another way beside it', () => {
    const more = model.withUserEmbeddings({ encoder, integration: both(), seed: 5 }).model.user!.weights;
    for (const [name, weight] of model.user!.weights) expect(more.get(name)).toBe(weight);
    expect([...more.keys()].filter((name) => name.startsWith('soft_prompt'))).toHaveLength(2);
  });

  test('does not lose it unawares', async () => {
    expect(() => reading(softPrompt(), model)).toThrow(
      'integration: the model reads users by cross-attention {"every":1} of 2 x 8 numbers, whose weights would be lost: name it again',
    );
    expect(() => reading(gatedCrossAttention({ every: 2 }), model)).toThrow('would be lost');
    const without = model.withoutUserEmbeddings();
    expect(without.user).toBeUndefined();
    expect(await scores(without)).toEqual(await scores(base));
    expect(reading(softPrompt(), without).model.user!.integration.kind).toBe('soft-prompt');
  });
});
