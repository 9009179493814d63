import { availableParallelism } from 'node:os';
import type { OnnxOptions, Weights } from '@user-llm/onnx-autograd';
import { branchingModel, inferenceModel } from './decoder/inference-graph.js';
import type { Computation, InferenceAddition } from './decoder/inference-graph.js';
import { packableMatrix, servedCodes } from './decoder/packable-matrix.js';
import type { Precision } from './decoder/packable-matrix.js';
import { ValueFile, ValuesInside, fitInside } from './decoder/value-store.js';
import type { ValueStore } from './decoder/value-store.js';
import type { DecoderConfig } from './folder/decoder-config.js';
import { userAddition, userModel } from './integration/integration.js';
import { namingModel } from './items/item-tokens.js';
import type { ModelContents } from './model-contents.js';
import { multipliesBytesAtOnce } from './serving/byte-products.js';
import { checkServeOptions } from './serving/check-options.js';
import type { InIntegers, ServedParts, ServeModelOptions, ServeOptions } from './serving/engine.js';
import { ServedModel } from './serving/served-model.js';
import { watchChannels } from './serving/watch-channels.js';
import type { WatchedModel } from './serving/watch-channels.js';

/** Both ONNX files of a model, in memory, and the graph for rankings. Throws a `ModelSizeError` for a model too large for one file. */
export function servedParts(
  contents: ModelContents,
  precision: Precision = {},
  limits: Pick<OnnxOptions, 'mostBytes'> = {},
): ServedParts {
  return partsOf(contents, precision, new ValuesInside(limits));
}

/**
 * Opens a model for inference. Quantised weights, and those of a large model, go to the session through a temporary file that it maps into
 * memory: never are there two copies of them in the process. See `Precision` and `ServeModelOptions`; rejects with a `RangeError` for one
 * that cannot be.
 */
export async function serveModel(contents: ModelContents, asked: ServeModelOptions): Promise<ServedModel> {
  checkServeOptions(asked);
  const { int8 = false, ...rest } = asked;
  const options = { ...contents.precision, ...rest };
  const computation = int8 === false ? inBlocks(contents, options) : await integerComputation(contents, { ...options, int8 });
  if (computation === undefined && fitInside(contents.weights.values()))
    return ServedModel.create(servedParts(contents, options), options);
  return ValueFile.during((file) =>
    ServedModel.create({ ...partsOf(contents, computation ?? options, file), valueFolder: file.folder }, options),
  );
}

/** With the weights as they are stored; undefined where none is in blocks. */
function inBlocks({ weights }: ModelContents, options: Precision): Precision | undefined {
  const forms = Array.from(weights, ([name, weight]) => packableMatrix(name, weight, options)?.form);
  if (forms.every((form) => form === undefined)) return undefined;
  const narrow = forms.reduce((sum, form) => sum + (form?.bits === 4 ? form.rows * form.width : 0), 0);
  return { ...options, codes: servedCodes(narrow, options, multipliesBytesAtOnce()) };
}

/**
 * How a graph computes the layers' products in integers, by what the model's channels are seen to become; see `ServeModelOptions.int8`. Of
 * what stays in blocks, the head, one row runs at a time, for which nibbles are faster. Throws a `RangeError` for options that cannot be, a
 * text without tokens, or ids that are none of the model's, and a `TokenizerError` where words are to be read by a model that came without a tokenizer.
 */
export async function integerComputation(
  contents: WatchedModel,
  { int8, threads = availableParallelism(), ...precision }: ServeOptions & Precision & { readonly int8: InIntegers },
): Promise<Computation> {
  checkServeOptions({ int8, threads, ...precision });
  const text = typeof int8 === 'object' ? int8.text : undefined;
  const peaks = await watchChannels(contents, precision, { text, threads });
  return { codes: 'nibbles', ...precision, integers: { peaks, weightRange: multipliesBytesAtOnce() ? 127 : 63 } };
}

function partsOf(contents: ModelContents, computation: Computation, store: ValueStore): ServedParts {
  const { config, weights, tokenizer, user, items, labels } = contents;
  const named = {
    ...(items && { items: { items: items.items, model: namingModel('item', items) } }),
    ...(labels && { labels: { items: labels.items, model: namingModel('label', labels) } }),
  };
  if (user === undefined) {
    const model = inferenceModel(config, weights, undefined, computation, store);
    return { config, tokenizer, model, branching: branchingOf(config, weights, undefined, computation), ...named };
  }
  const { integration, shape, weights: own, ...rest } = user;
  const all = new Map([...weights, ...own]);
  return {
    config,
    tokenizer,
    model: inferenceModel(config, all, userAddition(integration, config, shape, user.blindPrefix), computation, store),
    branching: branchingOf(config, all, userAddition(integration, config, shape), computation),
    ...named,
    user: { integration, shape, ...rest, model: userModel(integration, config, shape, own) },
  };
}

/** Opens the graph for rankings, its quantised weights by a temporary file as above. */
export const branchingOf =
  (
    config: DecoderConfig,
    weights: Weights,
    addition?: InferenceAddition,
    computation: Computation = {},
  ): ServedParts['branching'] =>
  (open) =>
    ValueFile.during((file) => open(branchingModel(config, weights, addition, computation, file), file.folder));
