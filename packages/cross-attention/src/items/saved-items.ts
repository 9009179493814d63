import type { HostTensor } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { readContextualFile } from '../folder/contextual-folder.js';
import { ModelFolderError } from '../folder/model-folder-error.js';
import { itemModelRows } from './item-tokens.js';
import type { Candidate } from './item-tokens.js';

const modelFile = 'onnx/items.onnx';
const namesFile = 'items.json';
const namesSchema = z.array(z.object({ id: z.string(), text: z.string() }));

/** The files of a model's item tokens in its folder: `onnx/items.onnx`, and which item each row is in `items.json`. */
export function savedItems(
  items: { readonly items: readonly Candidate[]; readonly model: Uint8Array } | undefined,
): Record<string, Uint8Array> {
  if (items === undefined) return {};
  const names = items.items.map(({ id, text }) => ({ id, text }));
  return { [modelFile]: items.model, [namesFile]: new TextEncoder().encode(`${JSON.stringify(names)}\n`) };
}

/** The item tokens that a folder holds; undefined where it holds none. */
export async function readItems(
  folder: string,
): Promise<{ items: readonly Candidate[]; model: Uint8Array; rows: HostTensor } | undefined> {
  const model = await readContextualFile(folder, modelFile);
  const names = await readContextualFile(folder, namesFile);
  if (model === undefined || names === undefined) return undefined;
  const items = namesSchema.parse(JSON.parse(new TextDecoder().decode(names)));
  const rows = itemModelRows(model);
  if (rows?.shape[0] !== items.length)
    throw new ModelFolderError(
      'damaged',
      folder,
      `${folder}: ${namesFile} names ${items.length} items, and ${modelFile} has rows for ${rows?.shape[0] ?? 0}. Save the model again.`,
      { file: namesFile },
    );
  return { items, model, rows };
}
