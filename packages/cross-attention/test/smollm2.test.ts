import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readSafetensors } from '@user-llm/onnx-autograd';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { readDecoderConfig } from '../src/folder/hugging-face.js';
import { readGguf } from '../src/gguf/gguf-model.js';
import type { GgufModel } from '../src/gguf/gguf-model.js';
import { LanguageModel } from '../src/language-model.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';
import { difference, norm, openInference } from './inference-session.js';
import type { Inference } from './inference-session.js';
import { hiddenStates, trainingStep } from './training-step.js';

const shared = process.env.USER_LLM_SHARED ?? path.resolve(import.meta.dirname, '../../../../shared');
const folder = path.join(shared, 'models/SmolLM2-135M-Instruct');
const gguf = path.join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');
const fixture = path.join(shared, 'fixtures/llm/SmolLM2-135M-Instruct');
const present = existsSync(gguf) && existsSync(`${fixture}.json`);
if (!present) console.warn(`skipped: SmolLM2-135M-Instruct is not under ${shared}; set USER_LLM_SHARED`);

// A few seconds on an idle machine, and several times that on a busy one.
jest.setTimeout(120_000);

interface Reference {
  readonly gradient: { prompt: string; loss: number; weight_gradient_norms: Record<string, number> };
  readonly cases: readonly {
    prompt: string;
    ids: number[];
    greedy_ids: number[];
    greedy_text: string;
    token_log_probs: number[];
  }[];
  readonly chat: {
    readonly messages: readonly { role: 'user'; content: string }[];
    readonly rendered: string;
    readonly ids: number[];
  };
  readonly tokenization: readonly { readonly text: string; readonly ids: number[] }[];
}

