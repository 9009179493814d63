import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import path from 'node:path';
import { crc32, deflateRawSync, gzipSync } from 'node:zlib';

import { ChecksumError, DamagedFileError, download, DownloadError, InvalidOptionError, openDataset } from '../src/index.js';
import { all, folderOf } from './helpers.js';

jest.setTimeout(60_000);

/** A zip archive, so that the tests need none from elsewhere. */
function zip(files: Record<string, string>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, text] of Object.entries(files)) {
    const content = Buffer.from(text);
    const packed = deflateRawSync(content);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from([0x50, 0x4b, 3, 4]), common, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from([0x50, 0x4b, 1, 2, 20, 0]), common, tail, Buffer.from(name)]));
    parts.push(local);
    offset += local.length;
  }
  const listing = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(directory.length, 8);
  end.writeUInt16LE(directory.length, 10);
  end.writeUInt32LE(listing.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, listing, end]);
}

const ratings = Array.from(
  { length: 4000 },
  (_, i) => `${1 + (i % 50)}\t${1 + ((i * 7919) % 1009)}\t${1 + ((i * 31) % 5)}\t${881250949 + ((i * 104_729) % 999_983)}`,
).join('\n');
const archive = zip({ 'ml-100k/u.data': ratings, 'ml-100k/README': 'hello' });
const md5 = createHash('md5').update(archive).digest('hex');

