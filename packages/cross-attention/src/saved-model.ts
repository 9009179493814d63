import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { decodeSafetensors, encodeSafetensors, onnxWeights } from '@user-llm/onnx-autograd';
import type { Weights } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { branchingModel, inferenceModel, inferenceModelBeside } from './decoder/inference-graph.js';
import type { InferenceAddition } from './decoder/inference-graph.js';
import { packableMatrix, smallCodes } from './decoder/packable-matrix.js';
import type { Precision } from './decoder/packable-matrix.js';
import { ValueFile } from './decoder/value-store.js';
import { decoderTensorShapes } from './folder/decoder-config.js';
import type { DecoderConfig } from './folder/decoder-config.js';
import { readContextualFile, readContextualFolder, writeContextualFolder } from './folder/contextual-folder.js';
import { readDecoderWeights } from './folder/hugging-face.js';
import { ModelFolderError } from './folder/model-folder-error.js';
import { readItems, savedItems } from './items/saved-items.js';
import { namingModel } from './items/item-tokens.js';
import type { ItemTokens } from './items/item-tokens.js';
import { integrationOf } from './integration/integration-of.js';
import type { BlindPrefix } from './integration/blind-prefix.js';
import { userAddition, userModel } from './integration/integration.js';
import type { Integration, UserShape } from './integration/integration.js';
import { ServedModel } from './serving/served-model.js';
import type { ServeOptions, ServedParts } from './serving/engine.js';
import { TextTokenizer } from './text/text-tokenizer.js';
import type { TokenizerFiles } from './text/byte-level-bpe.js';

/** How a language model reads users: by which integration, whose embeddings, with which weights. */
export interface UserReading {
  readonly integration: Integration;
  readonly shape: UserShape;
  /** Hash of the encoder whose embeddings it reads. */
  readonly encoder: string;
  readonly weights: Weights;
  /** Where prompts may begin without the user. */
  readonly blindPrefix?: BlindPrefix;
}

/** A language model as it is saved. */
export interface ModelContents {
  readonly config: DecoderConfig;
  readonly weights: Weights;
  readonly tokenizer: TextTokenizer;
  readonly user?: UserReading;
  readonly items?: ItemTokens;
  /** Labels that it names by tokens of their own. */
  readonly labels?: ItemTokens;
  /** What it was made from, for people. */
  readonly base: string;
  /** How it was trained: JSON. */
  readonly training?: unknown;
}

const userWeightsFile = 'user_llm.safetensors';
const weightsFile = 'model.safetensors';

const manifestSchema = z.looseObject({
  base: z.string(),
  training: z.unknown().optional(),
  adapter: z
    .looseObject({
      kind: z.string(),
      settings: z.record(z.string(), z.number()),
      userTokens: z.int().positive(),
      userWidth: z.int().positive(),
      encoder: z.string(),
      blindPrefix: z.object({ readingTokens: z.int().positive().exactOptional() }).exactOptional(),
    })
    .nullable(),
});

/** Both ONNX files of a model, in memory, and the graph for rankings. */
export function servedParts(contents: ModelContents, precision: Precision = {}): ServedParts {
  return partsOf(contents, precision, (weights, addition) => inferenceModel(contents.config, weights, addition, precision));
}

/**
 * Opens a model for inference. Quantised weights go to the session through a temporary file that it maps into memory: never are there
 * two copies of them in the process. See `Precision`.
 */
export async function serveModel(contents: ModelContents, options: ServeOptions & Precision): Promise<ServedModel> {
  const forms = Array.from(contents.weights, ([name, weight]) => packableMatrix(name, weight, options)?.form);
  if (forms.every((form) => form === undefined)) return ServedModel.create(servedParts(contents, options), options);
  const narrow = forms.reduce((sum, form) => sum + (form?.bits === 4 ? form.rows * form.width : 0), 0);
  const faster = narrow <= smallCodes && options.accuracyLevel !== 0 ? 'bytes' : 'nibbles';
  const precision: Precision = { ...options, codes: options.codes ?? faster };
  const file = new ValueFile();
  try {
    const model = (weights: Weights, addition?: InferenceAddition) =>
      inferenceModelBeside(file, contents.config, weights, addition, precision);
    return await ServedModel.create({ ...partsOf(contents, precision, model), valueFolder: file.folder }, options);
  } finally {
    file.remove();
  }
}