(present ? describe : describe.skip)('SmolLM2-135M-Instruct, from its GGUF file of Q4_1 and Q8_0 blocks', () => {
  let model: GgufModel;
  let reference: Reference;
  let tensors: Map<string, HostTensor>;
  const values = (key: string) => tensors.get(key)!.data as Float32Array;
  beforeAll(async () => {
    model = await readGguf(gguf);
    reference = JSON.parse(await readFile(`${fixture}.json`, 'utf8'));
    tensors = (await readSafetensors(`${fixture}.safetensors`)).tensors;
  });

  test('its metadata say what config.json says', async () => {
    expect(model.config).toEqual(await readDecoderConfig(folder));
  });

  test('its own tokenizer and chat template are those of the files beside it', async () => {
    // Alone in a folder, there is no tokenizer.json beside it.
    const alone = await mkdtemp(path.join(tmpdir(), 'smollm2-'));
    await symlink(gguf, path.join(alone, 'model.gguf'));
    const { tokenizer } = await readGguf(path.join(alone, 'model.gguf'));
    await rm(alone, { recursive: true });
    const beside = await TextTokenizer.load(folder);
    for (const { text, ids } of reference.tokenization) {
      expect(tokenizer.encode(text, { specialTokens: 'parse' })).toEqual(ids);
      expect(tokenizer.decode(ids, { specialTokens: true })).toBe(beside.decode(ids, { specialTokens: true }));
    }
    for (const { greedy_ids, greedy_text } of reference.cases)
      expect(tokenizer.decode(greedy_ids, { specialTokens: true })).toBe(greedy_text);
    const { messages, rendered, ids } = reference.chat;
    expect(tokenizer.renderChat(messages)).toBe(rendered);
    expect(tokenizer.chat(messages)).toEqual(ids);
  });

  test('hidden states after every layer are those of transformers', async () => {
    const states = await hiddenStates(model, reference.cases[0].ids);
    expect(states).toHaveLength(31);
    for (const [layer, state] of states.entries()) expect(difference(state, values(`0.hidden.${layer}`))).toBeLessThan(1e-4);
  });

  test('loss of a sentence and its gradients are those of transformers', async () => {
    const { prompt, loss: expectedLoss, weight_gradient_norms: norms } = reference.gradient;
    const { ids } = reference.cases.find((each) => each.prompt === prompt)!;
    const names = ['layers.0.self_attn.q_proj', 'layers.29.mlp.down_proj', 'norm'].map((part) => `model.${part}.weight`);
    const { loss, gradient, weightGradient } = await trainingStep(model, ids, 1, names);
    expect(Math.abs(loss / expectedLoss - 1)).toBeLessThan(1e-4);
    expect(difference(gradient, values('grad.inputs_embeds'))).toBeLessThan(1e-4);
    for (const name of names) {
      // Of matrices the first rows are given, and the norm of all.
      const expected = values(`grad.${name}`);
      expect(difference(weightGradient(name).subarray(0, expected.length), expected)).toBeLessThan(1e-4);
      expect(Math.abs(norm(weightGradient(name)) / norms[name] - 1)).toBeLessThan(1e-4);
    }
  });

  describe('in float32', () => {
    let inference: Inference;
    beforeAll(async () => {
      // As plain float32 tensors: what the blocks stand for.
      const weights = new Map(Array.from(model.weights, ([name, { data, shape, dtype }]) => [name, { data, shape, dtype }]));
      inference = await openInference({ config: model.config, weights });
    });
    afterAll(() => inference.dispose());

    test('last logits, log-probabilities of the prompt and greedy tokens are those of transformers', async () => {
      const v = model.config.vocabularySize;
      for (const [i, { ids, greedy_ids, token_log_probs }] of reference.cases.entries()) {
        const { logits, normalizers } = await inference.run(ids, 1, 0);
        expect(difference(logits.subarray(-v), tensors.get(`${i}.last_logits`)!.data as Float32Array)).toBeLessThan(1e-4);
        const found = token_log_probs.map((_, at) => logits[at * v + ids[at + 1]] - normalizers[at]);
        expect(difference(found, token_log_probs)).toBeLessThan(1e-4);
        expect(await inference.greedy(ids, greedy_ids.length)).toEqual(greedy_ids);
      }
    });
  });

  test('its blocks as they are, with float32 activations: the same logits and every greedy token', async () => {
    const inference = await openInference(model, 0);
    for (const [i, { ids }] of reference.cases.entries()) {
      const { logits } = await inference.run(ids, 1, 1);
      expect(difference(logits, tensors.get(`${i}.last_logits`)!.data as Float32Array)).toBeLessThan(1e-5);
    }
    // Slow token by token: one text here, all of them with 8-bit activations.
    const [{ ids, greedy_ids }] = reference.cases;
    expect(await inference.agreement(ids, greedy_ids)).toBe(greedy_ids.length);
    await inference.dispose();
  });

  test('with 8-bit activations: nearly every greedy token, logits within a tenth', async () => {
    // Rounding after every layer: which way a number falls depends on the last digits of attention, so on processor and kernel.
    const inference = await openInference(model);
    let agreed = 0;
    let all = 0;
    for (const [i, { ids, greedy_ids }] of reference.cases.entries()) {
      const { logits } = await inference.run(ids, 1, 1);
      expect(difference(logits, tensors.get(`${i}.last_logits`)!.data as Float32Array)).toBeLessThan(0.1);
      agreed += await inference.agreement(ids, greedy_ids);
      all += greedy_ids.length;
    }
    expect(all).toBe(126);
    expect(agreed).toBeGreaterThanOrEqual(116);
    await inference.dispose();
  });

  test('is served like any other model', async () => {
    const loaded = await LanguageModel.load(folder);
    const [{ ids, greedy_ids }] = reference.cases;
    const served = await loaded.serve({ accuracyLevel: 0 });
    expect(await served.generate({ promptIds: ids, maxNewTokens: 8 }).tokenIds).toEqual(greedy_ids.slice(0, 8));
    await served.dispose();
  });
});
