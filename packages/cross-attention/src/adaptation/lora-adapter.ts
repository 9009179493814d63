import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { SafetensorsError, readSafetensors, writeFileAtomically, writeSafetensors } from '@user-llm/onnx-autograd';
import type { HostTensor, Weights } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { ModelFolderError } from '../folder/model-folder-error.js';
import type { LoraOptions } from './lora.js';

/** Trained low-rank additions, apart from the weights that they belong to: W + (alpha / rank) B A. */
export interface LoraAdapter extends Required<LoraOptions> {
  /** `lora.PROJECTION.A` [rank, in] and `lora.PROJECTION.B` [out, rank]. */
  readonly weights: Weights;
}

const configFile = 'adapter_config.json';
const weightsFile = 'adapter_model.safetensors';

const loraName = (projection: string, matrix: 'A' | 'B') => `lora.${projection}.${matrix}`;
const peftName = (projection: string, matrix: 'A' | 'B') => `base_model.model.${projection}.lora_${matrix}.weight`;

/** Writes an adapter as PEFT does: `adapter_config.json` and `adapter_model.safetensors`. `base` names the model that it belongs to. */
export async function saveLoraAdapter(folder: string, adapter: LoraAdapter, base: string): Promise<void> {
  const tensors = new Map<string, HostTensor>();
  for (const [name, tensor] of adapter.weights) {
    const [, projection, matrix] = /^lora\.(.+)\.([AB])$/.exec(name) ?? [];
    if (projection === undefined) throw new Error(`internal: '${name}' is no matrix of an adapter`);
    tensors.set(peftName(projection, matrix as 'A' | 'B'), tensor);
  }
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base,
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    target_modules: [...adapter.targets],
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    inference_mode: true,
    use_rslora: false,
    use_dora: false,
    modules_to_save: null,
    layers_to_transform: null,
    rank_pattern: {},
    alpha_pattern: {},
  };
  try {
    await mkdir(folder, { recursive: true });
    await writeSafetensors(path.join(folder, weightsFile), tensors, { format: 'pt' });
    await writeFileAtomically(path.join(folder, configFile), [new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`)]);
  } catch (error) {
    const message = `${folder} could not be written (${(error as Error).message}).`;
    throw new ModelFolderError('unwritable', folder, message, { cause: error });
  }
}

const configSchema = z.looseObject({
  peft_type: z.string(),
  r: z.int().positive(),
  lora_alpha: z.number(),
  bias: z.string().optional(),
  fan_in_fan_out: z.boolean().nullish(),
  use_dora: z.boolean().nullish(),
  use_rslora: z.boolean().nullish(),
  use_qalora: z.boolean().nullish(),
  alora_invocation_tokens: z.array(z.unknown()).nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
  layer_replication: z.array(z.unknown()).nullish(),
  modules_to_save: z.array(z.string()).nullish(),
  rank_pattern: z.record(z.string(), z.unknown()).nullish(),
  alpha_pattern: z.record(z.string(), z.unknown()).nullish(),
});
type PeftConfig = z.infer<typeof configSchema>;

/** Reads an adapter that PEFT or `saveLoraAdapter` wrote. What it cannot apply is a `ModelFolderError`, never left out. */
export async function loadLoraAdapter(folder: string): Promise<LoraAdapter> {
  const config = await readConfig(folder);
  const unsupported = unsupportedOption(config);
  if (unsupported !== undefined) {
    const message = `${path.join(folder, configFile)}: ${unsupported} is not supported; merge the adapter with PEFT (merge_and_unload), and load the merged model.`;
    throw new ModelFolderError('unsupported', folder, message, { file: configFile });
  }
  const rank = config.r;
  // Rank-stabilised LoRA scales by alpha over the root of the rank.
  const alpha = config.use_rslora === true ? config.lora_alpha * Math.sqrt(rank) : config.lora_alpha;
  const weights = new Map<string, HostTensor>();
  const targets = new Set<string>();
  for (const [name, tensor] of await readTensors(folder)) {
    const [, projection, matrix] = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/.exec(name) ?? [];
    if (projection === undefined || tensor.dtype !== 'float32')
      throw badTensor(folder, name, 'is no float matrix of a LoRA adapter');
    if (tensor.shape.length !== 2 || tensor.shape[matrix === 'A' ? 0 : 1] !== rank)
      throw badTensor(folder, name, `has the shape [${tensor.shape.join(', ')}], which is not of rank ${rank}`);
    weights.set(loraName(projection, matrix as 'A' | 'B'), tensor);
    targets.add(projection.split('.').at(-1)!);
  }
  for (const name of weights.keys()) {
    const other = name.endsWith('.A') ? name.replace(/A$/, 'B') : name.replace(/B$/, 'A');
    if (!weights.has(other)) throw badTensor(folder, name, 'lacks its other matrix');
  }
  return { rank, alpha, targets: [...targets].sort(), weights };
}

function unsupportedOption(config: PeftConfig): string | undefined {
  const isFull = (value: object | null | undefined) => value != null && Object.keys(value).length > 0;
  if (config.peft_type !== 'LORA') return `peft_type '${config.peft_type}'`;
  if (config.bias !== undefined && config.bias !== 'none') return `bias '${config.bias}'`;
  if (config.use_dora === true) return 'use_dora';
  // It reads means of its inputs.
  if (config.use_qalora === true) return 'use_qalora';
  if (config.fan_in_fan_out === true) return 'fan_in_fan_out';
  // Others, such as pissa, olora, loftq and corda, begin by changing the base: added to the base itself the adapter would be another model.
  const { init_lora_weights: start } = config;
  if (typeof start === 'string' && start !== 'gaussian') return `init_lora_weights '${start}'`;
  // An adapter with invocation tokens acts from these on alone; merged it would act on all of a text.
  const options = ['modules_to_save', 'rank_pattern', 'alpha_pattern', 'layer_replication', 'alora_invocation_tokens'] as const;
  return options.find((option) => isFull(config[option]));
}

async function readConfig(folder: string): Promise<PeftConfig> {
  const file = path.join(folder, configFile);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const message = `${file} could not be read (${(error as Error).message}). Give the folder of a LoRA adapter in PEFT's layout.`;
    throw new ModelFolderError('no-config', folder, message, { file: configFile, cause: error });
  }
  try {
    return configSchema.parse(JSON.parse(text));
  } catch (error) {
    const what =
      error instanceof z.ZodError ? error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`) : [String(error)];
    throw new ModelFolderError('bad-config', folder, `${file} does not describe a LoRA adapter (${what.join('; ')}).`, {
      file: configFile,
      cause: error,
    });
  }
}

async function readTensors(folder: string): Promise<Weights> {
  try {
    return (await readSafetensors(path.join(folder, weightsFile), { asFloat32: true })).tensors;
  } catch (error) {
    if (!SafetensorsError.isInstance(error)) throw error;
    throw new ModelFolderError('bad-weights', folder, error.message, { file: weightsFile, cause: error });
  }
}

const badTensor = (folder: string, tensor: string, what: string) =>
  new ModelFolderError('bad-weights', folder, `${path.join(folder, weightsFile)}: '${tensor}' ${what}.`, {
    file: weightsFile,
    tensor,
  });
