import { Program, crossEntropy, gradients, graph } from '@user-llm/onnx-autograd';
import type { Feeds, HostTensor, Tensor } from '@user-llm/onnx-autograd';
import { DecoderGraph } from '../src/decoder/decoder-graph.js';
import type { Decoder } from '../src/decoder/decoder.js';
import { trainingAttention } from '../src/decoder/training-graph.js';

const ids32 = (ids: ArrayLike<number>, shape: number[]): HostTensor => ({ dtype: 'int32', data: Int32Array.from(ids), shape });

/**
 * The training graph on whole rows: logits of all positions, the mean next-token loss, and its gradients at the token vectors and at the
 * weights that are named.
 */
export async function trainingStep(
  { config, weights }: Decoder,
  ids: ArrayLike<number>,
  rows: number,
  names: readonly string[] = [],
) {
  const length = ids.length / rows;
  const table = weights.get('model.embed_tokens.weight')!.data as Float32Array;
  const width = config.hiddenSize;
  const vectors = new Float32Array(ids.length * width);
  for (let i = 0; i < ids.length; i++) vectors.set(table.subarray(ids[i] * width, (ids[i] + 1) * width), i * width);
  const model = graph(({ builder }) => {
    const embedded = builder.input('inputs_embeds', ['batch', 'text', width]);
    const targets = builder.input('targets', ['batch*text'], 'int32');
    const used = builder.input('used', ['batch*text']);
    const decoder = new DecoderGraph(builder, config);
    const logits = decoder.hidden(embedded, trainingAttention(builder, config)).matmul(decoder.head, { transposeB: true });
    const losses = crossEntropy(logits.reshape([-1, config.vocabularySize]), targets);
    const loss = losses.mul(used).sum().div(used.sum());
    const [gradient, ...others] = gradients(loss, [embedded, ...names.map((name) => decoder.parameter(name))]);
    return { logits, loss, gradient, ...Object.fromEntries(others.map((other, i) => [`gradient of ${names[i]}`, other])) };
  });
  const targets = Array.from({ length: ids.length }, (_, i) => (i % length === length - 1 ? 0 : ids[i + 1]));
  const feeds: Feeds = {
    inputs_embeds: { dtype: 'float32', data: vectors, shape: [rows, length, width] },
    targets: ids32(targets, [ids.length]),
    used: {
      dtype: 'float32',
      data: Float32Array.from(targets, (_, i) => Number(i % length !== length - 1)),
      shape: [ids.length],
    },
  };
  const program = await Program.create(model, { weights });
  const outputs: Record<string, HostTensor> = await program.run(feeds);
  await program.dispose();
  const values = (name: string) => outputs[name].data as Float32Array;
  return {
    logits: values('logits'),
    loss: values('loss')[0],
    gradient: values('gradient'),
    weightGradient: (name: string) => values(`gradient of ${name}`),
  };
}

/** What goes into each layer for one row of tokens, and last what comes out of the last norm: each `[tokens, hiddenSize]`. */
export async function hiddenStates({ config, weights }: Decoder, ids: readonly number[]): Promise<Float32Array[]> {
  const definition = graph(({ builder }) => {
    const states: Record<string, Tensor> = {};
    const keep = (layer: number, x: Tensor) => ((states[`hidden.${layer}`] = x), x);
    const decoder = new DecoderGraph(builder, config, { beforeLayer: keep });
    const embedded = decoder.embed(builder.input('ids', ['rows', 'text'], 'int32'));
    keep(config.layers, decoder.hidden(embedded, trainingAttention(builder, config)));
    return states;
  });
  const program = await Program.create(definition, { weights });
  const outputs: Record<string, HostTensor> = await program.run({ ids: ids32(ids, [1, ids.length]) });
  await program.dispose();
  return Array.from({ length: config.layers + 1 }, (_, layer) => outputs[`hidden.${layer}`].data as Float32Array);
}
