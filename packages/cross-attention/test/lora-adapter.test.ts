import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { float32, readSafetensors, writeSafetensors } from '@user-llm/onnx-autograd';
import { loadLoraAdapter, saveLoraAdapter } from '../src/adaptation/lora-adapter.js';
import type { LoraAdapter } from '../src/adaptation/lora-adapter.js';
import { AdaptationError } from '../src/errors.js';
import { LanguageModel } from '../src/language-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';

jest.setTimeout(60_000);

const tokenizer = trainByteLevelBpe(['Toy Story (1995)', 'Heat (1995)'], { vocabularySize: 270 });
const model = LanguageModel.create({ width: 32, layers: 2, heads: 2, context: 64 }, tokenizer, 1);
const projection = 'model.layers.1.self_attn.q_proj';
const [rank, alpha] = [2, 6];
const down = Float32Array.from({ length: rank * 32 }, (_, i) => Math.fround(Math.sin(i)));
const up = Float32Array.from({ length: 32 * rank }, (_, i) => Math.fround(Math.cos(3 * i)));
const adapter: LoraAdapter = {
  rank,
  alpha,
  targets: ['q_proj'],
  weights: new Map([
    [`lora.${projection}.A`, float32(down, [rank, 32])],
    [`lora.${projection}.B`, float32(up, [32, rank])],
  ]),
};

let folder: string;
beforeEach(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'lora-'))));
afterEach(() => rm(folder, { recursive: true }));

const config = async () => JSON.parse(await readFile(path.join(folder, 'adapter_config.json'), 'utf8')) as object;
const rewrite = async (changes: object) =>
  writeFile(path.join(folder, 'adapter_config.json'), JSON.stringify({ ...(await config()), ...changes }));

/** W + scale B A for the adapter's one projection, by the definition. */
const byFormula = (scale: number) =>
  (model.weights.get(`${projection}.weight`)!.data as Float32Array).map((value, at) => {
    const [row, column] = [Math.floor(at / 32), at % 32];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += up[row * rank + r] * down[r * 32 + column];
    return value + scale * sum;
  });
const merged = (adapter: LoraAdapter) => model.withLora(adapter).weights.get(`${projection}.weight`)!.data as Float32Array;
const largest = (a: Float32Array, b: Float32Array) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);

test("it is written under PEFT's names, read back the same, and merged by its formula", async () => {
  await saveLoraAdapter(folder, adapter, 'owner/base');
  const { tensors } = await readSafetensors(path.join(folder, 'adapter_model.safetensors'));
  expect(Array.from(tensors, ([name, { shape }]) => [name, shape]).sort()).toEqual([
    ['base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight', [rank, 32]],
    ['base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight', [32, rank]],
  ]);
  expect(await config()).toMatchObject({
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: 'owner/base',
    r: rank,
    lora_alpha: alpha,
    target_modules: ['q_proj'],
  });
  const loaded = await loadLoraAdapter(folder);
  expect(loaded).toEqual(adapter);
  expect(largest(merged(loaded), byFormula(alpha / rank))).toBeLessThan(1e-5);
  // All other weights are the model's own.
  expect(model.withLora(loaded).weights.get('model.norm.weight')).toBe(model.weights.get('model.norm.weight'));
});

test('one that adds nothing yet leaves every weight the very one that it was', () => {
  const fresh = new Map([...adapter.weights, [`lora.${projection}.B`, float32(new Float32Array(32 * rank), [32, rank])]]);
  const { weights } = model.withLora({ ...adapter, weights: fresh });
  for (const [name, weight] of model.weights) expect(weights.get(name)).toBe(weight);
});

test('rank-stabilised adapters scale by alpha over the root of the rank', async () => {
  await saveLoraAdapter(folder, adapter, 'base');
  await rewrite({ use_rslora: true });
  expect(largest(merged(await loadLoraAdapter(folder)), byFormula(alpha / Math.sqrt(rank)))).toBeLessThan(1e-5);
});

