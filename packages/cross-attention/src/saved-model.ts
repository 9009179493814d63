import { stat } from 'node:fs/promises';
import path from 'node:path';
import { ModelSizeError, decodeSafetensors, safetensorsChunks } from '@user-llm/onnx-autograd';
import type { OnnxOptions, Weights } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { inferenceModel } from './decoder/inference-graph.js';
import type { Precision } from './decoder/packable-matrix.js';
import { StoredMatrix, graphWeights, storedMatrices } from './decoder/stored-matrix.js';
import { ValueFile } from './decoder/value-store.js';
import { decoderTensorShapes } from './folder/decoder-config.js';
import {
  readContextualFile,
  readContextualFolder,
  readRecordedModel,
  writeContextualFolder,
} from './folder/contextual-folder.js';
import type { FileContent, StoredContextualModel } from './folder/contextual-folder.js';
import { readDecoderWeights, readJsonFile } from './folder/hugging-face.js';
import { ModelFolderError } from './folder/model-folder-error.js';
import { readItems, savedItems } from './items/saved-items.js';
import type { BlindPrefix } from './integration/blind-prefix.js';
import { integrationOf, nameOf } from './integration/integration-of.js';
import { userAddition } from './integration/integration.js';
import type { ModelContents } from './model-contents.js';
import { branchingOf, integerComputation, servedParts } from './serve-model.js';
import { checkServeOptions } from './serving/check-options.js';
import type { InIntegers, IntegerOption, ServedParts, ServeOptions } from './serving/engine.js';
import { ServedModel } from './serving/served-model.js';
import { TextTokenizer } from './text/text-tokenizer.js';
import type { TokenizerFiles } from './text/byte-level-bpe.js';

const userWeightsFile = 'user_llm.safetensors';
const weightsFile = 'model.safetensors';
const generationFile = 'generation_config.json';

const integrationShape = { kind: z.string(), settings: z.record(z.string(), z.number()) };

const manifestSchema = z.looseObject({
  base: z.string(),
  training: z.unknown().optional(),
  precision: z.object({ accuracyLevel: z.literal([0, 4]) }).exactOptional(),
  adapter: z
    .looseObject({
      ...integrationShape,
      parts: z.array(z.looseObject(integrationShape)).exactOptional(),
      userTokens: z.int().positive(),
      userWidth: z.int().positive(),
      encoder: z.string(),
      blindPrefix: z.object({ readingTokens: z.int().positive().exactOptional() }).exactOptional(),
    })
    .nullable(),
});

/** Of `model.onnx`. */
type Limits = Pick<OnnxOptions, 'mostBytes'>;

/** Writes a model as a folder that transformers.js opens, whole or not at all; with `trainable`, also the weights to train on from. */
export async function saveModel(
  folder: string,
  contents: ModelContents,
  { trainable, ...asked }: { trainable: boolean } & Precision,
  limits: Limits = {},
): Promise<void> {
  const { config, tokenizer, user } = contents;
  const precision = { ...contents.precision, ...asked };
  checkServeOptions(precision);
  for (const weight of contents.weights.values()) if (weight instanceof StoredMatrix && weight.isIn(folder)) weight.keep();
  const parts = partsThatFit(folder, contents, precision, limits);
  const count = user?.integration.placeholders(user.shape) ?? 0;
  const extra: Record<string, FileContent> = { ...savedItems('item', parts.items), ...savedItems('label', parts.labels) };
  if (trainable) {
    extra[weightsFile] = safetensorsChunks(contents.weights, { format: 'pt' });
    if (user !== undefined) extra[userWeightsFile] = safetensorsChunks(user.weights);
  }
  await writeContextualFolder(folder, {
    config,
    ...(tokenizer.isPresent ? { tokenizer: withPlaceholderTokens(tokenizer.files, config.vocabularySize, count) } : {}),
    model: parts.model,
    ...(parts.user === undefined ? {} : { user: parts.user.model }),
    manifest: {
      base: contents.base,
      precision: { accuracyLevel: precision.accuracyLevel ?? 4 },
      adapter:
        user === undefined
          ? null
          : {
              ...nameOf(user.integration),
              ...user.shape,
              encoder: user.encoder,
              ...(user.blindPrefix === undefined ? {} : { blindPrefix: user.blindPrefix }),
              packedShape: user.integration.packedShape(config, user.shape),
              ...(count === 0 || !tokenizer.isPresent
                ? {}
                : {
                    placeholders: Array.from({ length: count }, (_, i) => placeholderToken(i)).join(''),
                    // The text of the begin token: where a prompt begins with it, the placeholders stand behind it. Behind a blind prefix
                    // they stand so many tokens from the end, which no text says.
                    ...(user.blindPrefix?.readingTokens === undefined && {
                      placeholdersBehind:
                        config.beginToken === undefined ? '' : tokenizer.decode([config.beginToken], { specialTokens: true }),
                    }),
                  }),
            },
      ...(contents.training === undefined ? {} : { training: contents.training }),
    },
    extra,
  });
}

