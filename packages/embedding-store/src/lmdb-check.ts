import { spawn } from 'node:child_process';
import { access, constants, open as openFile, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { StoreAccessError, StoreDamagedError } from './errors.js';

// LMDB maps its file into memory: a page that a damaged pointer names, or that a truncated file no longer has, ends the
// process with SIGSEGV or SIGBUS. So the file is looked at before it is opened here: its meta pages are read as bytes, and a
// child process opens and reads it first.

/**
 * Throws StoreAccessError where the store's files are there and this process may not read and write them: LMDB maps what it could not
 * open, which ends the process. Asked for, not tried: closing the lock file would let go of the locks that another handle of
 * this process has on it.
 */
export async function requireAccess(folder: string): Promise<void> {
  for (const name of ['data.mdb', 'lock.mdb']) {
    const file = path.join(folder, name);
    try {
      if (!(await stat(file)).isFile()) throw new Error(`${name} in it is not a file`);
      await access(file, constants.R_OK | constants.W_OK);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw new StoreAccessError(folder, (error as Error).message);
    }
  }
}

const lmdbMagic = 0xbeefc0de;
const pageHeader = 24;
/** Offsets inside a meta page: magic, version, page size, last page, transaction. */
const at = {
  magic: pageHeader,
  version: pageHeader + 4,
  pageSize: pageHeader + 24,
  freeRoot: pageHeader + 64,
  lastPage: pageHeader + 120,
  transaction: pageHeader + 128,
};
const metaBytes = pageHeader + 144;

/** What the meta pages say: whether the file holds every page they count. */
interface Layout {
  pageSize: number;
  neededBytes: number;
  fileBytes: number;
  /** Whether every page of the tree that lists free pages is in the file. */
  freeListWhole: boolean;
}

/** Reads the meta pages; undefined for a file that is missing or empty, which LMDB creates anew. */
async function readLayout(file: string, folder: string): Promise<Layout | undefined> {
  const handle = await openFile(file, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new StoreAccessError(folder, error.message);
  });
  if (!handle) return undefined;
  try {
    if ((await handle.stat()).size === 0) return undefined;
    const meta = async (offset: number, name: string): Promise<Buffer> => {
      const bytes = Buffer.alloc(metaBytes);
      const { bytesRead } = await handle.read(bytes, 0, metaBytes, offset);
      if (bytesRead < metaBytes) throw new StoreDamagedError(folder, `the file ends inside its ${name} meta page`);
      if (bytes.readUInt32LE(at.magic) !== lmdbMagic)
        throw new StoreDamagedError(folder, `its ${name} meta page is not one of LMDB's`);
      return bytes;
    };
    const first = await meta(0, 'first');
    const pageSize = first.readUInt32LE(at.pageSize);
    if (pageSize < 512 || pageSize > 65536 || (pageSize & (pageSize - 1)) !== 0) {
      throw new StoreDamagedError(folder, `its page size reads ${pageSize}, which cannot be`);
    }
    const second = await meta(pageSize, 'second');
    if (second.readUInt32LE(at.version) !== first.readUInt32LE(at.version) || second.readUInt32LE(at.pageSize) !== pageSize) {
      throw new StoreDamagedError(folder, 'its two meta pages contradict each other');
    }
    const newest = second.readBigUInt64LE(at.transaction) > first.readBigUInt64LE(at.transaction) ? second : first;
    // Looked at last: a writer in another process lengthens the file before it counts the pages.
    const fileBytes = (await handle.stat()).size;
    const neededBytes = (Number(newest.readBigUInt64LE(at.lastPage)) + 1) * pageSize;
    const freeListWhole =
      fileBytes >= neededBytes || (await holdsTree(handle, newest.readBigUInt64LE(at.freeRoot), { pageSize, fileBytes }));
    return { pageSize, neededBytes, fileBytes, freeListWhole };
  } finally {
    await handle.close();
  }
}

const noPage = 0xffff_ffff_ffff_ffffn;
const branch = 1;
const leaf = 2;
const bigData = 1;

