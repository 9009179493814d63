import {
  attention,
  causalBias,
  concat,
  graph,
  linearCrossEntropy,
  mergeHeads,
  multiHeadAttention,
  normal,
  ones,
  rotary,
  rotaryTables,
  splitHeads,
  weightedMean,
  zeros,
  type GraphDefinition,
  type Initializer,
  type Tensor,
} from '@user-llm/onnx-autograd';

/** Shape letters: B sequences in a batch, T events, S text tokens, D width, H heads, V vocabulary. */
export interface SasrecShape {
  readonly batch: number;
  readonly events: number;
  readonly width: number;
  readonly heads: number;
  readonly layers: number;
  readonly items: number;
  readonly dropout: number;
}

type Loss = { loss: Tensor };

/** The next-item transformer of the peer: pre-norm, ReLU, tied table, softmax over all items at every position. */
export function sasrec({ events: T, width: D, heads, layers, items, dropout }: SasrecShape): GraphDefinition<Loss> {
  return graph(({ builder, input, parameter }) => {
    const rows = `batch*${T}`;
    const table = parameter('item', [items, D], normal(0.02));
    let x = table
      .gather(input('ids', ['batch', T], 'int32'))
      .add(parameter('position', [T, D], normal(0.02)))
      .dropout(dropout); // [B, T, D]
    const bias = causalBias(builder, T);
    for (let layer = 0; layer < layers; layer++) {
      const own = (name: string, shape: number[], initializer: Initializer = normal(0.02)): Tensor =>
        parameter(`${layer}.${name}`, shape, initializer);
      const norm = (y: Tensor, name: string): Tensor =>
        y.layerNorm(own(`${name}.weight`, [D], ones()), own(`${name}.bias`, [D], zeros()));
      const [q, k, v] = norm(x, 'n1')
        .linear(own('qkv', [D, 3 * D]), own('qkv.bias', [3 * D], zeros()))
        .split(-1, [D, D, D]);
      x = x.add(
        multiHeadAttention(q, k, v, heads, { bias })
          .matmul(own('o', [D, D]))
          .dropout(dropout),
      );
      const up = norm(x, 'n2')
        .linear(own('up', [D, 4 * D]), own('up.bias', [4 * D], zeros()))
        .relu();
      x = x.add(up.matmul(own('down', [4 * D, D])).dropout(dropout));
    }
    const last = x.layerNorm(parameter('norm.weight', [D], ones()), parameter('norm.bias', [D], zeros())).reshape([rows, D]);
    const losses = linearCrossEntropy(last, table, input('labels', [rows], 'int32'));
    return { loss: weightedMean(losses, input('weights', [rows])) };
  });
}

/** SmolLM2-135M's shape: 30 layers, nine query heads that share three key/value heads. */
export const decoderShape = {
  layers: 30,
  width: 576,
  heads: 9,
  keyHeads: 3,
  headWidth: 64,
  inner: 1536,
  vocabulary: 49_152,
  every: 4,
  userTokens: 16,
  userWidth: 128,
};

/** Uniform numbers of a standard deviation, fast: half a gigabyte of them stands in for a pretrained model. */
const noise =
  (deviation: number): Initializer =>
  (shape, random) => {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    let state = random.uint32() | 1;
    for (let i = 0; i < data.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      data[i] = ((state >>> 0) / 2 ** 32 - 0.5) * deviation * Math.sqrt(12);
    }
    return data;
  };

/** A frozen Llama whose every fourth layer is preceded by gated cross-attention to user tokens (Flamingo, eq. of section 3.1.2). */
export function decoderWithAdapters(tokens: number): GraphDefinition<Loss> {
  const { layers, width, heads, keyHeads, headWidth, inner, vocabulary, every, userTokens, userWidth } = decoderShape;
  const shared = heads / keyHeads;
  return graph(({ builder, input, parameter }) => {
    const linear = (name: string, from: number, to: number): Tensor => parameter(name, [from, to], noise(0.02));
    const table = parameter('embedding', [vocabulary, width], noise(0.02));
    const user = input('user', ['batch', userTokens, userWidth]);
    const { cosine, sine } = rotaryTables(builder, builder.range(tokens), headWidth, 100_000);
    const bias = concat(Array<Tensor>(shared).fill(causalBias(builder, tokens)), 0);
    /** Query heads that share keys are stacked along the positions: [B, key heads, shared * S, w] against [B, key heads, S, w]. */
    const grouped = (q: Tensor, k: Tensor, v: Tensor, mask?: Tensor): Tensor => {
      const read = attention(q.reshape(['batch', keyHeads, shared * tokens, headWidth]), k, v, mask ? { bias: mask } : {});
      return mergeHeads(read.reshape(['batch', heads, tokens, headWidth]));
    };
    let x = table.gather(input('ids', ['batch', tokens], 'int32')); // [B, S, D]
    for (let layer = 0; layer < layers; layer++) {
      if (layer % every === every - 1) {
        const own = (name: string): string => `adapter.${layer}.${name}`;
        const h = x.rmsNorm(parameter(own('norm'), [width], ones()));
        const read = grouped(
          splitHeads(h.matmul(linear(own('q'), width, width)), heads),
          splitHeads(user.matmul(linear(own('k'), userWidth, keyHeads * headWidth)), keyHeads),
          splitHeads(user.matmul(linear(own('v'), userWidth, keyHeads * headWidth)), keyHeads),
        );
        const gate = parameter(own('gate'), [1], (shape) => new Float32Array(shape[0]).fill(0.5)).tanh();
        x = x.add(read.matmul(linear(own('o'), width, width)).mul(gate));
      }
      const own = (name: string): string => `${layer}.${name}`;
      const h = x.rmsNorm(parameter(own('input norm'), [width], ones()));
      const q = rotary(splitHeads(h.matmul(linear(own('q'), width, width)), heads), cosine, sine);
      const k = rotary(splitHeads(h.matmul(linear(own('k'), width, keyHeads * headWidth)), keyHeads), cosine, sine);
      const v = splitHeads(h.matmul(linear(own('v'), width, keyHeads * headWidth)), keyHeads);
      x = x.add(grouped(q, k, v, bias).matmul(linear(own('o'), width, width)));
      const m = x.rmsNorm(parameter(own('mlp norm'), [width], ones()));
      const gated = m
        .matmul(linear(own('gate'), width, inner))
        .silu()
        .mul(m.matmul(linear(own('up'), width, inner)));
      x = x.add(gated.matmul(linear(own('down'), inner, width)));
    }
    const last = x.rmsNorm(parameter('norm', [width], ones())).reshape([`batch*${tokens}`, width]);
    return { loss: linearCrossEntropy(last, table, input('labels', [`batch*${tokens}`], 'int32')).mean() };
  });
}