/** What is saved; a `ModelFolderError` that says what to do for a model that no ONNX file holds. */
function partsThatFit(folder: string, contents: ModelContents, precision: Precision, limits: Limits): ServedParts {
  try {
    return servedParts(contents, precision, limits);
  } catch (error) {
    if (!ModelSizeError.isInstance(error)) throw error;
    const inGigabytes = (bytes: number) => (bytes / 1e9).toFixed(2);
    const message =
      `${folder} was not written: an ONNX file of it would have ${inGigabytes(error.bytes)} GB, and one holds at most ${inGigabytes(error.most)} GB. ` +
      `Round weights that are not in blocks yet, save(folder, { quantize: 8 }) or 4 (rows of item tokens stay as they are), or serve it without saving.`;
    throw new ModelFolderError('unwritable', folder, message, { cause: error });
  }
}

/** Whether a folder was written by `saveModel`. */
export const isSavedModel = async (folder: string): Promise<boolean> =>
  (await stat(path.join(folder, 'user_llm.json')).catch(() => undefined)) !== undefined;

/** Reads a saved model to train it on. */
export async function readSavedModel(folder: string): Promise<ModelContents> {
  const { config, manifest, files, tokenizer, model, source } = await readContextualFolder(folder);
  const { base, training, reads, precision } = parseManifest(folder, manifest);
  if (!Object.hasOwn(files, weightsFile)) {
    const message = `${folder} was saved without the weights to train on from (${weightsFile}). It can be served; save it with them to train it.`;
    throw new ModelFolderError('no-weights', folder, message, { file: weightsFile });
  }
  const matrices = storedMatrices(model, source, config);
  const weights = await readDecoderWeights(folder, config, (name, file, { dtype, begin }) =>
    matrices.get(name)?.withValues({ source: file, dtype, begin }),
  );
  const userBytes = reads && (await readContextualFile(folder, userWeightsFile));
  const items = await readItems('item', folder);
  const labels = await readItems('label', folder);
  return {
    config,
    weights,
    tokenizer: tokenizer.isPresent
      ? TextTokenizer.fromFiles(withPlaceholderTokens(tokenizer.files, config.vocabularySize, 0), folder)
      : tokenizer,
    ...(reads === undefined || userBytes === undefined
      ? {}
      : { user: { ...reads, weights: decodeSafetensors(userBytes, userWeightsFile).tensors } }),
    ...(items === undefined ? {} : { items: { items: items.items, rows: items.rows } }),
    ...(labels === undefined ? {} : { labels: { items: labels.items, rows: labels.rows } }),
    base,
    training,
    ...(precision === undefined ? {} : { precision }),
  };
}

