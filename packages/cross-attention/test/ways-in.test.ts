import { describe, expect, test } from '@jest/globals';
import { gatedCrossAttention } from '../src/integration/gated-cross-attention.js';
import { LanguageModel } from '../src/language-model.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { ToyEncoder } from './toy-encoder.js';

const tokenizer = trainByteLevelBpe(['Toy Story (1995)'], { vocabularySize: 262 });
const base = LanguageModel.create({ width: 32, layers: 2, heads: 2, context: 48 }, tokenizer, 1);
const encoder = ToyEncoder.create(1);

describe('a model that reads users already', () => {
  test('keeps how it does, also where its gates would begin elsewhere', () => {
    const { model } = base.withUserEmbeddings({ encoder, integration: gatedCrossAttention({ every: 1, gate: 0.5 }) });
    const again = model.withUserEmbeddings({ encoder: ToyEncoder.create(2), integration: gatedCrossAttention({ every: 1 }) });
    expect(again.model.user!.weights).toEqual(model.user!.weights);
  });
});
