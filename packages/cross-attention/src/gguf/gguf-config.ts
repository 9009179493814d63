import { familyOfGguf, ggufArchitectures } from '../families/families.js';
import { headSizeMultiple, mostClaimedPositions, mostPositions } from '../folder/decoder-config.js';
import type { DecoderConfig, RotaryScaling } from '../folder/decoder-config.js';
import { GgufError } from './gguf-error.js';
import type { GgufHeader } from './gguf-header.js';

/**
 * The decoder that a GGUF file's metadata describes. `frequencyFactors` are the values of the tensor `rope_freqs.weight`, by which
 * Llama 3's scaling is stored. Throws a `GgufError` for a family or a setting that cannot be computed here.
 */
export function ggufConfig(header: GgufHeader, frequencyFactors?: ArrayLike<number>): DecoderConfig {
  const { file, tensors } = header;
  const architecture = header.metadata.get('general.architecture');
  const read = new MetadataReader(header, String(architecture));
  const window = read.optionalSize('attention.sliding_window') ?? 0;
  const family = familyOfGguf(String(architecture), window > 0);
  if (family === undefined)
    throw new GgufError(
      'unsupported',
      file,
      `is '${String(architecture)}'; families that are read are ${ggufArchitectures.join(', ')}.`,
      {
        key: 'general.architecture',
      },
    );
  const experts = read.optionalSize('expert_count') ?? 0;
  if (experts > 0) throw read.unsupported('expert_count', `mixtures of experts (${experts} here) are not supported.`);
  const hiddenSize = read.size('embedding_length');
  const heads = read.size('attention.head_count');
  const keyValueHeads = read.optionalSize('attention.head_count_kv') ?? heads;
  const headSize = read.optionalSize('attention.key_length') ?? hiddenSize / heads;
  const layers = read.size('block_count');
  // Each layer has at least nine tensors: a number of layers that cannot be there is not counted up to.
  if (9 * layers > tensors.size)
    throw read.bad('block_count', `claims ${layers} layers, but the file has ${tensors.size} tensors.`);
  const claimed = read.size('context_length');
  if (claimed > mostClaimedPositions)
    throw read.bad('context_length', `claims ${claimed} positions; the limit is ${mostClaimedPositions}.`);
  const contextLength = Math.min(claimed, mostPositions);
  const rotated = read.optionalSize('rope.dimension_count') ?? headSize;
  if (!Number.isInteger(headSize) || headSize % 2 !== 0 || rotated !== headSize)
    throw read.unsupported(
      'rope.dimension_count',
      `heads of ${headSize} elements of which ${rotated} are rotated are not supported.`,
    );
  if (headSize % headSizeMultiple !== 0)
    throw read.unsupported(
      'attention.key_length',
      `heads of ${headSize} elements are not supported; they must be a multiple of ${headSizeMultiple}.`,
    );
  if ((read.optionalSize('attention.value_length') ?? headSize) !== headSize)
    throw read.unsupported('attention.value_length', 'values of another size than the keys are not supported.');
  if (heads % keyValueHeads !== 0) throw read.bad('attention.head_count_kv', `${heads} heads do not divide by ${keyValueHeads}.`);
  const embedding = tensors.get('token_embd.weight');
  if (embedding === undefined)
    throw new GgufError('missing-tensor', file, 'the file has no such tensor; a language model needs it.', {
      tensor: 'token_embd.weight',
    });
  const [vocabularySize] = embedding.shape;
  const scaling = rotaryScaling(read, frequencyFactors, headSize);
  const tokens = specialTokens(read, vocabularySize);
  const queryKeyValueBias = tensors.has('blk.0.attn_q.bias');
  const attentionOutputBias = tensors.has('blk.0.attn_output.bias');
  if (family.attentionBias !== 'queries-keys-values' && queryKeyValueBias !== attentionOutputBias)
    throw new GgufError('unsupported', file, `a ${family.name} has biases in all projections of its attention or in none.`, {
      tensor: 'blk.0.attn_output.bias',
    });
  return {
    family: family.name,
    vocabularySize,
    hiddenSize,
    intermediateSize: read.size('feed_forward_length'),
    layers,
    heads,
    keyValueHeads,
    headSize,
    normEpsilon: read.number('attention.layer_norm_rms_epsilon', undefined),
    rotary: { theta: read.number('rope.freq_base', 10_000), ...(scaling === undefined ? {} : { scaling }) },
    contextLength,
    tiedEmbeddings: !tensors.has('output.weight'),
    queryKeyValueBias,
    attentionOutputBias,
    feedForwardBias: tensors.has('blk.0.ffn_up.bias'),
    headNorms: tensors.has('blk.0.attn_q_norm.weight'),
    ...(window > 0 && window < contextLength && family.slidingWindow === 'all-layers'
      ? { slidingWindow: { size: window, layers: Array.from({ length: layers }, () => true) } }
      : {}),
    ...tokens,
  };
}

