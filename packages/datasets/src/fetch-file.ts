import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { ChecksumError, DownloadError } from './errors.js';

export interface DownloadProgress {
  file: string;
  /** Received and written, those of earlier connections included. */
  receivedBytes: number;
  /** `undefined` when the server does not say. */
  totalBytes?: number;
}

export interface FetchOptions {
  signal?: AbortSignal;
  onProgress?: (progress: DownloadProgress) => void;
  /** How often a broken connection is taken up again, each time where it broke. Default 5. */
  retries?: number;
  /** First pause between tries, doubled each time. Default 500 ms. */
  retryDelayMs?: number;
  /** A connection that brings nothing for so long is broken. Default 60,000 ms. */
  idleTimeoutMs?: number;
}

/** What a half-fetched file is of: carried on only when the server still has the same. */
interface Partial {
  url: string;
  /** ETag or Last-Modified. */
  version: string | null;
}

/**
 * Fetches one file to `target`: into `target.part` first, renamed when whole and checked. A `.part` that is there already, from
 * an earlier call or a broken connection, is carried on by an HTTP range request if the server's file is still the same.
 *
 * @throws DownloadError when the server refuses or the connection breaks too often (what has come stays for the next call).
 * @throws ChecksumError when the bytes are not the published ones (what has come is deleted); what `onProgress` throws.
 */
export async function fetchFile(
  url: string,
  target: string,
  md5: string | undefined,
  options: FetchOptions = {},
): Promise<{ bytes: number; sha256: string }> {
  const { signal, retries = 5, retryDelayMs = 500 } = options;
  const part = `${target}.part`;
  let totalBytes: number | undefined;
  let thrown: { error: unknown } | undefined;
  const onProgress = (progress: DownloadProgress): void => {
    try {
      options.onProgress?.(progress);
    } catch (error) {
      thrown = { error };
      throw error;
    }
  };
  for (let attempt = 0; ; attempt++) {
    try {
      totalBytes = await fetchPart(url, part, { ...options, onProgress });
      break;
    } catch (error) {
      signal?.throwIfAborted();
      // The caller's own, which no new connection mends.
      if (thrown) throw thrown.error;
      const final = DownloadError.isInstance(error) && !error.retry;
      if (final) throw error;
      if (!isNetworkError(error)) throw error;
      if (attempt >= retries)
        throw new DownloadError(
          url,
          `the connection broke ${attempt + 1} times`,
          'Call it again: it carries on where it stopped.',
          { cause: error },
        );
      await sleep(retryDelayMs * 2 ** attempt, undefined, { signal });
    }
  }
  const hashes = await hashFile(part, signal);
  if (totalBytes !== undefined && hashes.bytes !== totalBytes) {
    await rm(part, { force: true });
    await rm(`${part}.json`, { force: true });
    throw new DownloadError(
      url,
      `${path.basename(part)} has ${hashes.bytes} bytes of ${totalBytes}: something else wrote into it`,
      'What has come is deleted: call it again.',
    );
  }
  if (md5 !== undefined && hashes.md5 !== md5) {
    await rm(part, { force: true });
    await rm(`${part}.json`, { force: true });
    throw new ChecksumError(path.basename(target), md5, hashes.md5);
  }
  await rename(part, target);
  await rm(`${part}.json`, { force: true });
  return { bytes: hashes.bytes, sha256: hashes.sha256 };
}

/** @returns the bytes of the whole file, `undefined` when the server does not say. */
async function fetchPart(url: string, part: string, options: FetchOptions): Promise<number | undefined> {
  const { signal, onProgress, idleTimeoutMs = 60_000 } = options;
  const known = await readPartial(part, url);
  const idle = new AbortController();
  let timer = setTimeout(() => idle.abort(), idleTimeoutMs);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => idle.abort(), idleTimeoutMs);
  };
  try {
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (known.bytes > 0) Object.assign(headers, { range: `bytes=${known.bytes}-`, 'if-range': known.version });
    const response = await fetch(url, { headers, signal: signal ? AbortSignal.any([signal, idle.signal]) : idle.signal });
    if (response.status === 416) {
      // The range starts at or after the end: nothing is left to fetch, or the file has changed. Start again to be sure.
      await rm(part, { force: true });
      await response.body?.cancel();
      throw new DownloadError(url, 'the server refused the range', 'Call it again.', undefined, true);
    }
    if (!response.ok || response.body === null) {
      const retry = response.status >= 500 || response.status === 429;
      await response.body?.cancel();
      throw new DownloadError(
        url,
        `the server answered ${response.status} ${response.statusText}`.trim(),
        'Check the name, or try again later.',
        undefined,
        retry,
      );
    }
    const resumed = response.status === 206 && contentStart(response) === known.bytes && known.bytes > 0;
    if (response.status === 206 && !resumed)
      throw new DownloadError(url, 'the server sent another range than asked for', 'Try again later.');
    const version = response.headers.get('etag') ?? response.headers.get('last-modified');
    let received = resumed ? known.bytes : 0;
    const length = response.headers.get('content-length');
    const totalBytes = length === null ? undefined : received + Number(length);
    const file = path.basename(part, '.part');
    // Emptied before the new version is noted: bytes of an older one must never pass for it.
    const to = await open(part, resumed ? 'a' : 'w');
    try {
      if (!resumed) await writeFile(`${part}.json`, JSON.stringify({ url, version } satisfies Partial));
      onProgress?.({ file, receivedBytes: received, totalBytes });
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        alive();
        // Each piece is in the file before the next is asked for, so a broken connection loses none that were reported.
        await to.writeFile(chunk);
        received += chunk.length;
        onProgress?.({ file, receivedBytes: received, totalBytes });
      }
    } finally {
      await to.close();
    }
    if (totalBytes !== undefined && received !== totalBytes)
      throw new DownloadError(url, 'the connection ended early', 'Call it again.', undefined, true);
    return totalBytes;
  } finally {
    clearTimeout(timer);
  }
}

async function readPartial(part: string, url: string): Promise<{ bytes: number; version: string | null }> {
  try {
    const partial = JSON.parse(await readFile(`${part}.json`, 'utf8')) as Partial;
    // A weak ETag or none cannot promise the same bytes: fetch from the start.
    if (partial.url === url && partial.version !== null && !partial.version.startsWith('W/'))
      return { bytes: (await stat(part)).size, version: partial.version };
  } catch {
    // Nothing to carry on.
  }
  return { bytes: 0, version: null };
}

function contentStart(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? NaN);
}

/** Broken connections, not a full disk or a forbidden folder: those have system error codes and no retry helps. */
function isNetworkError(error: unknown): boolean {
  if (DownloadError.isInstance(error)) return error.retry;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return !['ENOSPC', 'EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR', 'EISDIR', 'EDQUOT', 'EFBIG', 'EMFILE'].includes(code);
}

async function hashFile(file: string, signal: AbortSignal | undefined): Promise<{ bytes: number; md5: string; sha256: string }> {
  const md5 = createHash('md5');
  const sha256 = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20, signal }) as AsyncIterable<Buffer>) {
    md5.update(chunk);
    sha256.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, md5: md5.digest('hex'), sha256: sha256.digest('hex') };
}
