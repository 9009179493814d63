import { readFileSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { takeUsers, TokenizerMismatchError, UnknownUserError } from '@user-llm/event-tokenizer';
import { afterAll, describe, expect, test } from '@jest/globals';
import * as ort from 'onnxruntime-node';
import {
  contrastive,
  EncoderDisposedError,
  EncoderFormatError,
  EncoderHashError,
  ExportedEncoder,
  NoItemScoresError,
  UserEncoder,
} from '../src/index.js';
import type { EncoderOptions, FileReader } from '../src/index.js';
import { cinema, collect, largestDifference, small, unsettled } from './support.js';

// The same code that a page runs, with onnxruntime-node in the place of onnxruntime-web; browser.test.ts runs it in Chromium.

const { tokenizer, events } = await cinema();
const root = await mkdtemp(path.join(tmpdir(), 'exported-'));
afterAll(() => rm(root, { recursive: true }));

const from =
  (folder: string): FileReader =>
  (file) =>
    readFile(path.join(folder, file)).catch(() => undefined);
const options = { runtime: ort, session: { intraOpNumThreads: 1 } };
const failure = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('none'),
    (error: Error) => error,
  );

async function saved(name: string, more: EncoderOptions = {}): Promise<{ encoder: UserEncoder; folder: string }> {
  const encoder = unsettled(UserEncoder.create(tokenizer, { ...small, ...more }, { threads: 1 }));
  const folder = path.join(root, name);
  await encoder.save(folder);
  return { encoder, folder };
}
const causal = await saved('causal');

