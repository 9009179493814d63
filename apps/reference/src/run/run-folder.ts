import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { isDamage, UsageError } from '../errors.js';
import { claimRunFolder, releaseRunFolder } from './run-lock.js';
import {
  differences,
  newManifest,
  quoted,
  readManifest,
  sampleSize,
  settingsAsOptions,
  writeManifest,
  type Manifest,
  type RunSettings,
  type StageRecord,
} from './run-manifest.js';

export interface StageOptions {
  /** What the stage leaves, by path inside the run folder: where that is gone, the stage is not finished. */
  readonly leaves?: readonly string[];
  /** Runs before anything is written: what it throws leaves no folder behind. */
  readonly before?: () => Promise<void>;
  /** Removes what an unfinished stage needs alone, once the record that it is finished is on the disk. */
  readonly after?: () => Promise<void>;
}

/**
 * A folder that holds one run: run.json says which stages are finished and with which settings, so that a second run goes on
 * where the first one stopped. A new folder is made when its first stage begins.
 */
export class RunFolder {
  /** Options that choose what is compared, as they were typed: a command that is named for an error takes them too. */
  chosen = '';

  private constructor(
    readonly folder: string,
    private manifest: Manifest,
    private begun: boolean,
    readonly fresh = false,
  ) {}

  /** Opens the folder and checks that it was made with the same settings, or is to be made; `fresh` replaces a former run. */
  static async create(folder: string, settings: RunSettings, { fresh = false } = {}): Promise<RunFolder> {
    if ((await stat(folder).catch(() => undefined))?.isDirectory() === false)
      throw new UsageError(`${folder} is a file, and a run needs a folder; name another one with --out`);
    const known = await readManifest(path.join(folder, 'run.json'));
    if (known === null) await refuseOthersFiles(folder);
    if (known === null || fresh) return new RunFolder(folder, newManifest(settings), false, fresh);
    refuseOthers(folder, known, settings);
    return new RunFolder(folder, withUsers(known, settings), false);
  }

  /** Whether a folder holds a run. */
  static async exists(folder: string): Promise<boolean> {
    return (await readManifest(path.join(folder, 'run.json'))) !== null;
  }

  /** Opens a folder that a run has made. @param seed where one is given it must be the run's */
  static async open(folder: string, seed?: number): Promise<RunFolder> {
    const manifest = await readManifest(path.join(folder, 'run.json'));
    if (!manifest)
      throw new UsageError(`${folder} is no run folder (it has no run.json); make one with: user-llm poc --out ${folder}`);
    if (seed !== undefined && manifest.settings.seed !== seed)
      throw new UsageError(
        `${folder} holds a run with --seed ${String(manifest.settings.seed)}, not ${seed}; leave --seed out, or name that seed's folder with --run`,
      );
    return new RunFolder(folder, manifest, false);
  }

  /** Removes what a former run left in the folder, and nothing that is not a run's. */
  static async clear(folder: string): Promise<void> {
    if (!(await readManifest(path.join(folder, 'run.json')))) return;
    // Its record last: it says that the others are a run's.
    for (const name of runContents.toReversed()) await rm(path.join(folder, name), { recursive: true, force: true });
  }

  get settings(): RunSettings {
    return this.manifest.settings as unknown as RunSettings;
  }

  path(...parts: string[]): string {
    return path.join(this.folder, ...parts);
  }

  /** Makes the folder where there is none, and claims it for this process; what killed runs left half-written is removed. */
  async begin(): Promise<void> {
    if (this.begun) return;
    await makeFolder(this.folder);
    await claimRunFolder(this.folder);
    try {
      if (this.fresh) await RunFolder.clear(this.folder);
      // Another process may have been at work since the record was read.
      const file = this.path('run.json');
      const found = await readManifest(file);
      if (found === null) {
        await refuseOthersFiles(this.folder);
        await writeManifest(file, this.manifest);
      } else {
        refuseOthers(this.folder, found, this.settings);
        await removePartial(this.folder);
      }
      if (found !== null) {
        this.manifest = withUsers(found, this.settings);
        if (this.manifest !== found) await writeManifest(file, this.manifest);
      }
      this.begun = true;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Lets other processes work in the folder. */
  async close(): Promise<void> {
    this.begun = false;
    await releaseRunFolder(this.folder);
  }

  /** The record of a finished stage, or undefined, also where what it left is gone. */
  finished(stage: string): StageRecord | undefined {
    const record = this.manifest.stages[stage];
    return record?.leaves?.every((name) => existsSync(this.path(name))) === false ? undefined : record;
  }

  /** The record of a stage that was finished once, whether or not what it left is still there. */
  recorded(stage: string): StageRecord | undefined {
    return this.manifest.stages[stage];
  }

  /** The record of a stage that another one builds on. */
  need(stage: string, command: string): StageRecord {
    const record = this.finished(stage);
    if (record) return record;
    const gone = this.manifest.stages[stage]?.leaves?.find((name) => !existsSync(this.path(name)));
    const what = gone === undefined ? `'${stage}' is not finished yet` : `${gone}, which '${stage}' left, is gone`;
    throw new UsageError(`${this.folder}: ${what}; run: ${this.command(command)}`);
  }

  /** Runs a stage unless it is finished with the same key; a changed key runs it again. */
  async stage<T extends Record<string, unknown>>(
    name: string,
    key: unknown,
    work: () => Promise<T>,
    { leaves, before, after }: StageOptions = {},
  ): Promise<StageRecord> {
    const hash = createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 16);
    const known = (): StageRecord | undefined => {
      const record = this.finished(name);
      return record?.key === hash ? record : undefined;
    };
    const finished = known();
    if (finished) {
      await after?.();
      return finished;
    }
    const began = performance.now();
    await before?.();
    await this.begin();
    const meanwhile = known();
    if (meanwhile) return meanwhile;
    const result = await work();
    const finishedAt = new Date().toISOString();
    const record: StageRecord = {
      key: hash,
      seconds: (performance.now() - began) / 1000,
      finishedAt,
      result,
      ...(leaves && { leaves: [...leaves] }),
      ...(this.manifest.stages[name]?.key === hash && { remade: finishedAt }),
    };
    this.manifest = { ...this.manifest, stages: { ...this.manifest.stages, [name]: record } };
    await writeManifest(this.path('run.json'), this.manifest);
    await after?.();
    return record;
  }

  /** Forgets stages, by how their names begin: what they left went with something else. */
  async forget(prefix: string): Promise<void> {
    const stages = Object.entries(this.manifest.stages).filter(([name]) => !name.startsWith(prefix));
    this.manifest = { ...this.manifest, stages: Object.fromEntries(stages) };
    await writeManifest(this.path('run.json'), this.manifest);
  }

  /** Reads what a stage left; where that is damaged, the error says which command makes it anew. */
  async read<T>(part: string, command: string, read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (!isDamage(error)) throw error;
      throw this.damaged(part, command, (error as Error).message.split(/\.\s|\.$/)[0], error);
    }
  }