/** Whether all pages of a tree lie inside the file: the one tree that reading records does not touch, and writing does. */
async function holdsTree(
  handle: FileHandle,
  root: bigint,
  { pageSize, fileBytes }: { pageSize: number; fileBytes: number },
): Promise<boolean> {
  if (root === noPage) return true;
  const inFile = (number: bigint, count = 1): boolean => (Number(number) + count) * pageSize <= fileBytes;
  if (!inFile(root)) return false;
  const page = Buffer.alloc(pageSize);
  await handle.read(page, 0, pageSize, Number(root) * pageSize);
  const flags = page.readUInt16LE(18) & (branch | leaf);
  const nodes = page.readUInt16LE(20) >> 1;
  if ((flags !== branch && flags !== leaf) || pageHeader + 2 * nodes > pageSize) return false;
  for (let node = 0; node < nodes; node++) {
    const start = pageHeader + page.readUInt16LE(pageHeader + 2 * node);
    const keyBytes = start + 8 <= pageSize ? page.readUInt16LE(start + 6) : pageSize;
    if (start + 8 + keyBytes > pageSize) return false;
    if (flags === branch) {
      const child = BigInt(page.readUInt32LE(start)) | (BigInt(page.readUInt16LE(start + 4)) << 32n);
      if (child <= 1n || child === root || !(await holdsTree(handle, child, { pageSize, fileBytes }))) return false;
    } else if (page.readUInt16LE(start + 4) & bigData) {
      if (start + 16 + keyBytes > pageSize || !inFile(page.readBigUInt64LE(start + 8 + keyBytes))) return false;
    }
  }
  return true;
}

// Runs in the child: opens the store as this process would (after a power cut LMDB then goes back to the last flushed
// transaction) and touches its trees' edges, or with 'full' every page of every record.
const probe = `
const [lmdb, folder, extent] = process.argv.slice(1);
const root = require(lmdb).open({ path: folder, noSubdir: false, safeRestore: true, keyEncoding: 'binary', encoding: 'binary' });
root.getStats();
for (const name of ['records', 'tails']) {
  const db = root.openDB({ name, create: false, keyEncoding: 'binary', encoding: 'binary' });
  if (!db) continue;
  const ranges = extent === 'full' ? [{}] : [{ limit: 2 }, { limit: 2, reverse: true }];
  for (const range of ranges) for (const { value } of db.getRange(range)) for (let at = 0; at < value.length; at += 512) value[at];
}
root.close().then(() => {
  process.stdout.write('readable');
  process.exit(0);
});
`;

function runProbe(folder: string, extent: 'quick' | 'full'): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const lmdb = createRequire(import.meta.url).resolve('lmdb');
    const child = spawn(process.execPath, ['-e', probe, '--', lmdb, folder, extent], {
      env: { ...process.env, NODE_OPTIONS: '', ELECTRON_RUN_AS_NODE: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    let err = '';
    child.stdout.on('data', (piece: Buffer) => (out += piece));
    child.stderr.on('data', (piece: Buffer) => (err = (err + piece).slice(-4000)));
    child.on('error', (error) =>
      reject(new StoreAccessError(folder, `the check before opening could not start: ${error.message}`)),
    );
    child.on('close', (code, signal) => {
      if (code === 0 && out === 'readable') resolve(undefined);
      else if (signal) resolve(`reading it ended a trial process with ${signal}`);
      else resolve(`a trial process could not read it (${/^\s*(?:\w*Error: )(.+)$/m.exec(err)?.[1] ?? `exit ${code}`})`);
    });
  });
}

/**
 * Throws StoreDamagedError where opening `file` could end this process.
 * @param extent `quick` reads the edges of the trees, in about 60 ms; `full` every record.
 */
export async function checkFile(file: string, folder: string, extent: 'quick' | 'full'): Promise<void> {
  if (!(await readLayout(file, folder))) return;
  const reason = await runProbe(folder, extent);
  if (reason !== undefined) throw new StoreDamagedError(folder, reason);
  // Only now, as opening may have gone back to an earlier, shorter state.
  const layout = await readLayout(file, folder);
  if (!layout || layout.fileBytes >= layout.neededBytes) return;
  // A file may end before its last page where that page is free, so a short file is read whole rather than refused.
  const missing = layout.freeListWhole ? await runProbe(folder, 'full') : 'its list of free pages is cut off';
  if (missing === undefined) return;
  throw new StoreDamagedError(folder, `the file has ${layout.fileBytes} bytes of ${layout.neededBytes}, and ${missing}`);
}
