import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { dropLast, takeLast, takeUsers, TokenizerMismatchError } from '@user-llm/event-tokenizer';
import { readSafetensors, writeSafetensors } from '@user-llm/onnx-autograd';
import { afterAll, describe, expect, test } from '@jest/globals';
import * as ort from 'onnxruntime-node';
import { encoderHash, writeEncoderFolder } from '../src/encoder-folder.js';
import { bagSizes, vector } from '../src/event-feeds.js';
import { EncoderFormatError, EncoderHashError, UserEncoder } from '../src/index.js';
import { windowFeeds } from '../src/window-feeds.js';
import { cinema, collect, largestDifference, small } from './support.js';

const { tokenizer, events } = await cinema();
const root = await mkdtemp(path.join(tmpdir(), 'encoder-'));
afterAll(() => rm(root, { recursive: true }));

const encoder = await UserEncoder.create(tokenizer, small, { threads: 1 }).pretrain(events, { steps: 3, batch: 8, threads: 1 })
  .result;
const folder = path.join(root, 'encoder');
await encoder.save(folder);

describe('a folder that cannot be written, as on a full disk', () => {
  const full = { save: () => Promise.reject(new Error('no space left')) };
  const { config, weights } = encoder;
  const other = { tokenizer: tokenizer.hash, config, weights: new Map([...weights].reverse()) };
  const write = (place: string): Promise<void> =>
    writeEncoderFolder(place, { ...other, hash: encoderHash(other), training: null }, new Uint8Array(8), full);

  test('is not there', async () => {
    await expect(write(path.join(root, 'new', 'encoder'))).rejects.toThrow('no space left');
    expect(await readdir(root)).not.toContain('new');
  });

  test('holds the encoder that was there before', async () => {
    const before = await readdir(folder);
    await expect(write(folder)).rejects.toThrow('no space left');
    expect(await readdir(folder)).toEqual(before);
    expect((await UserEncoder.load(folder)).hash).toBe(encoder.hash);
  });
});

