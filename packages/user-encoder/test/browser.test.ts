import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { findChromium, openPage, type Page } from '../../../tools/browser.mjs';
import { UserEncoder } from '../src/index.js';
import { cinemaRows, cinema, largestDifference, small, unsettled } from './support.js';

const chromium = findChromium();
const { tokenizer, events } = await cinema();
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../..');
const folder = await mkdtemp(path.join(tmpdir(), 'browser-'));
afterAll(() => rm(folder, { recursive: true }));

(chromium ? describe : describe.skip)('in Chromium, on the WebAssembly of onnxruntime-web', () => {
  let page: Page;
  beforeAll(async () => {
    page = await openPage(chromium!, {
      mounts: { '/repository/': root, '/encoders/': folder },
      imports: {
        '@user-llm/user-encoder/web': '/repository/packages/user-encoder/dist/web.js',
        '@user-llm/event-tokenizer/web': '/repository/packages/event-tokenizer/dist/web.js',
        '@noble/hashes/': '/repository/packages/event-tokenizer/node_modules/@noble/hashes/',
        zod: '/repository/packages/event-tokenizer/node_modules/zod/index.js',
        'onnxruntime-web': '/repository/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs',
      },
    });
  });
  afterAll(async () => {
    await page.close();
    expect(page.problems).toEqual([]);
  });

  test.each([
    ['causal', undefined],
    ['rotary', { position: 'rotary', window: 8 }],
    ['rotary-time', { position: 'rotary-time', window: 8 }],
    ['relative-time', { position: 'relative-time', window: 8 }],
  ] as const)('encodes the same users from the saved folder to the same numbers: %s', async (name, attention) => {
    const encoder = unsettled(UserEncoder.create(tokenizer, { ...small, attention }, { threads: 1 }));
    await encoder.save(path.join(folder, name));
    const found = await page.run<{ hash: string; tokens: number[][]; scores: number[] }>(
      `import * as ort from 'onnxruntime-web';
       import { ExportedEncoder } from '@user-llm/user-encoder/web';
       const encoder = await ExportedEncoder.load(address, { runtime: ort });
       const events = await encoder.tokenizer.encode(rows);
       const tokens = [];
       for await (const { data } of encoder.encode(events)) tokens.push(Array.from(data));
       const scores = Array.from((await encoder.scoreHistory(events, 'user-2')).subarray(4));
       await encoder.dispose();
       return { hash: encoder.hash, tokens, scores };`,
      { address: `/encoders/${name}`, rows: cinemaRows() },
    );
    expect(found.hash).toBe(encoder.hash);
    expect(found.tokens).toHaveLength(events.users.length);
    let user = 0;
    for await (const { data } of encoder.encode(events)) expect(largestDifference(found.tokens[user++], data)).toBeLessThan(1e-4);
    const scores = (await encoder.scoreHistory(events, 'user-2')).subarray(4);
    expect(largestDifference(found.scores, scores)).toBeLessThan(1e-4);
    await encoder.dispose();
  });

  test("the README's page", async () => {
    const readme = await readFile(path.join(root, 'packages/user-encoder/README.md'), 'utf8');
    const [, code] = /### In a browser[\s\S]*?```js\n([\s\S]*?)```/.exec(readme)!;
    const encoder = UserEncoder.create(tokenizer, small, { threads: 1 });
    await encoder.save(path.join(folder, 'readme'));
    const rows = cinemaRows({ users: 1, events: 5 }).map((row) => ({ ...row, user: 'me' }));
    const found = await page.run<{ data: number[]; scores: number[] }>(
      `${code.replace("'/encoder/'", "'/encoders/readme/'")}; return { data: Array.from(embedding.data), scores: Array.from(scores.subarray(4)) };`,
      { rows },
    );
    const here = await tokenizer.encode(rows);
    expect(largestDifference(found.data, (await encoder.encodeUser(here, 'me')).data)).toBeLessThan(1e-4);
    expect(largestDifference(found.scores, (await encoder.scoreHistory(here, 'me')).subarray(4))).toBeLessThan(1e-4);
    await encoder.dispose();
  });
});