  /** For what a stage left and cannot be used. @param command the one that makes it anew, once it is removed */
  damaged(part: string, command: string, problem: string, cause?: unknown): UsageError {
    return new UsageError(`${problem}. Remove ${this.path(part)} and run: ${this.command(command)}`, { cause });
  }

  private command(name: string): string {
    // Those that can make a run are refused where they are not given what it was made with.
    const minutes = making[name];
    const settings = minutes === undefined ? '' : settingsAsOptions(this.manifest.settings, minutes);
    const chosen = choosing.includes(name) ? this.chosen : '';
    return `user-llm ${name} --run ${quoted(this.folder)}${settings}${chosen}`;
  }
}

/** Commands that take the options that choose what is compared. */
const choosing = ['adapt', 'encode', 'eval', 'poc', 'sweep'];
/** Commands that make a run, and how they are told its minutes. */
const making: Readonly<Record<string, string>> = { fit: '--minutes', sweep: '--cell-minutes' };

function refuseOthers(folder: string, known: Manifest, wanted: RunSettings): void {
  // More users may be asked: nothing is trained anew for that, and the answers of those before stay.
  const before = known.settings as unknown as RunSettings;
  const grows = wanted.users === undefined || sampleSize({ ...before, users: wanted.users }) > sampleSize(before);
  const differing = differences(known.settings, grows ? { ...wanted, users: before.users } : wanted);
  if (differing.length > 0)
    throw new UsageError(
      `${folder} holds a run with ${differing.join('; ')}. Give the same settings, another --out, or --fresh to start anew`,
    );
}

/** A run's record with as many test users as are wanted now. */
const withUsers = (known: Manifest, { users = known.settings.users as number | undefined }: RunSettings): Manifest =>
  users === known.settings.users ? known : { ...known, settings: { ...known.settings, users } };

/** A run writes over what has the names of its files, and `fresh` removes it: where no run was, that is somebody's own. */
async function refuseOthersFiles(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const taken = names.filter((name) => runContents.includes(name));
  if (taken.length > 0)
    throw new UsageError(
      `${folder} is no run folder (it has no run.json), and its ${taken.join(', ')} would be written over; name another folder with --out`,
    );
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    // Node says ENOENT of a folder that is to be made on a read-only file system.
    const parent = path.dirname(path.resolve(folder));
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === path.resolve(folder)) throw error;
    await makeFolder(parent);
    await mkdir(folder);
  }
}

/** Names of what is written beside its place before it is moved there. */
const partial = /\.(tmp|part|old|partial)$/;

async function removePartial(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const place = path.join(folder, entry.name);
    if (entry.isDirectory() && runContents.includes(entry.name)) await removePartialBelow(place);
    // Beside them may lie what is somebody's own.
    else if (partial.test(entry.name) && runContents.some((name) => entry.name.replace(/^\./, '').startsWith(`${name}.`)))
      await rm(place, { recursive: true, force: true });
  }
}

async function removePartialBelow(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (partial.test(entry.name)) await rm(path.join(entry.parentPath, entry.name), { recursive: true, force: true });
}

/** Everything that stages write, the run's own record first. */
const runContents = [
  'run.json',
  'tokenizer.json',
  'encoder',
  'encoders',
  'language',
  'summaries',
  'systems',
  'users',
  'live',
  'stores',
  'prompt-caches',
  'scaling-users',
  'checkpoints',
  'outcomes',
  'report.json',
  'report.html',
  'sweep.json',
  'sweep.html',
];
