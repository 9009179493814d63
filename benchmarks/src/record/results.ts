import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { machineDescription } from '@user-llm/evaluation';
import type { MachineDescription } from '@user-llm/evaluation';

/** Where what was measured is kept. */
export const resultsFolder = fileURLToPath(new URL('../../results', import.meta.url));

/** This command as it can be typed again; where things were written is nobody's business but this machine's. */
export const commandOf = (bench: string): string =>
  ['npm run bench --', bench, ...process.argv.slice(2)].join(' ').replace(/\s*--(out|folder)[= ]\S+/g, '');

/** Keeps a result as benchmarks/results/NAME.json. */
export async function keepResult(name: string, result: object): Promise<void> {
  await mkdir(resultsFolder, { recursive: true });
  await writeFileAtomically(path.join(resultsFolder, `${name}.json`), [Buffer.from(`${JSON.stringify(result, null, 2)}\n`)]);
}

/**
 * Keeps what depends on the processor: one file for each, `BENCH-VARIANT-amd-epyc-zen-3-avx2.json`, so that no machine's figures take the place of
 * another's.
 *
 * @param variant what an option made of the bench, where its figures are to stand beside the usual ones
 */
export const keepSpeeds = (bench: string, result: object, variant?: string): Promise<void> =>
  keepResult([bench, variant, processorName(machineDescription())].filter(Boolean).join('-'), {
    command: commandOf(bench),
    ...result,
  });

/** 'AMD EPYC' of generation 'Zen 5' with AVX-512 is 'amd-epyc-zen-5-avx512'. */
export const processorName = ({ cpu, generation, vectors }: Pick<MachineDescription, 'cpu' | 'generation' | 'vectors'>): string =>
  [cpu, generation, vectors?.replace('-', '')]
    .filter((part) => part !== undefined)
    .join(' ')
    .replace(/\((R|TM)\)|@ ?\S+|\b(CPU|Processor|\d+-Core)\b/gi, ' ')
    .trim()
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