describe('a saved encoder', () => {
  test('comes back as it was: hash, record, numbers', async () => {
    const loaded = await UserEncoder.load(folder, { threads: 1 });
    expect(loaded.hash).toBe(encoder.hash);
    expect(loaded.config).toEqual(encoder.config);
    expect(loaded.training).toEqual(encoder.training);
    expect(loaded.tokenizer!.hash).toBe(tokenizer.hash);
    const [before, after] = [await collect(encoder.encode(events)), await collect(loaded.encode(events))];
    before.forEach(({ data }, user) => expect(largestDifference(data, after[user].data)).toBe(0));
    // And goes on training as the one that was saved would.
    const more = { steps: 2, batch: 8, threads: 1, validation: 'none' } as const;
    expect((await loaded.pretrain(events, more).result).hash).toBe((await encoder.pretrain(events, more).result).hash);
  });

  test.each(['rotary', 'rotary-time', 'relative-time'] as const)(
    'goes on from states that were made before: %s',
    async (position) => {
      const band = UserEncoder.create(tokenizer, { ...small, attention: { position, window: 8 } }, { threads: 1 });
      const place = path.join(root, position);
      await band.save(place);
      const loaded = await UserEncoder.load(place, { threads: 1 });
      expect(loaded.config).toEqual(band.config);
      expect(loaded.hash).toBe(band.hash);
      const { state } = await band.encodeUser(dropLast(events, 2), 'user-0', { state: true });
      const next = await loaded.update(state, takeLast(takeUsers(events, ['user-0']), 2));
      expect(largestDifference(next.data, (await band.encodeUser(events, 'user-0')).data)).toBeLessThan(1e-5);
    },
  );

  test('the ONNX file of a band reads histories longer than the context', async () => {
    const band = UserEncoder.create(tokenizer, { ...small, attention: { position: 'rotary', window: 8 } }, { threads: 1 });
    const session = await ort.InferenceSession.create(band.toOnnx(), { intraOpNumThreads: 1 });
    const one = takeUsers(events, ['user-0']);
    const feeds = windowFeeds(band.config, one, [{ start: 0, end: 20 }], 20, bagSizes(band.config.fields, one));
    const tensors = Object.entries({ ...feeds, lengths: vector([20]) }).map(
      ([name, { dtype, data, shape }]) => [name, new ort.Tensor(dtype as 'int32', data as Int32Array, shape)] as const,
    );
    const { tokens } = await session.run(Object.fromEntries(tensors));
    expect(largestDifference(tokens.data as Float32Array, (await band.encodeUser(one, 0)).data)).toBeLessThan(1e-5);
    await session.release();
  });

  test('its ONNX file gives the same tokens and scores in plain onnxruntime', async () => {
    const session = await ort.InferenceSession.create(await readFile(path.join(folder, 'onnx/encoder.onnx')), {
      intraOpNumThreads: 1,
    });
    // One event of one user, and none of another, padded to two events.
    const two = await tokenizer.encode([
      { user: 'a', film: 'film-3', genres: ['war', 'drama'], rating: 4, review: 'I liked it', at: 1_700_000_000 },
    ]);
    const ids = (first: number): ort.Tensor => new ort.Tensor('int32', Int32Array.of(first, 0, 0, 0), [2, 2]);
    const field = two.fields as unknown as Record<string, Record<string, Int32Array>>;
    const vectors = new Float32Array(2 * 2 * 6);
    vectors.set(field.review.vectors);
    const found = await session.run({
      'events.film': ids(field.film.ids[0]),
      'events.rating': ids(field.rating.ids[0]),
      'events.time.gap': ids(field.time.gap[0]),
      'events.time.hour': ids(field.time.hour[0]),
      'events.time.weekday': ids(field.time.weekday[0]),
      'events.genres': new ort.Tensor('int32', Int32Array.of(...field.genres.ids, 0, 0, 0, 0, 0, 0), [2, 2, 2]),
      'events.review': new ort.Tensor('float32', vectors, [2, 2, 6]),
      lengths: new ort.Tensor('int32', Int32Array.of(1, 0), [2]),
    });
    expect(found.tokens.dims).toEqual([2, 4, 16]);
    const tokens = found.tokens.data as Float32Array;
    expect(largestDifference(tokens.subarray(0, 64), (await encoder.encodeUser(two, 'a')).data)).toBeLessThan(1e-5);
    const nobody = { ...two, offsets: Int32Array.of(0, 0), fields: two.fields };
    expect(largestDifference(tokens.subarray(64), (await encoder.encodeUser(nobody, 0)).data)).toBeLessThan(1e-5);
    expect(
      largestDifference((found.scores.data as Float32Array).subarray(4, 12), (await encoder.scoreHistory(two, 'a')).subarray(4)),
    ).toBeLessThan(1e-5);
    await session.release();
  });

  test('is refused when it was changed, cut, of another tokenizer, or something else', async () => {
    const load = async (from: string, options = {}): Promise<unknown> =>
      UserEncoder.load(from, options).catch((error: unknown) => error);
    const missing = await load(path.join(root, 'nothing'));
    expect(EncoderFormatError.isInstance(missing)).toBe(true);
    expect((missing as Error).message).toContain('there is no encoder.json in it');

    const broken = path.join(root, 'broken');
    await encoder.save(broken);
    const weights = await readSafetensors(path.join(broken, 'weights.safetensors'));
    (weights.tensors.get('encoder.positions')!.data as Float32Array)[3] += 1;
    await writeSafetensors(path.join(broken, 'weights.safetensors'), weights.tensors, weights.metadata);
    expect(await load(broken)).toBeInstanceOf(EncoderHashError);
    await copyFile(path.join(folder, 'weights.safetensors'), path.join(broken, 'weights.safetensors'));
    expect(((await load(broken)) as UserEncoder).hash).toBe(encoder.hash);

    const { tokenizer: other } = await cinema({ films: 5 });
    expect(await load(broken, { tokenizer: other })).toBeInstanceOf(TokenizerMismatchError);

    const file = path.join(broken, 'encoder.json');
    const manifest = JSON.parse(await readFile(file, 'utf8')) as { config: object };
    await writeFile(file, JSON.stringify({ ...manifest, version: 9 }));
    expect(((await load(broken)) as Error).message).toContain('it has format version 9, and this release reads up to 1');
    await writeFile(file, JSON.stringify({ ...manifest, config: { ...manifest.config, width: 'wide' } }));
    expect(((await load(broken)) as Error).message).toContain('config.width');
    await writeFile(file, '{"format"');
    expect(((await load(broken)) as Error).message).toContain('encoder.json cannot be read');
  });

  test('names other weights, another architecture and another tokenizer differently', async () => {
    const { tokenizer: other } = await cinema({ films: 5 });
    const hashes = [
      encoder.hash,
      encoder.withWeights(new Map([['resampler.latents', { dtype: 'float32', shape: [1, 4, 16], data: new Float32Array(64) }]]))
        .hash,
      UserEncoder.create(tokenizer, small).hash,
      UserEncoder.create(tokenizer, { ...small, context: 12 }).hash,
      UserEncoder.create(tokenizer, { ...small, attention: { position: 'rotary', window: 8 } }).hash,
      UserEncoder.create(tokenizer, { ...small, attention: { position: 'rotary', window: 9 } }).hash,
      UserEncoder.create(other, small).hash,
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(encoder.withWeights(new Map()).hash).toBe(encoder.hash);
  });
});
