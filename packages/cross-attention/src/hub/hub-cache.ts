import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile, readdir, rename, stat, symlink } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@user-llm/onnx-autograd';
import { z } from 'zod';

/** A file of a repository at one commit. */
export interface RepositoryFile {
  readonly size: number;
  /** What its bytes hash to: SHA-256 (64 digits) of the content of large files, git's own SHA-1 (40) of others. */
  readonly hash: string;
}

/** A repository's files at one commit, by their paths. */
export type Listing = ReadonlyMap<string, RepositoryFile>;

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);
export const isFileHash = (hash: string): boolean => /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash);

/** Whether a repository's path stays inside the folder that it is put into, on every system. */
export const isInside = (name: string): boolean =>
  !/[\\:\0]/.test(name) && name.split('/').every((part) => part !== '' && part !== '.' && part !== '..');

const storedListing = z.record(
  z.string().refine(isInside),
  z.object({ size: z.int().nonnegative(), hash: z.string().refine(isFileHash) }),
);

/**
 * One model in a cache as Hugging Face's own tools lay it out, so that all share it: `refs/REVISION` holds a commit, `blobs/HASH` a file's
 * bytes, `snapshots/COMMIT/PATH` links to them. `listings/COMMIT.json` is ours: what the repository holds, which tells without a request
 * whether a snapshot is whole.
 */
export class HubCache {
  readonly folder: string;

  constructor(cache: string, model: string) {
    this.folder = path.join(cache, `models--${model.replaceAll('/', '--')}`);
  }

  snapshot(commit: string): string {
    return path.join(this.folder, 'snapshots', commit);
  }

  file(commit: string, name: string): string {
    return path.join(this.snapshot(commit), ...name.split('/'));
  }

  blob(hash: string): string {
    return path.join(this.folder, 'blobs', hash);
  }

  /** The commit that a revision stood for when it was last asked for. */
  async commit(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = await readFile(this.#reference(revision), 'utf8').catch(() => '');
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  async writeCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision)) return;
    await this.#write(this.#reference(revision), commit);
  }

  /** What the repository holds at a commit, if that was noted. */
  async listing(commit: string): Promise<Listing | undefined> {
    try {
      return new Map(Object.entries(storedListing.parse(JSON.parse(await readFile(this.#listing(commit), 'utf8')))));
    } catch {
      return undefined;
    }
  }

  async writeListing(commit: string, listing: Listing): Promise<void> {
    await this.#write(this.#listing(commit), JSON.stringify(Object.fromEntries(listing)));
  }

  /** Paths of the files that are in a snapshot. */
  async present(commit: string): Promise<string[]> {
    const names: string[] = [];
    const walk = async (within: string): Promise<void> => {
      const entries = await readdir(path.join(this.snapshot(commit), within), { withFileTypes: true }).catch(() => []);
      for (const entry of entries) {
        const name = within === '' ? entry.name : `${within}/${entry.name}`;
        if (entry.isDirectory()) await walk(name);
        else if ((await stat(this.file(commit, name)).catch(() => undefined)) !== undefined) names.push(name);
      }
    };
    await walk('');
    return names;
  }

  /** Whether a file is in a snapshot in its full size. Its bytes were checked when they came. */
  async has(commit: string, name: string, { size }: RepositoryFile): Promise<boolean> {
    return (await stat(this.file(commit, name)).catch(() => undefined))?.size === size;
  }

  async hasBlob({ size, hash }: RepositoryFile): Promise<boolean> {
    return (await stat(this.blob(hash)).catch(() => undefined))?.size === size;
  }

  /** Links a blob into a snapshot; copies it where the system has no links. */
  async link(commit: string, name: string, hash: string): Promise<void> {
    const place = this.file(commit, name);
    const folder = path.dirname(place);
    await mkdir(folder, { recursive: true });
    const temporary = `${place}.${randomBytes(6).toString('hex')}.tmp`;
    try {
      await symlink(path.relative(folder, this.blob(hash)), temporary);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
      await copyFile(this.blob(hash), temporary);
    }
    await rename(temporary, place);
  }

  #reference(revision: string): string {
    return path.join(this.folder, 'refs', ...revision.split('/'));
  }

  #listing(commit: string): string {
    return path.join(this.folder, 'listings', `${commit}.json`);
  }

  async #write(file: string, text: string): Promise<void> {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFileAtomically(file, [new TextEncoder().encode(text)]);
  }
}