test.each<readonly [object, RegExp]>([
  [{ use_dora: true }, /use_dora is not supported; merge the adapter with PEFT/],
  [{ bias: 'all' }, /bias 'all'/],
  [{ peft_type: 'IA3' }, /peft_type 'IA3'/],
  [{ modules_to_save: ['lm_head'] }, /modules_to_save/],
  [{ rank_pattern: { q_proj: 4 } }, /rank_pattern/],
  [{ fan_in_fan_out: true }, /fan_in_fan_out/],
  [{ layer_replication: [[0, 1]] }, /layer_replication/],
  [{ alora_invocation_tokens: [9, 4] }, /alora_invocation_tokens is not supported/],
  [{ use_qalora: true }, /use_qalora is not supported/],
  ...['pissa', 'pissa_niter_16', 'olora', 'loftq', 'corda'].map(
    (start) => [{ init_lora_weights: start }, new RegExp(`init_lora_weights '${start}' is not supported`)] as const,
  ),
])('what cannot be applied is refused: %j', async (changes, message) => {
  await saveLoraAdapter(folder, adapter, 'base');
  await rewrite(changes);
  await expect(loadLoraAdapter(folder)).rejects.toMatchObject({
    problem: 'unsupported',
    message: expect.stringMatching(message),
  });
});

test.each([true, false, null, 'gaussian'])('a start that leaves the base as it is makes no difference: %j', async (start) => {
  await saveLoraAdapter(folder, adapter, 'base');
  await rewrite({ init_lora_weights: start });
  expect(await loadLoraAdapter(folder)).toEqual(adapter);
});

test('damaged adapters, and those of another model', async () => {
  await expect(loadLoraAdapter(folder)).rejects.toMatchObject({ problem: 'no-config' });
  await saveLoraAdapter(folder, adapter, 'base');
  await rewrite({ r: 4 });
  await expect(loadLoraAdapter(folder)).rejects.toMatchObject({ problem: 'bad-weights', file: 'adapter_model.safetensors' });
  await rewrite({ r: 0 });
  await expect(loadLoraAdapter(folder)).rejects.toMatchObject({ problem: 'bad-config' });
  await rewrite({ r: rank });
  const alone = new Map([[`base_model.model.${projection}.lora_A.weight`, float32(down, [rank, 32])]]);
  await writeSafetensors(path.join(folder, 'adapter_model.safetensors'), alone);
  await expect(loadLoraAdapter(folder)).rejects.toThrow(/lacks its other matrix/);
  const wide = LanguageModel.create({ width: 64, layers: 2, heads: 2, context: 64 }, tokenizer, 1);
  expect(() => wide.withLora(adapter)).toThrow(AdaptationError);
});

test('what the strategy lora trained can be kept apart: merged into the base it is the trained model', async () => {
  const examples = ['Toy Story (1995)', 'Heat (1995)'].map((answer) => model.example({ prompt: 'A film:', answer }));
  const options = { strategy: 'lora', lora: { rank: 4, targets: ['q_proj', 'down_proj'] }, steps: 3, threads: 1 } as const;
  const { model: trained, lora } = await model.adapt(examples, options).result;
  await saveLoraAdapter(folder, lora!, 'base');
  const loaded = await loadLoraAdapter(folder);
  expect(loaded).toMatchObject({ rank: 4, alpha: 16, targets: ['down_proj', 'q_proj'] });
  expect(model.withLora(loaded).weights).toEqual(trained.weights);
  expect(trained.weights).not.toEqual(model.weights);
});

const shared = process.env.USER_LLM_SHARED ?? path.resolve(import.meta.dirname, '../../../../shared');
const fixtures = path.join(shared, 'fixtures/llm');
if (!existsSync(fixtures)) console.warn(`skipped: no reference models in ${fixtures}; set USER_LLM_SHARED`);
const projections = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

(existsSync(fixtures) ? test : test.skip).each(['random-llama3-rope-scaled', 'random-mistral', 'random-qwen2', 'random-qwen3'])(
  'in every family and projection a trained adapter comes back from PEFT\u2019s layout as it was: %s',
  async (name) => {
    const base = await LanguageModel.load(path.join(fixtures, name));
    const examples = Array.from({ length: 4 }, (_, i) => ({ promptIds: [5, 6, 7 + i], answerIds: [100 + i, 2] }));
    const { model: trained, lora } = await base.adapt(examples, {
      ...{ strategy: 'lora', steps: 2, learningRate: 1e-2, threads: 1 },
      lora: { rank: 4, alpha: 8, targets: projections },
    }).result;
    await saveLoraAdapter(folder, lora!, name);
    const { weights } = base.withLora(await loadLoraAdapter(folder));
    for (const [tensor, { data }] of trained.weights) {
      expect(weights.get(tensor)!.data).toEqual(data);
      const isTarget = projections.some((projection) => tensor.includes(`.${projection}.weight`));
      expect([tensor, base.weights.get(tensor)!.data !== data]).toEqual([tensor, isTarget]);
    }
  },
);
