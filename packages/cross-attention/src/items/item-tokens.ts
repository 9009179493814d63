import { GraphBuilder, onnxWeights, toOnnx, zeros } from '@user-llm/onnx-autograd';
import type { GraphBuilder as Builder, HostTensor, Tensor } from '@user-llm/onnx-autograd';
import type { Decoder } from '../decoder/decoder.js';
import { productWithTransposed } from '../decoder/decoder-graph.js';
import { fitRidge } from './ridge-regression.js';

/** Something that can be ranked: `text` is what the model would say. */
export interface Candidate {
  readonly id: string;
  readonly text: string;
}

/** What a model names by one token each: the items of a catalogue, or labels, such as the genres of 'Which genre do I like best?'. */
export type NamedKind = 'item' | 'label';

export const namedKinds: readonly NamedKind[] = ['item', 'label'];

/** The method that makes tokens of a kind, for errors. */
export const makerOf: Readonly<Record<NamedKind, string>> = { item: 'withItemTokens', label: 'withLabelTokens' };

/**
 * Items (or labels) that a model names with one token each. Such a token only ever ends an answer, so all that there is of it is a row of
 * an output matrix beside the vocabulary's: the product of the rows with the state after a prompt is a logit for every item.
 */
export interface ItemTokens {
  readonly items: readonly Candidate[];
  /** `[items, hidden]` float32 */
  readonly rows: HostTensor;
}

/** The same items with other rows; none where there are none. */
export const withRows = (named: ItemTokens | undefined, rows: HostTensor | undefined): ItemTokens | undefined =>
  named && { ...named, rows: rows! };

/** Name of the rows among a joint model's weights. */
export const rowsName = (kind: NamedKind): string => `${kind}_tokens.weight`;

/** The rows as a parameter of a graph. */
export const rowsParameter = (builder: Builder, kind: NamedKind, count: number, width: number): Tensor =>
  builder.parameter(rowsName(kind), [count, width], zeros());

/** `items.onnx` or `labels.onnx`: `last_hidden_state` [rows, hidden] to `item_logits` or `label_logits` [rows, items]. */
export function namingModel(kind: NamedKind, { rows }: ItemTokens): Uint8Array {
  const [count, width] = rows.shape;
  const builder = GraphBuilder.create();
  const states = builder.input('last_hidden_state', ['rows', width]);
  const logits = productWithTransposed(states, rowsParameter(builder, kind, count, width));
  return toOnnx({ outputs: { [`${kind}_logits`]: logits }, weights: new Map([[rowsName(kind), rows]]) }).bytes;
}

/** The rows in a graph that `namingModel` made. */
export function namingModelRows(kind: NamedKind, model: Uint8Array): HostTensor | undefined {
  return onnxWeights(model).get(rowsName(kind));
}

/**
 * Tokens for items or labels, after those that there are. The first ones start as the mean of their titles' token vectors (rows of the output
 * matrix). Where others were trained already, new ones start where training has taken titles like theirs: the difference between the
 * known items' rows and their titles' means, as a linear function of those means (ridge regression).
 *
 * @param encode a title's token ids
 */
export function withNamed(
  kind: NamedKind,
  decoder: Decoder,
  known: ItemTokens | undefined,
  added: readonly Candidate[],
  encode: (text: string) => readonly number[],
): ItemTokens {
  const ids = new Set(known?.items.map(({ id }) => id));
  for (const { id } of added) {
    if (ids.has(id)) throw new RangeError(`The ${kind} '${id}' has a token already; give each ${kind} once.`);
    ids.add(id);
  }
  const items = [...(known?.items ?? []), ...added];
  if (items.length === 0) throw new RangeError(`There are no ${kind}s to make tokens for; give at least one.`);
  const width = decoder.config.hiddenSize;
  const means = titleMeans(
    decoder,
    items.map(({ text }) => encode(text)),
  );
  const rows = Float32Array.from(means);
  if (known !== undefined) {
    const trained = known.rows.data as Float32Array;
    rows.set(trained);
    const learned = fitRidge(
      means.subarray(0, trained.length),
      trained.map((value, i) => value - means[i]),
      width,
    );
    for (let at = trained.length; at < rows.length; at += width) {
      const change = learned(means.subarray(at, at + width));
      for (let i = 0; i < width; i++) rows[at + i] += change[i];
    }
  }
  return { items, rows: { dtype: 'float32', shape: [items.length, width], data: rows } };
}

/** The mean of each title's token vectors, `[titles, hidden]`; zeros where it has none. */
function titleMeans({ config, weights }: Decoder, titles: readonly (readonly number[])[]): Float32Array {
  const width = config.hiddenSize;
  const table = weights.get(config.tiedEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight')!.data as Float32Array;
  const means = new Float32Array(titles.length * width);
  titles.forEach((ids, item) => {
    for (const id of ids) for (let i = 0; i < width; i++) means[item * width + i] += table[id * width + i] / ids.length;
  });
  return means;
}
