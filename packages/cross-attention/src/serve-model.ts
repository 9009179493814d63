import type { Weights } from '@user-llm/onnx-autograd';
import { branchingModel, inferenceModel } from './decoder/inference-graph.js';
import type { InferenceAddition } from './decoder/inference-graph.js';
import { packableMatrix, servedCodes } from './decoder/packable-matrix.js';
import type { Precision } from './decoder/packable-matrix.js';
import { ValueFile, ValuesInside } from './decoder/value-store.js';
import type { ValueStore } from './decoder/value-store.js';
import type { DecoderConfig } from './folder/decoder-config.js';
import { userAddition, userModel } from './integration/integration.js';
import { namingModel } from './items/item-tokens.js';
import type { ModelContents } from './model-contents.js';
import { multipliesBytesAtOnce } from './serving/byte-products.js';
import type { ServedParts, ServeOptions } from './serving/engine.js';
import { ServedModel } from './serving/served-model.js';

/** Both ONNX files of a model, in memory, and the graph for rankings. */
export function servedParts(contents: ModelContents, precision: Precision = {}): ServedParts {
  return partsOf(contents, precision, new ValuesInside());
}

/**
 * Opens a model for inference. Quantised weights go to the session through a temporary file that it maps into memory: never are there
 * two copies of them in the process. See `Precision`.
 */
export async function serveModel(contents: ModelContents, asked: ServeOptions & Precision): Promise<ServedModel> {
  const options = { ...contents.precision, ...asked };
  const forms = Array.from(contents.weights, ([name, weight]) => packableMatrix(name, weight, options)?.form);
  if (forms.every((form) => form === undefined)) return ServedModel.create(servedParts(contents, options), options);
  const narrow = forms.reduce((sum, form) => sum + (form?.bits === 4 ? form.rows * form.width : 0), 0);
  const precision: Precision = { ...options, codes: servedCodes(narrow, options, multipliesBytesAtOnce()) };
  return ValueFile.during((file) =>
    ServedModel.create({ ...partsOf(contents, precision, file), valueFolder: file.folder }, options),
  );
}

function partsOf(contents: ModelContents, precision: Precision, store: ValueStore): ServedParts {
  const { config, weights, tokenizer, user, items, labels } = contents;
  const named = {
    ...(items && { items: { items: items.items, model: namingModel('item', items) } }),
    ...(labels && { labels: { items: labels.items, model: namingModel('label', labels) } }),
  };
  if (user === undefined) {
    const model = inferenceModel(config, weights, undefined, precision, store);
    return { config, tokenizer, model, branching: branchingOf(config, weights, undefined, precision), ...named };
  }
  const { integration, shape, weights: own, ...rest } = user;
  const all = new Map([...weights, ...own]);
  return {
    config,
    tokenizer,
    model: inferenceModel(config, all, userAddition(integration, config, shape, user.blindPrefix), precision, store),
    branching: branchingOf(config, all, userAddition(integration, config, shape), precision),
    ...named,
    user: { integration, shape, ...rest, model: userModel(integration, config, shape, own) },
  };
}

/** Opens the graph for rankings, its quantised weights by a temporary file as above. */
export const branchingOf =
  (config: DecoderConfig, weights: Weights, addition?: InferenceAddition, precision: Precision = {}): ServedParts['branching'] =>
  (open) =>
    ValueFile.during((file) => open(branchingModel(config, weights, addition, precision, file), file.folder));
