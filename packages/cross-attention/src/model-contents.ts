import type { Weights } from '@user-llm/onnx-autograd';
import type { Precision } from './decoder/packable-matrix.js';
import type { DecoderConfig } from './folder/decoder-config.js';
import type { BlindPrefix } from './integration/blind-prefix.js';
import type { Integration, UserShape } from './integration/integration.js';
import type { ItemTokens } from './items/item-tokens.js';
import type { TextTokenizer } from './text/text-tokenizer.js';

/** How a language model reads users: by which integration, whose embeddings, with which weights. */
export interface UserReading {
  readonly integration: Integration;
  readonly shape: UserShape;
  /** Hash of the encoder whose embeddings it reads. */
  readonly encoder: string;
  readonly weights: Weights;
  /** Where prompts may begin without the user. */
  readonly blindPrefix?: BlindPrefix;
}

/** A language model as it is saved. */
export interface ModelContents {
  readonly config: DecoderConfig;
  readonly weights: Weights;
  readonly tokenizer: TextTokenizer;
  readonly user?: UserReading;
  readonly items?: ItemTokens;
  /** Labels that it names by tokens of their own. */
  readonly labels?: ItemTokens;
  /** How it is computed with, unless a call says otherwise. */
  readonly precision?: Precision;
  /** What it was made from, for people. */
  readonly base: string;
  /** How it was trained: JSON. */
  readonly training?: unknown;
}
