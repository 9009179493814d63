import { stat } from 'node:fs/promises';

/** A model's name on a hub, and the file of it that was named. */
export interface HubName {
  /** `owner/model` */
  readonly model: string;
  readonly file?: string;
}

const part = String.raw`[A-Za-z0-9_][\w.-]*`;
const pattern = new RegExp(`^(${part}/${part})(?:/((?:${part}/)*${part}\\.gguf))?$`);

/** Whether a text could be the name of a model on a hub: `owner/model`. */
export const isModelName = (text: string): boolean =>
  pattern.exec(text)?.[1] === text && !text.includes('..') && !/\.(gguf|safetensors|onnx)$/.test(text);

/**
 * What a place names on a hub: `owner/model` or `owner/model/file.gguf`. Undefined for a path: what begins with a dot, a slash, a drive or
 * a tilde, or has another number of parts; and for whatever is there on the disk.
 */
export async function hubNameOf(place: string): Promise<HubName | undefined> {
  const [, model, file] = pattern.exec(place) ?? [];
  if (model === undefined || place.includes('..') || !isModelName(model)) return undefined;
  if ((await stat(place).catch(() => undefined)) !== undefined) return undefined;
  return file === undefined ? { model } : { model, file };
}
