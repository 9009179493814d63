import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { RepositoryFile } from './hub-cache.js';
import { Interruption, retried } from './hub-client.js';
import type { HubClient } from './hub-client.js';
import { HubError } from './hub-error.js';
import { alone, partialFile } from './partial-file.js';
import type { HubSettings } from './hub-options.js';

export interface WantedBlob extends RepositoryFile {
  readonly model: string;
  readonly commit: string;
  readonly name: string;
}

/** Bytes after which a connection that broke was a good one. */
const goodConnection = 1 << 20;

/**
 * Fetches a file's bytes to `place`: into a file beside it first, renamed when the bytes are whole and hash to what the repository says.
 * What an earlier call or a broken connection left there is carried on.
 */
export async function fetchBlob(
  client: HubClient,
  wanted: WantedBlob,
  place: string,
  settings: HubSettings,
  report: (receivedBytes: number) => void,
): Promise<void> {
  const { signal, endpoint } = settings;
  await mkdir(path.dirname(place), { recursive: true });
  await alone(place, signal, async () => {
    if ((await sizeOf(place)) === wanted.size) return;
    const partial = await partialFile(place);
    const receiveWhole = async () => {
      await receiveAll(client, wanted, partial, settings, report);
      if (await isWhole(partial, wanted, signal)) return true;
      await rm(partial, { force: true });
      return false;
    };
    const carriedOn = (await lengthOf(partial)) > 0;
    // The fault may lie in what was there before this call.
    if (!(await receiveWhole()) && !(carriedOn && (await receiveWhole())))
      throw new HubError(
        'damaged',
        wanted.model,
        `what came from ${endpoint} is not what the repository lists (its size or hash differs), and was removed. Try again; if it stays so, a proxy or mirror changes the file.`,
        { file: wanted.name },
      );
    await rename(partial, place);
  });
}

async function receiveAll(
  client: HubClient,
  wanted: WantedBlob,
  partial: string,
  settings: HubSettings,
  report: (receivedBytes: number) => void,
): Promise<void> {
  let length = 0;
  let before = 0;
  try {
    await retried(
      settings,
      async () => {
        before = length = await lengthOf(partial);
        await receive(client, wanted, partial, length, settings, (received) => {
          length = received;
          report(received);
        });
      },
      () => length - before >= goodConnection,
    );
  } catch (error) {
    settings.signal?.throwIfAborted();
    if (!(error instanceof Interruption)) throw error;
    throw new HubError(
      'interrupted',
      wanted.model,
      `the connection to ${settings.endpoint} broke too often (${error.message}), after ${length} of ${wanted.size} bytes. Try again: it carries on from there.`,
      { file: wanted.name, cause: error },
    );
  }
}

async function receive(
  client: HubClient,
  { commit, name, size }: WantedBlob,
  partial: string,
  from: number,
  { signal, idleTimeoutMs }: HubSettings,
  report: (receivedBytes: number) => void,
): Promise<void> {
  const file = await open(partial, from > 0 ? 'r+' : 'w');
  const idle = new AbortController();
  const fallAsleep = () => idle.abort(new Interruption(`nothing came for ${idleTimeoutMs} ms`));
  let timer = setTimeout(fallAsleep, idleTimeoutMs);
  try {
    if (from > size) await file.truncate((from = 0));
    let at = from;
    report(at);
    if (at === size) return;
    for await (const chunk of await client.bytes(commit, name, size, at, idle.signal)) {
      clearTimeout(timer);
      timer = setTimeout(fallAsleep, idleTimeoutMs);
      // More than was announced is not written: a lying server fills no disk.
      if (at + chunk.length > size) throw new Interruption('more bytes came than the file has');
      for (let start = 0; start < chunk.length;) {
        const { bytesWritten } = await file.write(chunk, start, chunk.length - start, at);
        start += bytesWritten;
        at += bytesWritten;
      }
      report(at);
    }
    if (at < size) throw new Interruption('the answer ended early');
    await file.sync();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
    await file.close();
  }
}

/** Undefined for a file that is not there: an empty one may be wanted. */
const sizeOf = async (file: string): Promise<number | undefined> => (await stat(file).catch(() => undefined))?.size;
const lengthOf = async (file: string): Promise<number> => (await sizeOf(file)) ?? 0;

/** Whether a file has its size and hash. */
async function isWhole(file: string, { size, hash }: RepositoryFile, signal: AbortSignal | undefined): Promise<boolean> {
  if ((await lengthOf(file)) !== size) return false;
  const digest = hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
  const bytes = createReadStream(file, { highWaterMark: 1 << 20, ...(signal && { signal }) }) as AsyncIterable<Uint8Array>;
  try {
    for await (const chunk of bytes) digest.update(chunk);
  } catch (error) {
    // The stream's own error would not say why.
    signal?.throwIfAborted();
    throw error;
  }
  return digest.digest('hex') === hash;
}
