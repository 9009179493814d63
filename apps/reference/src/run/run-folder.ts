import { createHash } from 'node:crypto';
import { access, mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { RankingWay } from '@user-llm/cross-attention';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { UsageError } from '../errors.js';

const stageRecord = z.object({
  key: z.string(),
  seconds: z.number(),
  finishedAt: z.string(),
  result: z.record(z.string(), z.unknown()),
});
const manifestShape = z.object({
  format: z.literal('user-llm run 1'),
  settings: z.record(z.string(), z.unknown()),
  stages: z.record(z.string(), stageRecord),
});

/** What a finished stage leaves in run.json. */
export type StageRecord = z.infer<typeof stageRecord>;
type Manifest = z.infer<typeof manifestShape>;

/** The settings that everything in a run folder was made with. */
export interface RunSettings {
  readonly data: string | null;
  readonly seed: number;
  readonly llm: string | null;
  readonly minutes: number;
  /** How the language models rank a catalogue. */
  readonly ranking: RankingWay;
  /** Which column of the data is what, by role; undefined where their names tell. */
  readonly columns?: Record<string, string>;
  /** Test users that the language models rank for; undefined for what suits the minutes. */
  readonly users?: number;
  /** Examples that every language-model system is trained on, in place of a time. */
  readonly examples?: number;
}

/**
 * A folder that holds one run: run.json says which stages are finished and with which settings, so that a second run goes on
 * where the first one stopped.
 */
export class RunFolder {
  private constructor(
    readonly folder: string,
    private manifest: Manifest,
  ) {}

  /** Creates the folder, or opens it and checks that it was made with the same settings. */
  static async create(folder: string, settings: RunSettings): Promise<RunFolder> {
    const file = path.join(folder, 'run.json');
    const known = await readManifest(file);
    const wanted = { ...settings };
    if (known) {
      const differing = Object.entries(wanted).filter(
        ([name, value]) => JSON.stringify(known.settings[name]) !== JSON.stringify(value),
      );
      if (differing.length > 0) {
        const said = differing
          .map(([name, value]) => `${name} ${JSON.stringify(known.settings[name])}, not ${JSON.stringify(value)}`)
          .join('; ');
        throw new UsageError(
          `${folder} holds a run with ${said}; give the same settings, another --out, or --fresh to start anew`,
        );
      }
      return new RunFolder(folder, known);
    }
    await mkdir(folder, { recursive: true });
    const run = new RunFolder(folder, { format: 'user-llm run 1', settings: wanted, stages: {} });
    await run.write();
    return run;
  }

  /** Whether a folder holds a run. */
  static async exists(folder: string): Promise<boolean> {
    return (await readManifest(path.join(folder, 'run.json'))) !== null;
  }

  /** Opens a folder that a run has made. */
  static async open(folder: string): Promise<RunFolder> {
    const manifest = await readManifest(path.join(folder, 'run.json'));
    if (!manifest)
      throw new UsageError(`${folder} is no run folder (it has no run.json); make one with: user-llm poc --out ${folder}`);
    return new RunFolder(folder, manifest);
  }

  /** Removes what a former run left in the folder, and nothing that is not a run's. */
  static async clear(folder: string): Promise<void> {
    if (!(await readManifest(path.join(folder, 'run.json')))) return;
    for (const name of runContents) await rm(path.join(folder, name), { recursive: true, force: true });
  }

  get settings(): RunSettings {
    return this.manifest.settings as unknown as RunSettings;
  }

  path(...parts: string[]): string {
    return path.join(this.folder, ...parts);
  }

  /** The record of a finished stage, or undefined. */
  finished(stage: string): StageRecord | undefined {
    return this.manifest.stages[stage];
  }

  /** The record of a stage that another one builds on. */
  need(stage: string, command: string): StageRecord {
    const record = this.finished(stage);
    if (!record)
      throw new UsageError(`${this.folder}: '${stage}' is not finished yet; run: user-llm ${command} --run ${this.folder}`);
    return record;
  }

  /** Runs a stage unless it is finished with the same key; a changed key runs it again. */
  async stage<T extends Record<string, unknown>>(name: string, key: unknown, work: () => Promise<T>): Promise<StageRecord> {
    const hash = createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 16);
    const known = this.finished(name);
    if (known?.key === hash) return known;
    const began = performance.now();
    const result = await work();
    const record: StageRecord = {
      key: hash,
      seconds: (performance.now() - began) / 1000,
      finishedAt: new Date().toISOString(),
      result,
    };
    this.manifest = { ...this.manifest, stages: { ...this.manifest.stages, [name]: record } };
    await this.write();
    return record;
  }

  private async write(): Promise<void> {
    await writeFileAtomically(path.join(this.folder, 'run.json'), [Buffer.from(`${JSON.stringify(this.manifest, null, 2)}\n`)]);
  }
}

/** Everything that stages write. */
const runContents = [
  'run.json',
  'tokenizer.json',
  'encoder',
  'encoders',
  'language',
  'summaries',
  'systems',
  'users',
  'stores',
  'prompt-caches',
  'checkpoints',
  'outcomes',
  'report.json',
  'report.html',
  'sweep.json',
  'sweep.html',
];

async function readManifest(file: string): Promise<Manifest | null> {
  try {
    await access(file);
  } catch {
    return null;
  }
  const parsed = manifestShape.safeParse(parseJson(await readFile(file, 'utf8')));
  if (!parsed.success) throw new UsageError(`${file} is not a run's record, or is damaged; name another folder with --out`);
  return parsed.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