function partsOf(
  { config, weights, tokenizer, user, items, labels }: ModelContents,
  options: Precision,
  model: (weights: Weights, addition?: InferenceAddition) => Uint8Array,
): ServedParts {
  const named = {
    ...(items && { items: { items: items.items, model: namingModel('item', items) } }),
    ...(labels && { labels: { items: labels.items, model: namingModel('label', labels) } }),
  };
  if (user === undefined) {
    const branching = () => branchingModel(config, weights, undefined, options);
    return { config, tokenizer, model: model(weights), branching, ...named };
  }
  const { integration, shape, weights: own, ...rest } = user;
  const all = new Map([...weights, ...own]);
  return {
    config,
    tokenizer,
    model: model(all, userAddition(integration, config, shape, user.blindPrefix)),
    branching: () => branchingModel(config, all, userAddition(integration, config, shape), options),
    ...named,
    user: { integration, shape, ...rest, model: userModel(integration, config, shape, own) },
  };
}

/** Writes a model as a folder that transformers.js opens, whole or not at all; with `trainable`, also the weights to train on from. */
export async function saveModel(
  folder: string,
  contents: ModelContents,
  { trainable, ...precision }: { trainable: boolean } & Precision,
): Promise<void> {
  const { config, user } = contents;
  const parts = servedParts(contents, precision);
  const count = user?.integration.placeholders(user.shape) ?? 0;
  const extra: Record<string, Uint8Array> = { ...savedItems('item', parts.items), ...savedItems('label', parts.labels) };
  if (trainable) {
    extra[weightsFile] = encodeSafetensors(contents.weights, { format: 'pt' });
    if (user !== undefined) extra[userWeightsFile] = encodeSafetensors(user.weights);
  }
  await writeContextualFolder(folder, {
    config,
    tokenizer: withPlaceholderTokens(contents.tokenizer.files, config.vocabularySize, count),
    model: parts.model,
    ...(parts.user === undefined ? {} : { user: parts.user.model }),
    manifest: {
      base: contents.base,
      adapter:
        user === undefined
          ? null
          : {
              kind: user.integration.kind,
              settings: user.integration.settings,
              ...user.shape,
              encoder: user.encoder,
              ...(user.blindPrefix === undefined ? {} : { blindPrefix: user.blindPrefix }),
              packedShape: user.integration.packedShape(config, user.shape),
              ...(count === 0 ? {} : { placeholders: Array.from({ length: count }, (_, i) => placeholderToken(i)).join('') }),
            },
      ...(contents.training === undefined ? {} : { training: contents.training }),
    },
    extra,
  });
}

/** Whether a folder was written by `saveModel`. */
export const isSavedModel = async (folder: string): Promise<boolean> =>
  (await stat(path.join(folder, 'user_llm.json')).catch(() => undefined)) !== undefined;

/** Reads a saved model to train it on. */
export async function readSavedModel(folder: string): Promise<ModelContents> {
  const { config, manifest, files, tokenizer } = await readContextualFolder(folder);
  const { base, training, reads } = parseManifest(folder, manifest);
  if (!Object.hasOwn(files, weightsFile)) {
    const message = `${folder} was saved without the weights to train on from (${weightsFile}). It can be served; save it with them to train it.`;
    throw new ModelFolderError('no-weights', folder, message, { file: weightsFile });
  }
  const weights = await readDecoderWeights(folder, config);
  const userBytes = reads && (await readContextualFile(folder, userWeightsFile));
  const items = await readItems('item', folder);
  const labels = await readItems('label', folder);
  return {
    config,
    weights,
    tokenizer: TextTokenizer.fromFiles(withPlaceholderTokens(tokenizer.files, config.vocabularySize, 0), folder),
    ...(reads === undefined || userBytes === undefined
      ? {}
      : { user: { ...reads, weights: decodeSafetensors(userBytes, userWeightsFile).tensors } }),
    ...(items === undefined ? {} : { items: { items: items.items, rows: items.rows } }),
    ...(labels === undefined ? {} : { labels: { items: labels.items, rows: labels.rows } }),
    base,
    training,
  };
}

