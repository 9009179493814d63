import { describe, expect, test } from '@jest/globals';
import path from 'node:path';
import {
  attention,
  causalBias,
  concat,
  crossEntropy,
  gradients,
  graph,
  maskBias,
  mergeHeads,
  Program,
  readSafetensors,
  rotary,
  rotaryTables,
  splitHeads,
  weightedMean,
  where,
  type HostTensor,
  type Tensor,
} from '../src/index.js';
import { difference, fixtures, haveFixtures } from './support.js';

/** Each block as this package writes it; the reference holds its value, an upstream gradient and the gradient of every float input. */
const blocks: Record<string, (inputs: Record<string, Tensor>) => Tensor> = {
  'layer-norm': ({ x, w, b }) => x.layerNorm(w, b),
  'rms-norm': ({ x, w }) => x.rmsNorm(w),
  'gelu-erf': ({ x }) => x.gelu(),
  'gelu-tanh': ({ x }) => x.gelu('tanh'),
  silu: ({ x }) => x.silu(),
  softmax: ({ x }) => x.softmax(),
  'batched-matmul-broadcast': ({ a, b }) => a.matmul(b),
  'broadcast-add-mul': ({ x, b, s }) => x.add(b).mul(s),
  'swiglu-mlp': ({ x, wg, wu, wd }) => x.matmul(wg).silu().mul(x.matmul(wu)).matmul(wd),
  'lora-linear': ({ x, w, a, bm }) =>
    x.matmul(w).add(
      x
        .matmul(a)
        .matmul(bm)
        .mul(8 / 4),
    ),
  'embedding-repeated-ids': ({ table, ids }) => table.gather(ids),
  'cross-entropy-masked': ({ logits, labels }) => {
    const flat = labels.reshape([10]);
    const kept = flat.greaterOrEqual(0);
    const targets = where(kept, flat, flat.mul(0)).cast('int32');
    return weightedMean(crossEntropy(logits.reshape([10, 13]), targets), kept.cast('float32')).reshape([1]);
  },
  rotary: ({ x }) => {
    const { cosine, sine } = rotaryTables(x.graph, x.graph.range(5), 8);
    return rotary(x, cosine, sine);
  },
  'causal-gqa-padding': ({ x, wq, wk, wv, wo, pad }) => {
    const { cosine, sine } = rotaryTables(x.graph, x.graph.range(5), 4);
    // Two query heads share each key/value head: [B, kv heads, sharing, T, 4] against [B, kv heads, 1, T, 4].
    const query = rotary(splitHeads(x.matmul(wq), 4), cosine, sine).reshape([2, 2, 2, 5, 4]);
    const key = rotary(splitHeads(x.matmul(wk), 2), cosine, sine).unsqueeze(2);
    const value = splitHeads(x.matmul(wv), 2).unsqueeze(2);
    const bias = maskBias(pad.greater(0)).reshape([2, 1, 1, 1, 5]).add(causalBias(x.graph, 5));
    return mergeHeads(attention(query, key, value, { bias }).reshape([2, 4, 5, 4])).matmul(wo);
  },
  'gated-cross-attention': ({ x, user, g, gate, wq, wk, wv, wo, mask }) => {
    const bias = maskBias(mask.greater(0)).reshape([2, 1, 1, 3]);
    const read = attention(
      splitHeads(x.rmsNorm(g).matmul(wq), 4),
      splitHeads(user.matmul(wk), 4),
      splitHeads(user.matmul(wv), 4),
      { bias },
    );
    return x.add(mergeHeads(read).matmul(wo).mul(gate.tanh()));
  },
  'perceiver-resampler-attention': ({ x, latents, gx, bx, gl, bl, wq, wk, wv, wo, mask }) => {
    const start = latents.unsqueeze(0).expand([2, 3, 16]);
    const normalised = start.layerNorm(gl, bl);
    const read = concat([x.layerNorm(gx, bx), normalised], 1);
    const visible = concat([mask, mask.slice(1, 0, 3).mul(0).add(1)], 1).greater(0);
    const bias = maskBias(visible).reshape([2, 1, 1, 8]);
    return start.add(
      mergeHeads(
        attention(splitHeads(normalised.matmul(wq), 4), splitHeads(read.matmul(wk), 4), splitHeads(read.matmul(wv), 4), { bias }),
      ).matmul(wo),
    );
  },
  'in-batch-softmax-logq': ({ u, i, q }) => {
    const logits = u.matmul(i, { transposeB: true, scale: 10 }).sub(q.log());
    return crossEntropy(logits, u.graph.range(6)).mean().reshape([1]);
  },
  'gsasrec-gbce': ({ pos, neg }) => {
    const [alpha, t] = [0.05, 0.75];
    const beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha);
    // -log sigmoid(x) = softplus(-x)
    return pos.neg().softplus().mul(beta).add(neg.softplus().sum(1)).mean().reshape([1]);
  },
};

(haveFixtures ? describe : describe.skip)('values and gradients equal PyTorch', () => {
  let loaded: Promise<ReadonlyMap<string, HostTensor>> | undefined;
  const reference = (): Promise<ReadonlyMap<string, HostTensor>> =>
    (loaded ??= readSafetensors(path.join(fixtures, 'blocks.safetensors')).then(({ tensors }) => tensors));

  test.each(Object.keys(blocks))('%s', async (name) => {
    const tensors = await reference();
    const inputs = new Map(
      [...tensors].filter(([key]) => key.startsWith(`${name}/in/`)).map(([key, tensor]) => [key.slice(name.length + 4), tensor]),
    );
    const differentiated = [...inputs.keys()].filter((key) => tensors.has(`${name}/grad/${key}`));
    expect(differentiated.length).toBeGreaterThan(0);
    const upstream = tensors.get(`${name}/upstream`)!;
    const definition = graph(({ input }) => {
      const symbols = Object.fromEntries([...inputs].map(([key, { shape, dtype }]) => [key, input(key, shape, dtype)]));
      const value = blocks[name](symbols);
      const found = gradients(
        value,
        differentiated.map((key) => symbols[key]),
        input('upstream', upstream.shape),
      );
      return { value, ...Object.fromEntries(found.map((gradient, i) => [`gradient of ${differentiated[i]}`, gradient])) };
    });
    const program = await Program.create(definition, { weights: new Map(), threads: 1 });
    const results = await program.run({ ...Object.fromEntries(inputs), upstream });
    expect(difference(results.value, tensors.get(`${name}/out`)!)).toBeLessThan(2e-6);
    for (const key of differentiated)
      expect([key, difference(results[`gradient of ${key}`], tensors.get(`${name}/grad/${key}`)!)]).toEqual([
        key,
        expect.closeTo(0, 5),
      ]);
    await program.dispose();
  });

  test('no block of the reference is left out', async () => {
    const names = new Set([...(await reference()).keys()].map((key) => key.split('/')[0]));
    // The optimizers have a test of their own; sparse Adam (moments of untouched rows standing still) is not offered.
    expect([...names].sort()).toEqual([...Object.keys(blocks), 'optimizer', 'sparse-adam'].sort());
  });
});
