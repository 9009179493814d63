import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { UsageError } from '@user-llm/reference';

/** What a measurement must share with others to stand beside them. */
export type KeptTerms = object & { readonly recipe: number };

/** What was kept in a file, as JSON, or undefined where there is none. */
export async function readKept<Content>(file: string): Promise<Content | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Content;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Keeps it: all of it or, when something fails, what was there. */
export async function writeKept(file: string, content: object): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFileAtomically(file, [Buffer.from(`${JSON.stringify(content)}\n`)]);
}

/** @throws UsageError where what a file holds was measured by other terms than those that are asked for */
export function checkTerms<Terms extends KeptTerms>(file: string, kept: Partial<Terms>, asked: Terms): void {
  // As they come back out of a file: without what is undefined.
  const wanted = JSON.parse(JSON.stringify(asked)) as Terms;
  for (const name of Object.keys(wanted) as (keyof Terms & string)[])
    if (!isDeepStrictEqual(kept[name], wanted[name]))
      throw new UsageError(
        `what ${path.basename(file)} holds was measured with ${name} ${JSON.stringify(kept[name])}, not ${JSON.stringify(wanted[name])}; ${remedyOf(name)}`,
      );
}

const remedyOf = (name: string): string =>
  name === 'recipe' ? 'leave out --keep, and measure it again' : 'give the same, or leave out --keep';
