import type { DecoderConfig } from '../src/folder/decoder-config.js';

/** The shape of a Llama decoder small enough to be made in a test. */
export const smallDecoderConfig = (vocabularySize: number, changes: Partial<DecoderConfig> = {}): DecoderConfig => ({
  family: 'llama',
  vocabularySize,
  hiddenSize: 8,
  intermediateSize: 12,
  layers: 2,
  heads: 2,
  keyValueHeads: 1,
  headSize: 16,
  normEpsilon: 1e-5,
  rotary: { theta: 10_000 },
  contextLength: 64,
  tiedEmbeddings: true,
  queryKeyValueBias: false,
  attentionOutputBias: false,
  feedForwardBias: false,
  headNorms: false,
  beginToken: 0,
  endTokens: [0],
  paddingToken: 1,
  ...changes,
});
