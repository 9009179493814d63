import { machineDescription } from '@user-llm/evaluation';
import { explain } from '@user-llm/reference';
import { keepResult } from '../record/results.js';
import type { StudyOptions } from './options.js';

/** Writes a study's result to benchmarks/results, and a short form of it as the last line. */
export async function writeResult(
  study: string,
  { command, data, budget, seeds }: StudyOptions,
  result: Readonly<Record<string, unknown>>,
  lastLine: Readonly<Record<string, unknown>>,
): Promise<void> {
  const complete = { command, data, budget, seeds, machine: machineDescription(), ...result };
  await keepResult(`${study}-${data}`, complete);
  process.stdout.write(`${JSON.stringify({ study, data, seeds, ...lastLine }, fourDigits)}\n`);
}

const fourDigits = (_: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;

/** Runs a study; what the person can mend is one line. */
export function runStudy(study: () => Promise<void>): void {
  study().catch((error: unknown) => {
    const { message, exitCode } = explain(error);
    process.stderr.write(`${message}\n`);
    if (exitCode === 1 && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    process.exitCode = exitCode;
  });
}
