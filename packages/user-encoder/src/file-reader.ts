import { EncoderFormatError } from './errors.js';

/** Reads a file of a folder by its name in it (`onnx/encoder.onnx`); undefined where there is none. */
export type FileReader = (file: string) => Promise<Uint8Array | undefined>;

/** Reads the files below an address with `fetch`. */
export function folderReader(source: string | URL, signal?: AbortSignal): FileReader {
  const base = String(source).replace(/\/*$/, '/');
  return async (file) => {
    const fail = (problem: string, cause?: unknown): never => {
      throw new EncoderFormatError(String(source), `${file} cannot be fetched: ${problem}`, { cause });
    };
    try {
      const response = await fetch(base + file, { signal });
      if (response.status === 404) return undefined;
      if (!response.ok) fail(`the server answered ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      signal?.throwIfAborted();
      if (EncoderFormatError.isInstance(error)) throw error;
      return fail(error instanceof Error ? error.message : String(error), error);
    }
  };
}