let server: Server;
let baseUrl: string;
/** Requests as they came: path and the range asked for. */
let requests: string[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
/** Who waits for the client to report so many bytes: connections break there, not after some time. */
let waiting: { bytes: number; then: () => void }[];
let folder: string;
let remove: () => Promise<void>;

beforeEach(async () => {
  requests = [];
  waiting = [];
  server = createServer((request, response) => {
    requests.push(`${request.url} ${request.headers.range ?? ''}`.trim());
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  ({ folder, remove } = await folderOf({}));
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await remove();
});

function onProgress({ receivedBytes }: { receivedBytes: number }): void {
  const due = waiting.filter(({ bytes }) => bytes <= receivedBytes);
  waiting = waiting.filter(({ bytes }) => bytes > receivedBytes);
  for (const { then } of due) then();
}

/**
 * Serves the archive and its checksum; `cuts` says after how many bytes each connection breaks. It breaks when the client has
 * reported these bytes to `onProgress`.
 */
function serve({
  cuts = [],
  ranges = true,
  checksum = md5,
  etag = '"1"',
}: { cuts?: number[]; ranges?: boolean; checksum?: string; etag?: string } = {}): void {
  const left = [...cuts];
  answer = (request, response) => {
    if (request.url === '/ml-100k.zip.md5') {
      response.end(`${checksum}  ml-100k.zip\n`);
      return;
    }
    const from =
      ranges && request.headers['if-range'] === etag ? Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0;
    const body = archive.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      'content-length': body.length,
      etag,
      ...(from > 0 && { 'content-range': `bytes ${from}-${archive.length - 1}/${archive.length}` }),
    });
    const cut = left.shift();
    if (cut === undefined) response.end(body);
    else {
      waiting.push({ bytes: from + cut, then: () => response.destroy() });
      response.write(body.subarray(0, cut));
    }
  };
}
const quick = { retryDelayMs: 1 };

test('fetches, checks, unpacks; the folder opens as a data set; a second call fetches nothing', async () => {
  serve();
  const progress: number[] = [];
  const result = await download('ml-100k', folder, {
    baseUrl,
    onProgress: ({ receivedBytes, totalBytes }) => progress.push(receivedBytes / totalBytes!),
  });
  expect(result.files).toEqual([
    {
      name: 'ml-100k.zip',
      url: `${baseUrl}/ml-100k.zip`,
      bytes: archive.length,
      sha256: createHash('sha256').update(archive).digest('hex'),
      verified: 'md5',
    },
  ]);
  expect((await readdir(result.folder)).sort()).toEqual(['.download.json', 'README', 'u.data']);
  expect(await readFile(path.join(result.folder, 'u.data'), 'utf8')).toBe(ratings);
  expect(progress.at(-1)).toBe(1);
  expect(progress).toEqual([...progress].sort((a, b) => a - b));
  expect(await all((await openDataset(result.folder)).events)).toHaveLength(4000);
  const before = requests.length;
  expect(await download('ml-100k', folder, { baseUrl })).toMatchObject({ fetched: false, files: result.files });
  expect(requests).toHaveLength(before);
});

describe('broken connections', () => {
  test('are taken up where they broke', async () => {
    serve({ cuts: [5000, 3000] });
    const { files } = await download('ml-100k', folder, { baseUrl, ...quick, onProgress });
    expect(files[0].verified).toBe('md5');
    expect(requests).toEqual(['/ml-100k.zip.md5', '/ml-100k.zip', '/ml-100k.zip bytes=5000-', '/ml-100k.zip bytes=8000-']);
  });

  test('are given up after some tries, and the next call carries on', async () => {
    serve({ cuts: [5000] });
    const error: unknown = await download('ml-100k', folder, { baseUrl, onProgress, retries: 0 }).catch(
      (thrown: unknown) => thrown,
    );
    expect(DownloadError.isInstance(error) && error.message).toMatch(/broke 1 times.*carries on where it stopped/);
    expect((await readdir(path.join(folder, 'ml-100k'))).sort()).toEqual(['ml-100k.zip.part', 'ml-100k.zip.part.json']);
    serve();
    await download('ml-100k', folder, { baseUrl });
    expect(requests.at(-1)).toBe('/ml-100k.zip bytes=5000-');
  });

  test.each([
    ['the server knows no ranges', { ranges: false }],
    ['the file on the server is another now', { etag: '"2"' }],
  ])('start from the first byte when %s', async (_, changed) => {
    serve({ cuts: [5000] });
    await download('ml-100k', folder, { baseUrl, onProgress, retries: 0 }).catch(() => undefined);
    serve(changed);
    const { files } = await download('ml-100k', folder, { baseUrl });
    expect(files[0]).toMatchObject({ bytes: archive.length, verified: 'md5' });
  });

  test('a signal stops it, and what has come stays for the next call', async () => {
    serve({ cuts: [5000, 100, 100, 100] });
    const stop = new AbortController();
    const run = download('ml-100k', folder, {
      baseUrl,
      retryDelayMs: 10_000,
      signal: stop.signal,
      onProgress: ({ receivedBytes }) => receivedBytes >= 5000 && stop.abort(),
    });
    await expect(run).rejects.toMatchObject({ name: 'AbortError' });
    expect(existsSync(path.join(folder, 'ml-100k', 'u.data'))).toBe(false);
    serve();
    expect((await download('ml-100k', folder, { baseUrl })).files[0].verified).toBe('md5');
  });
});

describe('the folder', () => {
  const failure = (options = {}): Promise<unknown> =>
    download('ml-100k', folder, { baseUrl, ...options }).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
  const lock = () => path.join(folder, 'ml-100k', '.downloading');

  test("is one download's at a time: another one is refused while it runs", async () => {
    serve();
    const [first, second] = await Promise.allSettled([1, 2].map(() => download('ml-100k', folder, { baseUrl })));
    const [done, refused] = first.status === 'fulfilled' ? [first, second] : [second, first];
    expect(done).toMatchObject({ status: 'fulfilled', value: { files: [{ bytes: archive.length, verified: 'md5' }] } });
    expect(refused.status === 'rejected' && DownloadError.isInstance(refused.reason) && refused.reason.message).toContain(
      `this process is fetching into the same folder. Wait for it to end and call this again; if nothing fetches there, remove ${lock()}.`,
    );
    expect(await download('ml-100k', folder, { baseUrl })).toMatchObject({ fetched: false });
  });

  test('may be locked by a process on another machine; the lock of a process that is gone counts for nothing', async () => {
    serve();
    await mkdir(path.dirname(lock()));
    await writeFile(lock(), '1 elsewhere');
    expect(String(await failure())).toContain('process 1 on elsewhere is fetching into the same folder');
    await writeFile(lock(), `999999999 ${hostname()}`);
    expect(await failure()).toBeUndefined();
    expect(existsSync(lock())).toBe(false);
  });

  test('that lost one of the files is filled again', async () => {
    serve();
    const { folder: target } = await download('ml-100k', folder, { baseUrl });
    await rm(path.join(target, 'u.data'));
    expect(await download('ml-100k', folder, { baseUrl })).toMatchObject({ fetched: true });
    expect(await readFile(path.join(target, 'u.data'), 'utf8')).toBe(ratings);
  });

  test('that a former release filled, whose record lists no contents, is finished', async () => {
    serve();
    const { folder: target, files } = await download('ml-100k', folder, { baseUrl });
    await writeFile(path.join(target, '.download.json'), JSON.stringify({ name: 'ml-100k', files }));
    const before = requests.length;
    expect(await download('ml-100k', folder, { baseUrl })).toEqual({ folder: target, files, fetched: false });
    expect(requests).toHaveLength(before);
  });

  test('is filled again where its record is cut off, and not where the record cannot be read', async () => {
    serve();
    const { folder: target } = await download('ml-100k', folder, { baseUrl });
    await writeFile(path.join(target, '.download.json'), '{ "name": "ml-1');
    expect(await download('ml-100k', folder, { baseUrl })).toMatchObject({ fetched: true });
    await rm(path.join(target, '.download.json'));
    await mkdir(path.join(target, '.download.json'));
    const before = requests.length;
    expect(await failure()).toMatchObject({ code: 'EISDIR' });
    expect(requests).toHaveLength(before);
  });

  test('gets no file of another length than the server said, whoever else wrote into it', async () => {
    serve();
    const part = path.join(folder, 'ml-100k', 'ml-100k.zip.part');
    const meddle = ({ receivedBytes }: { receivedBytes: number }) =>
      receivedBytes === 0 && appendFileSync(part, Buffer.alloc(archive.length + 10));
    const error = await failure({ onProgress: meddle });
    expect(DownloadError.isInstance(error) && error.problem).toBe(
      `ml-100k.zip.part has ${archive.length + 10} bytes of ${archive.length}: something else wrote into it`,
    );
    expect(await readdir(path.dirname(part))).toEqual([]);
  });
});

test('what onProgress throws is what download throws, at once', async () => {
  serve();
  const own = new Error('no more room on the screen');
  const fail = () => {
    throw own;
  };
  await expect(download('ml-100k', folder, { baseUrl, ...quick, onProgress: fail })).rejects.toBe(own);
  expect(requests).toEqual(['/ml-100k.zip.md5', '/ml-100k.zip']);
});

test('a wrong checksum: nothing is kept, and both values are told', async () => {
  serve({ checksum: '0'.repeat(32) });
  const error: unknown = await download('ml-100k', folder, { baseUrl }).catch((thrown: unknown) => thrown);
  expect(ChecksumError.isInstance(error) && [error.file, error.expected, error.actual]).toEqual([
    'ml-100k.zip',
    '0'.repeat(32),
    md5,
  ]);
  expect(await readdir(path.join(folder, 'ml-100k'))).toEqual([]);
});

test('a missing checksum file or archive is said with its address and status, and not tried again', async () => {
  answer = (_, response) => response.writeHead(404).end();
  await expect(download('ml-100k', folder, { baseUrl })).rejects.toThrow(/ml-100k\.zip\.md5 failed: the server answered 404/);
  await expect(download('ml-latest-small', folder, { baseUrl, ...quick })).rejects.toThrow(
    /ml-latest-small\.zip failed: the server answered 404/,
  );
  expect(requests).toHaveLength(2);
});

test('archives without a published checksum say so, and are never half there', async () => {
  const csv = zip({
    'ml-latest-small/ratings.csv': 'userId,movieId,rating,timestamp\n1,1,4,1000000000\n',
    'ml-latest-small/movies.csv': 'movieId,title,genres\n1,A,Drama\n',
  });
  answer = (_, response) => response.end(csv);
  const { files, folder: target } = await download('ml-latest-small', folder, { baseUrl });
  expect(files[0].verified).toBe('none');
  expect((await openDataset(target)).layout).toBe('movielens-latest');
  answer = (_, response) => response.end(csv.subarray(0, 100));
  const { folder: other, remove: removeOther } = await folderOf({});
  const error: unknown = await download('ml-latest-small', other, { baseUrl }).catch((thrown: unknown) => thrown);
  expect(DamagedFileError.isInstance(error)).toBe(true);
  expect(existsSync(path.join(other, 'ml-latest-small', 'ratings.csv'))).toBe(false);
  await removeOther();
});

test('a zip that wants out of its folder is refused', async () => {
  answer = (_, response) => response.end(zip({ '../evil.txt': 'x' }));
  await expect(download('ml-latest', folder, { baseUrl })).rejects.toThrow(/cannot be unpacked/);
  expect(await readdir(folder)).toEqual(['ml-latest']);
});

test('Amazon and Google: reviews and metadata by category', async () => {
  const review = gzipSync(
    `${JSON.stringify({ rating: 4, title: 'Nice', text: 'T', asin: 'B1', parent_asin: 'B2', user_id: 'AG', timestamp: 1588687728923 })}\n`,
  );
  const meta = gzipSync(`${JSON.stringify({ parent_asin: 'B2', title: 'Soap', main_category: 'Beauty' })}\n`);
  answer = (request, response) => response.end(request.url!.includes('meta') ? meta : review);
  const { folder: target } = await download('amazon-2023/All_Beauty', folder, { baseUrl });
  expect(requests).toEqual(['/review_categories/All_Beauty.jsonl.gz', '/meta_categories/meta_All_Beauty.jsonl.gz']);
  expect((await all((await openDataset(target)).events))[0]).toMatchObject({ user: 'AG', item: 'B2', title: 'Soap' });
});

test('an unknown name lists the known ones', async () => {
  for (const name of ['ml-2m', 'amazon-2023', 'amazon-2023/../x', 'toString/x']) {
    const error: unknown = await download(name, folder).catch((thrown: unknown) => thrown);
    expect(InvalidOptionError.isInstance(error) && error.message).toMatch(/ml-25m/);
  }
});
