import { describe, expect, test } from '@jest/globals';
import { alignJointModel } from '../src/alignment/align.js';
import type { AlignmentExample } from '../src/alignment/alignment-example.js';
import type { JointModel, JointUser } from '../src/adaptation/joint-model.js';
import { createDecoder } from '../src/decoder/decoder.js';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { initialIntegrationWeights } from '../src/integration/integration.js';
import type { Integration } from '../src/integration/integration.js';
import { softPrompt } from '../src/integration/soft-prompt.js';
import { ToyEncoder } from './toy-encoder.js';
import type { ToyHistory } from './toy-encoder.js';

const decoder = createDecoder(
  { vocabularySize: 24, width: 32, layers: 2, heads: 2, keyValueHeads: 1, intermediate: 32, context: 32, endTokens: [0] },
  1,
);
const encoder = ToyEncoder.create(2);
const shape = { userTokens: 2, userWidth: 8 };

function joint(integration: Integration): JointModel<ToyHistory> & { readonly user: JointUser<ToyHistory> } {
  return { decoder, user: { encoder, integration, shape, weights: initialIntegrationWeights(integration, decoder, shape, 3) } };
}
const pairs: AlignmentExample<ToyHistory>[] = Array.from({ length: 36 }, (_, i) => [i % 6, Math.floor(i / 6)] as const).map(
  ([a, b]) => ({ history: [a, b], textIds: [1 + 2 * a, 2 + 2 * a, 1 + 2 * b, 2 + 2 * b] }),
);
const held = pairs.filter((_, i) => i % 4 === 3);
const learned = pairs.filter((_, i) => i % 4 !== 3);
const options = { batchSize: 27, seed: 5, learningRate: 2e-2, threads: 1 } as const;

describe('x', () => {
  test.each([
    ['gated cross-attention', gatedCrossAttention({ every: 1 })],
    ['soft prompt', softPrompt()],
  ])('learn %s', async (_, integration) => {
    for (const reading of ['last', 'mean'] as const) {
    const run = alignJointModel(joint(integration), learned, { ...options, reading, steps: 60, validation: { examples: held, everySteps: 10 } });
    for await (const p of run) if (p.validationLoss || p.step === 1) console.log(JSON.stringify(p));
    const { record } = await run.result;
    expect(record.validation.at(-1)!.accuracy).toBeGreaterThan(0.5);
    }
  });
});
