import { ShapeError } from '../errors.js';
import type { Dim } from '../dim.js';
import type { GraphBuilder } from '../graph-builder.js';
import type { Tensor } from '../tensor.js';
import { unbroadcast } from '../broadcast.js';
import { where } from './elementwise.js';
import { matmul } from './matmul.js';
import { after } from './order.js';
import { concat, split } from './shaping.js';

/** What a masked score becomes: far below any real one, and still finite. */
const masked = -1e9;

export interface AttentionOptions {
  /** Added to the scores before the softmax; broadcasts to [..., queries, keys]. It may carry gradients (a learned bias). */
  bias?: Tensor;
  /** A factor on the scores; the default is 1 / sqrt(width of a head). */
  scale?: number;
}

/**
 * Scaled dot-product attention (Vaswani et al. 2017, eq. 1): softmax(q k^T scale + bias) v.
 *
 * @param q [..., queries, width]
 * @param k [..., keys, width]
 * @param v [..., keys, value width]; leading axes broadcast, so that grouped heads share keys and values.
 * @returns [..., queries, value width]
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  return attend(q, k, v, options, false);
}

/** @param oneOfSeveral what reads the scores' gradient is to run while it is in cache, before another part's is made */
function attend(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions, oneOfSeveral: boolean): Tensor {
  const width = q.shape.at(-1);
  if (typeof width !== 'number') throw new ShapeError('attention', [q], 'the width of a head must be a number');
  const scale = options.scale ?? 1 / Math.sqrt(width);
  const scores = matmul(q, k, { transposeB: true, scale });
  const biased = options.bias ? scores.add(options.bias) : scores;
  const weights = biased.softmax();
  const output = matmul(weights, v);
  const inputs = options.bias ? [q, k, v, options.bias] : [q, k, v];
  return q.graph.custom(inputs, [output], (_, [g], [needQ, needK, needV, needBias]) => {
    const gradV = needV ? unbroadcast(transposedProduct(weights, g!), v.shape) : null;
    if (!needQ && !needK && !needBias) return [null, null, gradV, null];
    // The softmax's gradient is P (dP - sum_j dP_ij P_ij), and that sum is dO_i . O_i: one more column of the product that gives dP, with
    // ones on the other side, takes it off without a pass over [queries, keys].
    const delta = g!.mul(output).sum(-1, true);
    const ones = q.graph.filled([...v.shape.slice(0, -1), 1], 1);
    const gradScores = weights.mul(matmul(concat([g!, delta.neg()], -1), concat([v, ones], -1), { transposeB: true }));
    const gradK = needK ? unbroadcast(transposedProduct(gradScores, q, scale), k.shape) : null;
    const gradQ = needQ ? unbroadcast(matmul(gradScores, k, { scale }), q.shape) : null;
    return [
      gradQ && oneOfSeveral
        ? after(
            gradQ,
            [gradK, gradV].filter((gradient) => gradient !== null),
          )
        : gradQ,
      gradK,
      gradV,
      needBias && options.bias ? unbroadcast(gradScores, options.bias.shape) : null,
    ];
  })[0];
}

/**
 * a^T b scale for a [..., queries, keys] and b [..., queries, width]. A product reads a transposed operand slowly, so the narrow one is
 * transposed: (b^T a)^T.
 */
function transposedProduct(a: Tensor, b: Tensor, scale = 1): Tensor {
  const [keys, width] = [a.shape.at(-1)!, b.shape.at(-1)!];
  if (typeof keys === 'number' && typeof width === 'number' && keys < 2 * width) return matmul(a, b, { transposeA: true, scale });
  const product = matmul(b, a, { transposeA: true, scale });
  return product.transpose(
    [...product.shape.keys()].map((axis) => (axis < product.rank - 2 ? axis : 2 * product.rank - 3 - axis)),
  );
}

/** [queries, keys]: 0 where a key is at or before the query, and (with `window`) fewer than `window` before it; far below otherwise. */
export function causalBias(graph: GraphBuilder, queries: Dim, keys: Dim = queries, window?: number): Tensor {
  const row = graph.range(queries).reshape([queries, 1]);
  const column = graph.range(keys).reshape([1, keys]);
  let visible = column.lessOrEqual(row);
  if (window !== undefined) visible = visible.and(column.greater(row.sub(window)));
  return maskBias(visible);
}

/** A boolean mask (true: visible) as an attention bias. */
export const maskBias = (visible: Tensor): Tensor => where(visible, visible.graph.constant(0), visible.graph.constant(masked));

/** [rows, positions, heads * width] to [rows, heads, positions, width]. */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [rows, positions, width] = x.shape;
  if (typeof width !== 'number' || width % heads !== 0)
    throw new ShapeError('splitHeads', [x], `a width of ${width} does not divide by ${heads} heads`);
  return x.reshape([rows, positions, heads, width / heads]).transpose([0, 2, 1, 3]);
}

