import { uniform, zeros } from '@user-llm/onnx-autograd';
import type { GraphBuilder, Weights } from '@user-llm/onnx-autograd';
import { checkNames } from '../check-names.js';
import type { DecoderHooks } from '../decoder/decoder-graph.js';
import type { DecoderConfig } from '../folder/decoder-config.js';
import { AdaptationError } from '../errors.js';
import { decoderTensorShapes } from '../folder/decoder-config.js';

/** Low-rank adaptation (Hu et al., arXiv 2106.09685): y = x W + (alpha / rank) x A B on chosen projections; B starts at zero. */
export interface LoraOptions {
  /** Default 8. */
  readonly rank?: number;
  /** Default 16. */
  readonly alpha?: number;
  /** Last parts of the projections' names. Default `q_proj` and `v_proj`. */
  readonly targets?: readonly string[];
}

const prefix = 'lora.';
export const isLoraParameter = (name: string): boolean => name.startsWith(prefix);

/** The options with their defaults. */
export const loraSettings = ({ rank = 8, alpha = 16, targets = ['q_proj', 'v_proj'] }: LoraOptions) => ({ rank, alpha, targets });

/** Throws an `AdaptationError` for options by which nothing, or something else than was meant, would be added to a decoder. */
export function checkLoraOptions(options: LoraOptions, config: DecoderConfig): void {
  checkNames(options, ['rank', 'alpha', 'targets'], 'lora.');
  const { rank, alpha, targets } = loraSettings(options);
  if (!Number.isInteger(rank) || rank < 1)
    throw new AdaptationError('lora.rank', `must be a whole number of at least 1, and is ${rank}`);
  if (!(typeof alpha === 'number' && alpha > 0 && alpha < Infinity))
    throw new AdaptationError('lora.alpha', `must be a number above 0, and is ${alpha}`);
  const names = Array.from(decoderTensorShapes(config).keys(), (name) => name.split('.').at(-2)!);
  const known = [...new Set(names.filter((name) => name.endsWith('_proj')))].join(', ');
  if (!Array.isArray(targets) || targets.length === 0)
    throw new AdaptationError('lora.targets', `must be a list of projections, some of ${known}`);
  const unknown = (targets as readonly string[]).find((target) => !names.includes(target) || !target.endsWith('_proj'));
  if (unknown !== undefined) throw new AdaptationError('lora.targets', `there is no projection '${unknown}'; there are ${known}`);
}

/** The hooks that add LoRA to a decoder's graph. Parameters: `lora.PROJECTION.A` [rank, in], `lora.PROJECTION.B` [out, rank]. */
export function loraHooks(builder: GraphBuilder, config: DecoderConfig, options: LoraOptions): DecoderHooks {
  const { rank, alpha, targets } = loraSettings(options);
  const shapes = decoderTensorShapes(config);
  return {
    project(name, x, y) {
      if (!targets.includes(name.split('.').at(-1)!)) return y;
      const [output, input] = shapes.get(`${name}.weight`)!;
      const bound = 1 / Math.sqrt(input);
      const down = builder.parameter(`${prefix}${name}.A`, [rank, input], uniform(-bound, bound));
      const up = builder.parameter(`${prefix}${name}.B`, [output, rank], zeros());
      return y.add(x.matmul(down, { transposeB: true }).matmul(up, { transposeB: true, scale: alpha / rank }));
    },
  };
}

/**
 * The decoder's weights with trained LoRA matrices added in: W + (alpha / rank) B A, in float32. Where B is zero the weight is the one that it
 * was, in its blocks if it has some. The given maps are left as they are.
 */
export function mergeLora(decoder: Weights, trained: Weights, options: LoraOptions): Weights {
  const { rank, alpha } = loraSettings(options);
  const merged = new Map(decoder);
  for (const [name, { data: down, shape: downShape }] of trained) {
    if (!isLoraParameter(name) || !name.endsWith('.A')) continue;
    const projection = name.slice(prefix.length, -2);
    const target = decoder.get(`${projection}.weight`);
    const { data: up, shape } = trained.get(`${prefix}${projection}.B`)! as { data: Float32Array; shape: readonly number[] };
    const fits = target?.shape.length === 2 && target.shape[0] === shape[0] && target.shape[1] === downShape[1];
    if (target === undefined || !fits)
      throw new AdaptationError(
        'lora',
        `the adapter adds [${shape[0]}, ${downShape[1]}] to ${projection}, which is ${target === undefined ? 'not in the model' : `[${target.shape.join(', ')}]`}; it belongs to another model`,
      );
    if (alpha === 0 || up.every((value) => value === 0)) continue;
    const [output, input] = target.shape;
    const data = Float32Array.from(target.data as Float32Array);
    for (let o = 0; o < output; o++) {
      for (let r = 0; r < rank; r++) {
        const factor = (alpha / rank) * up[o * rank + r];
        if (factor === 0) continue;
        for (let i = 0; i < input; i++) data[o * input + i] += factor * (down as Float32Array)[r * input + i];
      }
    }
    merged.set(`${projection}.weight`, { dtype: 'float32', shape: target.shape, data });
  }
  return merged;
}
