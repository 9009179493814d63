import type { HostTensor } from '@user-llm/onnx-autograd';
import { familyOf } from '../families/families.js';
import { decoderTensorShapes } from '../folder/decoder-config.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { readRange } from '../folder/file-range.js';
import type { FileSource } from '../folder/file-range.js';
import type { DecoderWeights } from '../folder/hugging-face.js';
import type { BlockFormatName } from './block-formats.js';
import { dequantize } from './dequantize.js';
import { GgufError } from './gguf-error.js';
import type { GgufHeader, GgufTensorInfo } from './gguf-header.js';

/** Weights as blocks of a format, rows after one another. */
export interface Blocks {
  readonly format: BlockFormatName;
  readonly bytes: Uint8Array;
}

/** Not the header itself: its word lists are large. */
const sourceOf = ({ file, fileBytes, modified }: GgufHeader): FileSource => ({ file, fileBytes, modified });

/**
 * A tensor that stays in its file until it is read. It serves wherever a float32 tensor does: `data` reads and dequantises it, and the
 * values live as long as somebody holds them. `blocks` gives it as it is stored, for graphs that compute with quantised weights.
 */
export class GgufTensor implements HostTensor {
  readonly dtype = 'float32';
  #values: WeakRef<Float32Array> | undefined;

  constructor(
    readonly shape: readonly number[],
    private readonly source: FileSource,
    private readonly info: GgufTensorInfo,
    /** Heads whose rows llama.cpp's rotation has interleaved; undone while reading. */
    private readonly interleavedHeads: number | undefined,
  ) {}

  get format(): BlockFormatName {
    return this.info.format.name;
  }

  get data(): Float32Array {
    const known = this.#values?.deref();
    if (known !== undefined) return known;
    const values = dequantize(this.info.format, this.blocks().bytes);
    this.#values = new WeakRef(values);
    return values;
  }

  /** The blocks, rows after one another. */
  blocks(): Blocks {
    const bytes = this.#read(0, new Uint8Array(this.info.bytes));
    return {
      format: this.format,
      bytes: this.interleavedHeads === undefined ? bytes : this.#inHalves(bytes, this.interleavedHeads),
    };
  }

  /** The blocks in pieces of whole rows, each read into the same memory; in one piece where rows must change places. */
  *pieces(memory: Uint8Array): Generator<Blocks> {
    const rowBytes = this.info.bytes / this.shape[0];
    const size = Math.floor(memory.length / rowBytes) * rowBytes;
    if (this.interleavedHeads !== undefined || size === 0) yield this.blocks();
    else
      for (let from = 0; from < this.info.bytes; from += size) {
        const into = memory.subarray(0, Math.min(size, this.info.bytes - from));
        yield { format: this.format, bytes: this.#read(from, into) };
      }
  }

  #read(from: number, into: Uint8Array): Uint8Array {
    const { name, begin } = this.info;
    return readRange(this.source, begin + from, into, (cause) => {
      const detail =
        'could not be read again: the file was moved, or is another one than when the model was loaded. Load it again.';
      return new GgufError('changed', this.source.file, detail, { tensor: name, cause });
    });
  }

  /**
   * llama.cpp rotates neighbours, transformers rotates halves: in a Llama file row 2 i + j of a head is what elsewhere is its row
   * i + j * size / 2. Whole rows move, so blocks stay as they are.
   */
  #inHalves(bytes: Uint8Array, heads: number): Uint8Array {
    const rows = this.shape[0];
    const rowBytes = bytes.length / rows;
    const size = rows / heads;
    const sorted = new Uint8Array(bytes.length);
    for (let row = 0; row < rows; row++) {
      const head = Math.floor(row / size);
      const within = row % size;
      const half = within < size / 2 ? 0 : 1;
      const source = head * size + 2 * (within - (half * size) / 2) + half;
      sorted.set(bytes.subarray(source * rowBytes, (source + 1) * rowBytes), row * rowBytes);
    }
    return sorted;
  }
}

/** The weights that a config asks for, each checked to be there in its shape. None of their values are read yet. */
export function ggufWeights(header: GgufHeader, config: DecoderConfig): DecoderWeights {
  const { file, tensors } = header;
  const weights: DecoderWeights = new Map();
  const source = sourceOf(header);
  const { pairedRows } = familyOf(config).gguf;
  for (const [name, shape] of decoderTensorShapes(config)) {
    const stored = storedName(name);
    const info = tensors.get(stored);
    if (info === undefined)
      throw new GgufError(
        'missing-tensor',
        file,
        `the file lacks this tensor of shape [${shape.join(', ')}], which its metadata calls for.`,
        {
          tensor: stored,
          expected: shape,
        },
      );
    if (info.shape.length !== shape.length || info.shape.some((size, i) => size !== shape[i]))
      throw new GgufError(
        'shape-mismatch',
        file,
        `has the shape [${info.shape.join(', ')}], but the metadata calls for [${shape.join(', ')}].`,
        { tensor: stored, expected: shape, actual: info.shape },
      );
    const heads = name.includes('.q_proj.') ? config.heads : name.includes('.k_proj.') ? config.keyValueHeads : undefined;
    weights.set(name, new GgufTensor(shape, source, info, pairedRows ? heads : undefined));
  }
  return weights;
}

/** The values of one tensor by its name in the file, in float32; undefined where there is none. */
export function ggufValues(header: GgufHeader, name: string): Float32Array | undefined {
  const info = header.tensors.get(name);
  return info && new GgufTensor(info.shape, sourceOf(header), info, undefined).data;
}

const parts: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
};
const outside: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
};

/** Hugging Face's name of a tensor as GGUF calls it. */
function storedName(name: string): string {
  const [, layer, part, kind] = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  return layer === undefined ? outside[name] : `blk.${layer}.${parts[part]}.${kind}`;
}
