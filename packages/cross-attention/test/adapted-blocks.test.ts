import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { decoderConfig } from '../src/decoder/decoder.js';
import { StoredMatrix } from '../src/decoder/stored-matrix.js';
import { GgufTensor } from '../src/gguf/gguf-tensors.js';
import { LanguageModel } from '../src/language-model.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { smallGguf } from './small-gguf.js';
import { ToyEncoder } from './toy-encoder.js';

jest.setTimeout(60_000);

const sizes = { vocabularySize: 64, width: 64, layers: 2, heads: 2, keyValueHeads: 2, intermediate: 64, context: 32 };
let folder: string;
let bases: Record<'a GGUF file' | 'a folder with blocks', LanguageModel>;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'adapted-blocks-'));
  await writeFile(path.join(folder, 'model.gguf'), smallGguf({ ...decoderConfig(sizes), endTokens: [0] }));
  const gguf = await LanguageModel.load(path.join(folder, 'model.gguf'));
  await gguf.save(path.join(folder, 'saved'));
  bases = { 'a GGUF file': gguf, 'a folder with blocks': await LanguageModel.load(path.join(folder, 'saved')) };
});
afterAll(() => rm(folder, { recursive: true }));

const examples = Array.from({ length: 12 }, (_, i) => ({
  history: [i % 6, (i + 1) % 6] as const,
  promptIds: [20, 21],
  answerIds: [1 + (i % 6), 0],
}));
const options = { steps: 2, batchSize: 6, learningRate: 1e-2, threads: 1 } as const;
const isInBlocks = (weight: HostTensor) => weight instanceof GgufTensor || weight instanceof StoredMatrix;
const bytesOf = async (saved: string) => (await stat(path.join(saved, 'onnx/model.onnx'))).size;

describe.each(['a GGUF file', 'a folder with blocks'] as const)('adapted from %s', (name) => {
  const reader = () =>
    bases[name].withUserEmbeddings({ encoder: ToyEncoder.create(2), integration: gatedCrossAttention({ every: 2 }) });
  /** Names of the decoder's weights that are not the base's own objects any more. */
  const replaced = ({ weights }: LanguageModel) =>
    [...weights].filter(([weight, tensor]) => tensor !== bases[name].weights.get(weight)).map(([weight]) => weight);

  test.each(['projection', 'encoder'] as const)('by %s no weight of the decoder is another', async (strategy) => {
    const { model } = await reader().adapt(examples, { ...options, strategy }).result;
    expect(replaced(model)).toEqual([]);
  });

  test('by lora its targets are', async () => {
    const { model } = await reader().adapt(examples, { ...options, strategy: 'lora', lora: { targets: ['q_proj'] } }).result;
    expect(replaced(model)).toEqual([0, 1].map((layer) => `model.layers.${layer}.self_attn.q_proj.weight`));
  });

  test('by full all are, in float32', async () => {
    const { model } = await reader().adapt(examples, { ...options, strategy: 'full' }).result;
    expect(replaced(model)).toHaveLength(model.weights.size);
    expect([...model.weights.values()].some(isInBlocks)).toBe(false);
  });

  test('in a run that goes on from a checkpoint, with the best weights of a validation, none is', async () => {
    const run = (steps: number) => {
      const checkpoint = { file: path.join(folder, `${name}.safetensors`) };
      const validation = { examples, everySteps: 1 };
      return reader().adapt(examples, { ...options, strategy: 'encoder', steps, checkpoint, validation }).result;
    };
    await run(1);
    const { model, record } = await run(2);
    expect(record.steps).toBe(2);
    expect(replaced(model)).toEqual([]);
  });

  test('it is saved as small as it was before', async () => {
    const [before, after] = [path.join(folder, 'before'), path.join(folder, 'after')];
    await reader().model.save(before, { trainable: false });
    const { model } = await reader().adapt(examples, { ...options, strategy: 'projection' }).result;
    await model.save(after, { trainable: false });
    expect(await bytesOf(after)).toBe(await bytesOf(before));
  });
});
