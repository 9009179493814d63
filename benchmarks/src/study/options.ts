import path from 'node:path';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { UsageError } from '@user-llm/reference';
import type { PretrainOptions } from '@user-llm/user-encoder';

/** How long each encoder of a study is trained: by steps, which can be repeated to the digit, or by the clock. */
export type Budget = Pick<PretrainOptions, 'steps' | 'seconds'>;

/** What all studies of the encoder are told on the command line. */
export interface StudyOptions {
  /** The data set's name, and its folder under the one in USER_LLM_DATA. */
  readonly data: string;
  readonly folder: string;
  readonly budget: Budget;
  readonly seeds: readonly number[];
  /** Threads of onnxruntime; undefined for all cores. */
  readonly threads: number | undefined;
  /** The command as it can be typed again. */
  readonly command: string;
}

const common = {
  data: { type: 'string' },
  steps: { type: 'string' },
  minutes: { type: 'string' },
  seed: { type: 'string', default: '1' },
  seeds: { type: 'string', default: '1' },
  threads: { type: 'string' },
} as const;

type Further = Readonly<Record<string, { readonly type: 'string'; readonly default?: string }>>;

/**
 * Reads `--data NAME [--steps N | --minutes N] [--seed N] [--seeds COUNT] [--threads N]` and a study's own options.
 *
 * @throws UsageError
 */
export function studyOptions<F extends Further>(
  study: string,
  further: F,
  defaults: { readonly minutes: number },
): {
  options: StudyOptions;
  own: { readonly [name in keyof F]: F[name] extends { default: string } ? string : string | undefined };
} {
  const values: Record<string, string | undefined> = commandLine({ ...common, ...further });
  const { USER_LLM_DATA: home } = process.env;
  const { data } = values;
  if (!data || !home)
    throw new UsageError(`name a data set: USER_LLM_DATA=FOLDER npm run bench -- ${study} --data ml-100k; FOLDER holds it`);
  if (values.steps !== undefined && values.minutes !== undefined)
    throw new UsageError('give --steps or --minutes, not both: each says how long an encoder is trained');
  const first = positive('seed', values.seed ?? '1');
  return {
    options: {
      data,
      folder: path.resolve(home, data),
      budget:
        values.steps === undefined
          ? { seconds: 60 * positive('minutes', values.minutes ?? String(defaults.minutes)) }
          : { steps: positive('steps', values.steps) },
      seeds: Array.from({ length: positive('seeds', values.seeds ?? '1') }, (_, i) => first + i),
      threads: values.threads === undefined ? undefined : positive('threads', values.threads),
      command: ['npm run bench --', study, ...process.argv.slice(2)].join(' '),
    },
    own: values as never,
  };
}

/**
 * The command line by these options.
 *
 * @throws UsageError
 */
export function commandLine<O extends NonNullable<ParseArgsConfig['options']>>(
  options: O,
): ReturnType<typeof parseArgs<{ options: O }>>['values'] {
  try {
    return parseArgs<{ options: O }>({ options }).values;
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0) || (name !== 'minutes' && !Number.isInteger(value)))
    throw new UsageError(`--${name} ${text} is not a ${name === 'minutes' ? 'number' : 'whole number'} above zero`);
  return value;
}

/** A list of shares like `0.1,0.2`, each from 0 to below 1. */
export function shares(name: string, text: string): number[] {
  return text.split(',').map((part) => {
    const value = Number(part);
    if (part.trim() === '' || !(value >= 0 && value < 1))
      throw new UsageError(`--${name} ${text}: '${part}' is no share from 0 to below 1`);
    return value;
  });
}

/**
 * A data set or model by its name.
 *
 * @param variable that says in which folder it lies
 * @throws UsageError where it says nothing
 */
export function named(variable: 'USER_LLM_DATA' | 'USER_LLM_MODELS', name: string): string {
  const folder = process.env[variable];
  if (!folder) throw new UsageError(`set ${variable} to the folder that holds ${name}`);
  return path.resolve(folder, name);
}
