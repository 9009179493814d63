import { decoderTensorShapes } from '../src/folder/decoder-config.js';
import type { DecoderConfig } from '../src/folder/decoder-config.js';
import { ggufBytes } from './gguf-writer.js';
import type { WrittenTensor } from './gguf-writer.js';

const float32 = 0;
const q8Zero = 8;

const names: readonly (readonly [RegExp, string])[] = [
  [/^model\.embed_tokens/, 'token_embd'],
  [/^model\.norm/, 'output_norm'],
  [/^model\.layers\./, 'blk.'],
  [/input_layernorm/, 'attn_norm'],
  [/post_attention_layernorm/, 'ffn_norm'],
  [/self_attn\.o_proj/, 'attn_output'],
  [/self_attn\.([qkv])_proj/, 'attn_$1'],
  [/mlp\.(gate|up|down)_proj/, 'ffn_$1'],
];

/** Blocks of 32 codes with the scale 2^-9, so that matrices have values below a quarter. */
function blocks(values: number, first: number): Uint8Array {
  const bytes = new Uint8Array((values / 32) * 34);
  for (let at = 0; at < bytes.length; at += 34) {
    bytes.set([0, 0x18], at);
    for (let i = 2; i < 34; i++) bytes[at + i] = (first + at * 7 + i * i * 13) % 251;
  }
  return bytes;
}

/** A matrix as it lies in a file: its format's number, and its blocks. */
export type StoredMatrixOf = (stored: string, values: number, index: number) => Pick<WrittenTensor, 'format' | 'bytes'>;

const inQ8Zero: StoredMatrixOf = (_, values, index) => ({ format: q8Zero, bytes: blocks(values, index) });

/** A GGUF file of a Llama, its matrices in Q8_0 or as is said, without a tokenizer. All widths are multiples of a block's. */
export function smallGguf(
  config: DecoderConfig,
  matrix: StoredMatrixOf = inQ8Zero,
  more: Record<string, number> = {},
): Uint8Array {
  const tensors = Array.from(decoderTensorShapes(config), ([name, shape], i): WrittenTensor => {
    const stored = names.reduce((changed, [pattern, by]) => changed.replace(pattern, by), name);
    if (shape.length === 2) return { name: stored, shape, ...matrix(stored, shape[0] * shape[1], i) };
    const ones = new Float32Array(shape[0]).fill(1);
    return { name: stored, shape, format: float32, bytes: new Uint8Array(ones.buffer) };
  });
  const metadata = {
    'general.architecture': 'llama',
    'llama.block_count': config.layers,
    'llama.context_length': config.contextLength,
    'llama.embedding_length': config.hiddenSize,
    'llama.feed_forward_length': config.intermediateSize,
    'llama.attention.head_count': config.heads,
    'llama.attention.head_count_kv': config.keyValueHeads,
    'llama.attention.key_length': config.headSize,
    'llama.attention.layer_norm_rms_epsilon': config.normEpsilon,
    'tokenizer.ggml.eos_token_id': 0,
    ...more,
  };
  return ggufBytes(metadata, tensors);
}