/** Opens a saved model for inference. */
export async function openSavedModel(
  folder: string,
  { int8 = false, ...options }: ServeOptions & IntegerOption = {},
): Promise<ServedModel> {
  checkServeOptions({ int8, ...options });
  const stored = await readContextualFolder(folder);
  const parts = await servedPartsOf(stored);
  return int8 === false ? ServedModel.create(parts, options) : openInIntegers(stored, parts, { ...options, int8 });
}

async function servedPartsOf(stored: StoredContextualModel): Promise<ServedParts> {
  const { folder, config, manifest, tokenizer, model, user, files } = stored;
  const { reads, precision } = parseManifest(folder, manifest);
  // For transformers.js alone: here every way of answering is greedy unless a request says otherwise.
  if ((await readJsonFile(folder, generationFile)) === undefined)
    throw new ModelFolderError(
      'damaged',
      folder,
      `${path.join(folder, generationFile)} is missing, which was saved with the model. Copy or save the model again.`,
      { file: generationFile },
    );
  const addition = reads && userAddition(reads.integration, config, reads.shape);
  // The graph's bytes are read again, so that a model that never ranks by title need not hold them.
  const branching: ServedParts['branching'] = async (open) =>
    branchingOf(config, await rankingWeights(stored), addition, precision)(open);
  const identity = files['onnx/model.onnx'].sha256;
  const named = { items: await readItems('item', folder), labels: await readItems('label', folder) };
  const parts = { identity, config, tokenizer, model, branching, ...named };
  if (reads === undefined) return parts;
  if (user === undefined) throw damaged(folder, 'names an adapter, but onnx/user.onnx is not recorded');
  return { ...parts, user: { ...reads, model: user } };
}

/** Its graphs are made anew, with the values of the saved one. */
async function openInIntegers(
  stored: StoredContextualModel,
  parts: ServedParts,
  options: ServeOptions & { readonly int8: InIntegers },
): Promise<ServedModel> {
  const { config, tokenizer, user } = parts;
  const { precision } = parseManifest(stored.folder, stored.manifest);
  const weights = await rankingWeights(stored);
  const computation = await integerComputation({ config, weights, tokenizer }, { ...precision, ...options });
  const addition = (blindPrefix?: BlindPrefix) => user && userAddition(user.integration, config, user.shape, blindPrefix);
  return ValueFile.during((file) => {
    const own = {
      model: inferenceModel(config, weights, addition(user?.blindPrefix), computation, file),
      branching: branchingOf(config, weights, addition(), computation),
      valueFolder: file.folder,
      // Prefixes of the one are not the other's.
      identity: `${parts.identity} in integers`,
    };
    return ServedModel.create({ ...parts, ...own }, options);
  });
}

/** The model's own weights, from its graph: matrices in blocks stay in the file until they are used. */
async function rankingWeights({ folder, config, files, source }: StoredContextualModel): Promise<Weights> {
  const weights = graphWeights(await readRecordedModel(folder, files), source, config);
  const missing = [...decoderTensorShapes(config).keys()].find((name) => !weights.has(name));
  if (missing === undefined) return weights;
  const message = `${folder}: onnx/model.onnx does not name the blocks of '${missing}', as earlier versions wrote it. Load the model and save it again to rank by titles.`;
  throw new ModelFolderError('unsupported', folder, message, { file: 'onnx/model.onnx', tensor: missing });
}

function parseManifest(folder: string, manifest: unknown) {
  const parsed = manifestSchema.safeParse(manifest);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw damaged(folder, `says nothing usable at ${issue.path.join('.') || 'its top'}: ${issue.message}`);
  }
  const { adapter, base, training, precision } = parsed.data;
  if (adapter === null) return { base, training, precision };
  const integration = integrationOf(adapter);
  if (integration === undefined) throw damaged(folder, `names the adapter '${adapter.kind}', which this version does not know`);
  const { userTokens, userWidth, encoder, blindPrefix } = adapter;
  const blind = blindPrefix === undefined ? {} : { blindPrefix };
  return { base, training, precision, reads: { integration, shape: { userTokens, userWidth }, encoder, ...blind } };
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
