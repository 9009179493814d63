import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe } from '@jest/globals';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../../..');
const shared = process.env.USER_LLM_SHARED ?? path.resolve(root, '../shared');

/** `describe`, or a skip that says what is absent. */
export function describeWith(files: string | readonly string[], title: string, tests: () => void): void {
  const absent = [files].flat().filter((file) => !existsSync(path.join(shared, file)));
  if (absent.length === 0) describe(title, tests);
  else describe.skip(`${title} (skipped: ../shared/${absent.join(', ')} is absent; set USER_LLM_SHARED)`, tests);
}

export const sharedText = (file: string, encoding: BufferEncoding = 'utf8'): string =>
  readFileSync(path.join(shared, file), encoding);

export const sharedJson = <T>(file: string): T => JSON.parse(sharedText(file)) as T;
