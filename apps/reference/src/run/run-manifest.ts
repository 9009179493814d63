import { readFile } from 'node:fs/promises';
import type { CatalogueWay } from '@user-llm/cross-attention';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { UsageError } from '../errors.js';

const format = 'user-llm run 1';

const stageRecord = z.object({
  key: z.string(),
  seconds: z.number(),
  finishedAt: z.string(),
  result: z.record(z.string(), z.unknown()),
  /** What the stage left, by path inside the run folder. */
  leaves: z.array(z.string()).optional(),
  /** When it was finished anew because what it had left was gone: others may have been made from that. */
  remade: z.string().optional(),
});
const manifestShape = z.object({
  format: z.literal(format),
  settings: z.record(z.string(), z.unknown()),
  stages: z.record(z.string(), stageRecord),
});

/** What a finished stage leaves in run.json. */
export type StageRecord = z.infer<typeof stageRecord>;

/** What a stage made, for the key of one that builds on it: its own key, and which making of it. */
export const identityOf = ({ key, remade }: StageRecord): string => (remade === undefined ? key : `${key} ${remade}`);

/** run.json: the settings of a run and its finished stages. */
export type Manifest = z.infer<typeof manifestShape>;

/** The settings that everything in a run folder was made with. */
export interface RunSettings {
  readonly data: string | null;
  readonly seed: number;
  readonly llm: string | null;
  readonly minutes: number;
  /** How the language models rank a catalogue. */
  readonly ranking: CatalogueWay;
  /** Which column of the data is what, by role; undefined where their names tell. */
  readonly columns?: Record<string, string>;
  /** Test users that the language models rank for; undefined for what suits the minutes. */
  readonly users?: number;
  /** Examples that every language-model system is trained on, in place of a time. */
  readonly examples?: number;
  /** Steps that the encoder is pretrained for, in place of a time. */
  readonly encoderSteps?: number;
}

/** Test users that the language models rank for: many where one pass of a small model ranks for one, fewer where the whole run is short. */
export function sampleSize({ users, minutes, llm, ranking }: Pick<RunSettings, 'users' | 'minutes' | 'llm' | 'ranking'>): number {
  if (users !== undefined) return users;
  if (minutes < 10) return 80;
  return llm === null && ranking === 'item-tokens' ? 1000 : 200;
}

export const newManifest = (settings: RunSettings): Manifest => ({ format, settings: { ...settings }, stages: {} });

/** Null where there is none. Throws a `UsageError` for one that is damaged or newer. */
export async function readManifest(file: string): Promise<Manifest | null> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
  const json = parseJson(text);
  const parsed = manifestShape.safeParse(json);
  if (parsed.success) return parsed.data;
  const found = (json as { format?: unknown } | undefined)?.format;
  if (typeof found === 'string' && found !== format && found.startsWith('user-llm run '))
    throw new UsageError(
      `${file} is the record of '${found}', and this version reads '${format}': use the version that wrote it, or name another folder with --out`,
    );
  throw new UsageError(`${file} is not a run's record, or is damaged; remove it by hand, or name another folder with --out`);
}

export async function writeManifest(file: string, manifest: Manifest): Promise<void> {
  await writeFileAtomically(file, [Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`)]);
}

/** What a run's settings and the wanted ones differ in, in the command line's words; empty where they are the same. */
export function differences(known: Manifest['settings'], wanted: RunSettings): string[] {
  const names = [...new Set([...Object.keys(wanted), ...Object.keys(known)])] as (keyof RunSettings)[];
  return names
    .filter((name) => JSON.stringify(known[name] ?? null) !== JSON.stringify(wanted[name] ?? null))
    .map((name) => `${optionOf(name)} ${inWords(known[name])}, not ${inWords(wanted[name])}`);
}

/** A run's settings as a command that makes one takes them, each with a space before it. @param minutes what the command calls them */
export const settingsAsOptions = (settings: Manifest['settings'], minutes = '--minutes'): string =>
  Object.entries(settings)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => ` ${name === 'minutes' ? minutes : optionOf(name as keyof RunSettings)} ${quoted(inWords(value))}`)
    .join('');

/** As a shell takes it for one word. */
export const quoted = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

const optionOf = (name: keyof RunSettings): string =>
  name === 'minutes' ? name : `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

function inWords(value: unknown): string {
  if (value === undefined || value === null) return 'left out';
  if (typeof value !== 'object') return String(value);
  return Object.entries(value)
    .map(([role, column]) => `${role}=${column}`)
    .join(',');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