function rotaryScaling(
  read: MetadataReader,
  factors: ArrayLike<number> | undefined,
  headSize: number,
): RotaryScaling | undefined {
  const kind = read.text('rope.scaling.type') ?? 'none';
  if (kind !== 'none' && kind !== 'linear')
    throw read.unsupported(
      'rope.scaling.type',
      `rotary scaling '${kind}' is not supported; supported are none, linear, and rope_freqs.weight.`,
    );
  if (factors !== undefined) {
    if (factors.length !== headSize / 2)
      throw read.bad(
        'rope.dimension_count',
        `rope_freqs.weight has ${factors.length} factors for heads of ${headSize} elements.`,
      );
    return { kind: 'factors', factors: Array.from(factors) };
  }
  const factor = read.number(kind === 'linear' ? 'rope.scaling.factor' : 'rope.scale_linear', 1);
  return factor === 1 ? undefined : { kind: 'linear', factor };
}

function specialTokens(
  read: MetadataReader,
  vocabularySize: number,
): Pick<DecoderConfig, 'beginToken' | 'endTokens' | 'paddingToken'> {
  const token = (name: string) => {
    const id = read.token(name);
    if (id !== undefined && id >= vocabularySize)
      throw read.bad(`tokenizer.ggml.${name}`, `token ${id} is outside the vocabulary of ${vocabularySize}.`, '');
    return id;
  };
  const beginToken = token('bos_token_id');
  const paddingToken = token('padding_token_id');
  const ends = ['eos_token_id', 'eot_token_id', 'eom_token_id'].map(token).filter((id) => id !== undefined);
  return {
    ...(beginToken === undefined ? {} : { beginToken }),
    endTokens: [...new Set(ends)],
    ...(paddingToken === undefined ? {} : { paddingToken }),
  };
}

/** Reads values of the metadata by what they must be; keys are those of the architecture. */
class MetadataReader {
  constructor(
    private readonly header: GgufHeader,
    private readonly architecture: string,
  ) {}

  bad(key: string, detail: string, prefix = `${this.architecture}.`): GgufError {
    return new GgufError('bad-header', this.header.file, detail, { key: prefix + key });
  }

  unsupported(key: string, detail: string): GgufError {
    return new GgufError('unsupported', this.header.file, detail, { key: `${this.architecture}.${key}` });
  }

  #of(key: string): unknown {
    return this.header.metadata.get(`${this.architecture}.${key}`);
  }

  optionalSize(key: string): number | undefined {
    const stored = this.#of(key);
    if (stored === undefined) return undefined;
    // Some files give one number per layer.
    const values = Array.isArray(stored) ? (stored as unknown[]) : [stored];
    const [value] = values;
    if (values.some((other) => other !== value))
      throw this.unsupported(key, 'sizes that differ between the layers are not supported.');
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 2 ** 31)
      throw this.bad(key, `${String(value)} is not a size.`);
    return value;
  }

  size(key: string): number {
    const value = this.optionalSize(key);
    if (value === undefined || value < 1) throw this.bad(key, `is ${value ?? 'missing'}; a decoder needs at least 1.`);
    return value;
  }

  number(key: string, otherwise: number | undefined): number {
    const value = this.#of(key) ?? otherwise;
    if (typeof value !== 'number' || !(value > 0) || !Number.isFinite(value))
      throw this.bad(key, `is ${String(value)}, not a positive number.`);
    // Stored as float32; the shortest decimal of that precision is the number that was meant.
    return Number(value.toPrecision(7));
  }

  text(key: string): string | undefined {
    const value = this.#of(key);
    return typeof value === 'string' ? value : undefined;
  }

  token(name: string): number | undefined {
    const value = this.header.metadata.get(`tokenizer.ggml.${name}`);
    // 0xffffffff stands for none.
    return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 32 - 1 ? value : undefined;
  }
}
