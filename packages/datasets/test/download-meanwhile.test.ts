import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { folderOf } from './helpers.js';

/** What happens between a call's look at the folder and its lock. */
let meanwhile = (): Promise<unknown> => Promise.resolve();
const { lockFolder } = await import('../src/download-lock.js');
jest.unstable_mockModule('../src/download-lock.js', () => ({
  lockFolder: async (...given: Parameters<typeof lockFolder>) => {
    await meanwhile();
    return lockFolder(...given);
  },
}));
const { download } = await import('../src/index.js');

let server: Server;
let requests = 0;
let folder: string;
let remove: () => Promise<void>;

beforeEach(async () => {
  server = createServer((_, response) => {
    requests++;
    response.end('content');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ({ folder, remove } = await folderOf({}));
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await remove();
});

test('what another call has finished since the first look is not fetched again', async () => {
  const options = { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
  const name = 'amazon-2023/All_Beauty';
  let other: unknown;
  meanwhile = async () => {
    meanwhile = () => Promise.resolve();
    other = await download(name, folder, options);
  };
  const result = await download(name, folder, options);
  expect(other).toMatchObject({ fetched: true, files: [{}, {}] });
  expect(result).toEqual({ ...(other as object), fetched: false });
  expect(requests).toBe(2);
});
