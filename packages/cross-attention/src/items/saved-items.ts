import type { HostTensor } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { readContextualFile } from '../folder/contextual-folder.js';
import { ModelFolderError } from '../folder/model-folder-error.js';
import { namingModelRows } from './item-tokens.js';
import type { Candidate, NamedKind } from './item-tokens.js';

const filesOf = (kind: NamedKind) => ({ model: `onnx/${kind}s.onnx`, names: `${kind}s.json` });
const namesSchema = z.array(z.object({ id: z.string(), text: z.string() }));

/** What names items, or labels, of a model that is open: which they are, and the graph that scores them. */
export interface NamingParts {
  readonly items: readonly Candidate[];
  readonly model: Uint8Array;
}

/** The files of a model's item tokens in its folder, `onnx/items.onnx` and which item each row is in `items.json`; of labels likewise. */
export function savedItems(kind: NamedKind, named: NamingParts | undefined): Record<string, Uint8Array> {
  if (named === undefined) return {};
  const files = filesOf(kind);
  const names = named.items.map(({ id, text }) => ({ id, text }));
  return { [files.model]: named.model, [files.names]: new TextEncoder().encode(`${JSON.stringify(names)}\n`) };
}

/** The item tokens, or those of labels, that a folder holds; undefined where it holds none. */
export async function readItems(kind: NamedKind, folder: string): Promise<(NamingParts & { rows: HostTensor }) | undefined> {
  const files = filesOf(kind);
  const model = await readContextualFile(folder, files.model);
  const names = await readContextualFile(folder, files.names);
  if (model === undefined || names === undefined) return undefined;
  const items = namesSchema.parse(JSON.parse(new TextDecoder().decode(names)));
  const rows = namingModelRows(kind, model);
  if (rows?.shape[0] !== items.length)
    throw new ModelFolderError(
      'damaged',
      folder,
      `${folder}: ${files.names} names ${items.length} ${kind}s, and ${files.model} has rows for ${rows?.shape[0] ?? 0}. Save the model again.`,
      { file: files.names },
    );
  return { items, model, rows };
}
