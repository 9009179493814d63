import path from 'node:path';
import { fetchModel } from './hub-model.js';
import { hubNameOf } from './hub-name.js';
import type { HubOptions } from './hub-options.js';

/** How a model is found. All but `file` is for hub names alone. */
export interface LoadOptions extends HubOptions {
  /** Which GGUF file, where a folder or a repository holds several or other weights too. */
  readonly file?: string;
}

/** Where a model lies on this disk, fetched from a hub if it is named so; `name` is for people. */
export async function localPlace(place: string, options: LoadOptions): Promise<{ local: string; name: string }> {
  const named = await hubNameOf(place);
  if (named !== undefined) {
    const file = options.file ?? named.file;
    const { place: local, model } = await fetchModel(named.model, file === undefined ? options : { ...options, file });
    return { local, name: model };
  }
  const local = options.file === undefined ? place : path.join(place, options.file);
  return { local, name: local.split(/[\\/]/).filter(Boolean).at(-1) ?? local };
}
