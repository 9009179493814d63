import path from 'node:path';
import { HubError } from './hub-error.js';

/** What a repository holds, by which its files are chosen. */
export type ModelKind = 'saved' | 'safetensors' | 'gguf';

export interface ChosenFiles {
  readonly kind: ModelKind;
  readonly names: readonly string[];
  /** The GGUF file that was meant. */
  readonly gguf?: string;
}

export const shardIndex = 'model.safetensors.index.json';

const tokenizerFiles = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja'];
const forPeople = /(^|\/)(\.|README|LICENSE)/i;

/**
 * The files of a repository that loading reads: all of a model that `save` wrote; else config, tokenizer and safetensors (with shards the
 * index, whose shards `shardsOf` names); else a GGUF file, the named or the only one, with the tokenizer's files beside it.
 */
export function chooseFiles(model: string, all: Iterable<string>, file: string | undefined): ChosenFiles {
  const names = [...all];
  const present = new Set(names);
  const ggufFiles = names.filter((name) => name.endsWith('.gguf'));
  const named = (list: readonly string[]) => list.filter((name) => present.has(name));
  if (file === undefined && present.has('user_llm.json'))
    return { kind: 'saved', names: names.filter((name) => !forPeople.test(name)) };
  const weights = present.has('model.safetensors') ? 'model.safetensors' : shardIndex;
  if (file === undefined && present.has(weights))
    return { kind: 'safetensors', names: named(['config.json', 'generation_config.json', ...tokenizerFiles, weights]) };
  const gguf = file ?? (ggufFiles.length === 1 ? ggufFiles[0] : undefined);
  if (gguf !== undefined && present.has(gguf) && gguf.endsWith('.gguf')) {
    const folder = path.posix.dirname(gguf);
    return { kind: 'gguf', names: named([...tokenizerFiles.map((name) => path.posix.join(folder, name)), gguf]), gguf };
  }
  const choice =
    ggufFiles.length > 12 ? `${ggufFiles.slice(0, 12).join(', ')} and ${ggufFiles.length - 12} more` : ggufFiles.join(', ');
  if (file !== undefined) {
    const instead = ggufFiles.length === 0 ? 'it holds no GGUF file; load it without naming a file' : `there are ${choice}`;
    throw new HubError('not-found', model, `the repository has no such GGUF file; ${instead}.`, { file });
  }
  if (ggufFiles.length > 1)
    throw new HubError(
      'several-files',
      model,
      `the repository holds several GGUF files (${choice}). Name one: LanguageModel.load('${model}', { file: '${ggufFiles[0]}' }), or ` +
        `${model}/${ggufFiles[0]}.`,
    );
  const others = names.filter((name) => /\.(bin|pth?|onnx|safetensors|msgpack|h5)$/.test(name)).slice(0, 3);
  throw new HubError(
    'no-weights',
    model,
    `the repository holds no weights that are read here, which are model.safetensors, its shards, or a .gguf file${others.length === 0 ? '' : ` (found ${others.join(', ')})`}.`,
  );
}

/** The shards that an index of safetensors names. What is wrong with the index is for the reader of the folder to say. */
export function shardsOf(index: string): string[] {
  try {
    const { weight_map: map } = JSON.parse(index) as { weight_map?: Record<string, unknown> };
    return [...new Set(Object.values(map ?? {}))].filter((name): name is string => typeof name === 'string');
  } catch {
    return [];
  }
}