describe('an encoder from its exported files', () => {
  test.each<[string, EncoderOptions]>([
    ['causal', {}],
    ['bidirectional', { attention: 'bidirectional' }],
    ['rotary', { attention: { position: 'rotary', window: 4 } }],
    ['rotary-time', { attention: { position: 'rotary-time', window: 4 } }],
    ['relative-time', { attention: { position: 'relative-time', window: 4 } }],
  ])('gives the embeddings and scores of the one that was saved: %s', async (name, more) => {
    const { encoder, folder } = await saved(name, more);
    const exported = await ExportedEncoder.load(from(folder), options);
    expect(exported).toMatchObject({ hash: encoder.hash, tokenizerHash: tokenizer.hash, config: encoder.config });
    // One user has no events, others more than are read.
    const nobody = {
      ...events,
      users: [...events.users, 'nobody'],
      offsets: Int32Array.of(...events.offsets, events.offsets.at(-1)!),
    };
    const [ours, theirs] = [
      await collect(exported.encode(nobody, { tenant: 'film club', writtenAt: 7 })),
      await collect(encoder.encode(nobody, { tenant: 'film club', writtenAt: 7 })),
    ];
    expect(ours.map(({ data: _, ...rest }) => rest)).toEqual(theirs.map(({ data: _, ...rest }) => rest));
    ours.forEach(({ data }, user) => expect(largestDifference(data, theirs[user].data)).toBeLessThan(1e-4));
    for (const user of ['user-0', 'nobody']) {
      const [own, other] = [await exported.scoreHistory(nobody, user), await encoder.scoreHistory(nobody, user)];
      expect(largestDifference(own.subarray(4), other.subarray(4))).toBeLessThan(1e-4);
      expect(own[0]).toBe(-Infinity);
    }
    await exported.dispose();
    await encoder.dispose();
  });

  test('answers calls that come at once', async () => {
    const exported = await ExportedEncoder.load(from(causal.folder), options);
    const one = await exported.encodeUser(events, 'user-3');
    const several = await Promise.all([0, 3, 'user-3'].map((user) => exported.encodeUser(events, user)));
    expect(largestDifference(several[1].data, one.data)).toBe(0);
    expect(largestDifference(several[2].data, one.data)).toBe(0);
    expect(largestDifference(several[0].data, one.data)).toBeGreaterThan(0.01);
    await exported.dispose();
  });

  test('turns rows into events with the tokenizer that lies beside it', async () => {
    const exported = await ExportedEncoder.load(from(causal.folder), options);
    const rows = [{ user: 'me', film: 'film-3', genres: ['war'], rating: 4, review: 'I liked it', at: 1_700_000_000 }];
    const here = await exported.tokenizer.encode(rows);
    expect(here).toEqual(await tokenizer.encode(rows));
    expect((await exported.encodeUser(here, 'me')).watermark).toEqual({ time: 1_700_000_000, count: 1 });
    await exported.dispose();
  });

  test('makes no states, and says so', async () => {
    const exported = await ExportedEncoder.load(from(causal.folder), options);
    await expect(exported.encodeUser(events, 0, { state: true } as never)).rejects.toThrow(
      "option 'state': there is no such option; there are tenant, writtenAt",
    );
    await exported.dispose();
  });

  test('is fetched over HTTP, and says what cannot be had', async () => {
    let answer = 200;
    const server = createServer((request, response) => {
      const body = from(causal.folder)(decodeURI(request.url!).replace('/models/mine/', ''));
      void body.then((bytes) => response.writeHead(bytes ? answer : 404).end(bytes));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const exported = await ExportedEncoder.load(`${address}/models/mine`, options);
    expect(exported.hash).toBe(causal.encoder.hash);
    await exported.dispose();
    expect((await failure(ExportedEncoder.load(`${address}/models/other/`, options))).message).toContain(
      'there is no encoder.json in it',
    );
    answer = 503;
    const unwell = await failure(ExportedEncoder.load(new URL(`${address}/models/mine/`), options));
    expect(unwell.message).toContain('encoder.json cannot be fetched: the server answered 503');
    await new Promise((resolve) => server.close(resolve));
    const gone = await failure(ExportedEncoder.load(`${address}/models/mine/`, options));
    expect(EncoderFormatError.isInstance(gone)).toBe(true);
    expect(gone.message).toContain('encoder.json cannot be fetched');
  });

  test('is refused where files are missing, damaged, or of two encoders', async () => {
    const mixed = path.join(root, 'mixed');
    await (await saved('mixed', { seed: 8 })).encoder.dispose();
    await copyFile(path.join(causal.folder, 'onnx/encoder.onnx'), path.join(mixed, 'onnx/encoder.onnx'));
    expect(await failure(ExportedEncoder.load(from(mixed), options))).toBeInstanceOf(EncoderHashError);
    await rm(path.join(mixed, 'onnx/encoder.onnx'));
    expect((await failure(ExportedEncoder.load(from(mixed), options))).message).toContain('there is no onnx/encoder.onnx in it');

    // A server that answers every address with its start page.
    const page: FileReader = async () => Buffer.from('<!doctype html>');
    expect((await failure(ExportedEncoder.load(page, options))).message).toContain('encoder.json cannot be read');
    const cut: FileReader = async (file) =>
      (await from(causal.folder)(file))!.subarray(0, file === 'tokenizer.json' ? 90 : undefined);
    expect((await failure(ExportedEncoder.load(cut, options))).message).toContain('tokenizer.json is not JSON, or was cut short');
    const { tokenizer: other, events: foreign } = await cinema({ films: 5 });
    expect(await failure(ExportedEncoder.load(from(causal.folder), { ...options, tokenizer: other }))).toBeInstanceOf(
      TokenizerMismatchError,
    );

    const exported = await ExportedEncoder.load(from(causal.folder), options);
    expect(await failure(exported.encodeUser(foreign, 'user-0'))).toBeInstanceOf(TokenizerMismatchError);
    expect(await failure(exported.encodeUser(events, 'user-77'))).toBeInstanceOf(UnknownUserError);
    await exported.dispose();
    const stopped = AbortSignal.abort(new Error('the page was left'));
    expect((await failure(ExportedEncoder.load(from(causal.folder), { ...options, signal: stopped }))).message).toBe(
      'the page was left',
    );
  });

  test('encodes nothing after it was disposed, and what was under way before is done', async () => {
    const exported = await ExportedEncoder.load(from(causal.folder), options);
    const running = exported.encodeUser(events, 'user-0');
    await Promise.all([exported.dispose(), exported.dispose()]);
    expect((await running).user).toBe('user-0');
    await exported.dispose();
    for (const late of [
      exported.encodeUser(events, 'user-0'),
      exported.scoreHistory(events, 0),
      collect(exported.encode(events)),
    ])
      expect(await failure(late)).toBeInstanceOf(EncoderDisposedError);
  });

  test('has no scores where training made none', async () => {
    const encoder = await UserEncoder.create(tokenizer, small, { threads: 1 }).pretrain(events, {
      objective: contrastive(),
      steps: 1,
      validation: 'none',
      threads: 1,
    }).result;
    const folder = path.join(root, 'contrastive');
    await encoder.save(folder);
    const exported = await ExportedEncoder.load(from(folder), options);
    expect(await failure(exported.scoreHistory(events, 0))).toBeInstanceOf(NoItemScoresError);
    const one = takeUsers(events, ['user-1']);
    expect(largestDifference((await exported.encodeUser(one, 0)).data, (await encoder.encodeUser(one, 0)).data)).toBeLessThan(
      1e-4,
    );
    await exported.dispose();
  });
});

test('what a browser loads needs no Node: only files of the two packages, zod and hashes', () => {
  const packages = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
  const seen = new Set<string>();
  const outside = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    // Types and comments are not run.
    const code = readFileSync(file, 'utf8').replace(/^(import|export) type [^;]*;|\/\*\*[\s\S]*?\*\//gm, '');
    for (const [, name] of code.matchAll(/(?:from|import\() ?'([^']+)'/g)) {
      const own = /^@user-llm\/([\w-]+)\/web$/.exec(name);
      if (own) visit(path.join(packages, own[1], 'src/web.ts'));
      else if (name.startsWith('.')) visit(path.join(path.dirname(file), name.replace(/\.js$/, '.ts')));
      else outside.add(name);
    }
  };
  visit(path.join(packages, 'user-encoder/src/web.ts'));
  expect(seen.size).toBeGreaterThan(20);
  expect([...outside].sort()).toEqual(['@noble/hashes/sha2.js', '@noble/hashes/utils.js', 'zod']);
});