/** Reads a saved model to serve it. */
export async function readServedParts(folder: string): Promise<ServedParts> {
  const { config, manifest, tokenizer, model, user, files } = await readContextualFolder(folder);
  const { reads } = parseManifest(folder, manifest);
  const generation: unknown = JSON.parse(await readFile(path.join(folder, 'generation_config.json'), 'utf8'));
  const addition = reads && userAddition(reads.integration, config, reads.shape);
  const branching = async () => branchingModel(config, await rankingWeights(folder, config, model), addition);
  const identity = files['onnx/model.onnx'].sha256;
  const named = { items: await readItems('item', folder), labels: await readItems('label', folder) };
  const parts = { identity, config, tokenizer, model, branching, ...named, generation: generation as Record<string, unknown> };
  if (reads === undefined) return parts;
  if (user === undefined) throw damaged(folder, 'names an adapter, but onnx/user.onnx is not recorded');
  return { ...parts, user: { ...reads, model: user } };
}

/** The model's own weights, from its graph; a quantised graph holds them in another form. */
async function rankingWeights(folder: string, config: DecoderConfig, model: Uint8Array): Promise<Weights> {
  const weights = onnxWeights(model);
  if ([...decoderTensorShapes(config).keys()].every((name) => weights.has(name))) return weights;
  if ((await stat(path.join(folder, weightsFile)).catch(() => undefined)) === undefined)
    throw new ModelFolderError(
      'no-weights',
      folder,
      `${folder} holds a quantised model without ${weightsFile}, and a ranking needs them. Save it with the weights to train from.`,
      { file: weightsFile },
    );
  return new Map([...weights, ...(await readDecoderWeights(folder, config))]);
}

function parseManifest(folder: string, manifest: unknown) {
  const parsed = manifestSchema.safeParse(manifest);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw damaged(folder, `says nothing usable at ${issue.path.join('.') || 'its top'}: ${issue.message}`);
  }
  const { adapter, base, training } = parsed.data;
  if (adapter === null) return { base, training };
  const integration = integrationOf(adapter.kind, adapter.settings);
  if (integration === undefined) throw damaged(folder, `names the adapter '${adapter.kind}', which this version does not know`);
  const { userTokens, userWidth, encoder, blindPrefix } = adapter;
  const blind = blindPrefix === undefined ? {} : { blindPrefix };
  return { base, training, reads: { integration, shape: { userTokens, userWidth }, encoder, ...blind } };
}

const damaged = (folder: string, what: string) =>
  new ModelFolderError('damaged', folder, `${path.join(folder, 'user_llm.json')} ${what}. Save the model again.`, {
    file: 'user_llm.json',
  });

/** The token that stands for a user's i-th vector in a soft prompt. */
const placeholderToken = (i: number) => `<|user_${i}|>`;

/** A tokenizer's files with placeholder tokens from id `first` on, and without any others there. */
function withPlaceholderTokens(files: TokenizerFiles, first: number, count: number): TokenizerFiles {
  const json = files['tokenizer.json'];
  const known = (Array.isArray(json.added_tokens) ? json.added_tokens : []) as { id: number }[];
  const kept = known.filter(({ id }) => id < first);
  if (count === 0 && kept.length === known.length) return files;
  const added = Array.from({ length: count }, (_, i) => ({
    id: first + i,
    content: placeholderToken(i),
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  return { ...files, 'tokenizer.json': { ...json, added_tokens: [...kept, ...added] } };
}