/** Heads that attend at once: of eight heads, scores of two for 24 windows of 200 events are 8 MB, which stay in a cache; of all, 31 MB. */
const headsAtOnce = 2;

/**
 * Attention of several heads side by side (Vaswani et al. 2017, section 3.2.2, without its projections). In a training graph two heads attend
 * at a time, forwards and back: their scores are still in cache when the next operation reads them.
 *
 * @param q [rows, queries, heads * width]
 * @param k, v [rows, keys, heads * width]
 * @param options.bias broadcasts to [rows, heads, queries, keys]
 * @returns [rows, queries, heads * width]
 */
export function multiHeadAttention(q: Tensor, k: Tensor, v: Tensor, heads: number, options: AttentionOptions = {}): Tensor {
  for (const x of [q, k, v])
    if (typeof x.shape[2] !== 'number' || x.shape[2] % heads !== 0)
      throw new ShapeError('multiHeadAttention', [q, k, v], `a width of ${x.shape[2]} does not divide by ${heads} heads`);
  const { bias } = options;
  const perHead = bias !== undefined && bias.rank > 2 && bias.shape.at(-3) !== 1;
  const groups = q.graph.training && !perHead && heads % headsAtOnce === 0 ? heads / headsAtOnce : 1;
  const parts = [q, k, v].map((x) => {
    const width = Number(x.shape[2]) / groups;
    return groups === 1 ? [x] : split(x, 2, Array<number>(groups).fill(width));
  });
  const attended = parts[0].map((_, group) => {
    const [query, keys, values] = parts.map((part) => splitHeads(part[group], heads / groups));
    return mergeHeads(attend(query, keys, values, options, groups > 1));
  });
  return concat(attended, 2);
}

/** The inverse of splitHeads. */
export function mergeHeads(x: Tensor): Tensor {
  const [rows, heads, positions, width] = x.shape;
  return x.transpose([0, 2, 1, 3]).reshape([rows, positions, Number(heads) * Number(width)]);
}

/**
 * Rotary position embedding (Su et al. 2021), rotate-half convention: x cos + rotateHalf(x) sin.
 *
 * @param x [..., positions, width]
 * @param cosine, sine [..., positions, width], each half repeated
 */
export function rotary(x: Tensor, cosine: Tensor, sine: Tensor): Tensor {
  const halves = tables.get(cosine);
  if (halves?.sine === sine && x.rank === 4) return fusedRotary(x, halves);
  const width = Number(x.shape.at(-1));
  const half = width / 2;
  // rotateHalf is a product with a signed permutation, whose gradient is the transposed product.
  const permutation = new Float32Array(width * width);
  for (let i = 0; i < half; i++) {
    permutation[(i + half) * width + i] = -1;
    permutation[i * width + i + half] = 1;
  }
  return x.mul(cosine).add(matmul(x, x.graph.constant(permutation, [width, width])).mul(sine));
}

/** By cosines of positions that all rows share: the sines, and the angles that both are of, [positions, width / 2]. */
const tables = new WeakMap<Tensor, { sine: Tensor; angles: Tensor }>();

/** One kernel of onnxruntime, where the general form is a product and three passes. */
function fusedRotary(x: Tensor, { angles }: { angles: Tensor }): Tensor {
  const cosine = angles.cos();
  // One number stands for the position of the first token, in place of positions for all.
  const first = x.graph.constant([0], [1], 'int64');
  const turn = (value: Tensor, sine: Tensor): Tensor => {
    const turned = value.graph.operator('RotaryEmbedding', [value, first, cosine, sine], {
      domain: 'com.microsoft',
      attributes: { interleaved: 0 },
      outputs: [{ dtype: value.dtype, shape: value.shape }],
    });
    // A rotation is orthogonal: its gradient turns back.
    return value.graph.custom([value], turned, (_, [g]) => [turn(g!, sine.neg())])[0];
  };
  return turn(x, angles.sin());
}

/** cos and sin of position times frequency for rotary(): each [positions, width]. */
export function rotaryTables(
  graph: GraphBuilder,
  positions: Tensor,
  width: number,
  frequencies: Float32Array | number = 10_000,
): { cosine: Tensor; sine: Tensor } {
  const inverse =
    typeof frequencies === 'number'
      ? Float32Array.from({ length: width / 2 }, (_, i) => frequencies ** ((-2 * i) / width))
      : frequencies;
  const both = new Float32Array(width);
  both.set(inverse);
  both.set(inverse, width / 2);
  const column = positions.cast('float32').unsqueeze(positions.rank);
  const angles = column.mul(graph.constant(both, [width]));
  const [cosine, sine] = [angles.cos(), angles.sin()];
  if (positions.rank === 1) tables.set(cosine, { sine, angles: column.mul(graph.constant(inverse, [width / 2])) });
  return { cosine, sine };
}
