import { dropLast, takeUsers, type EventColumns } from '@user-llm/event-tokenizer';
import { describe, expect, test } from '@jest/globals';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { EncoderOptionError, UserEncoder, type EncoderOptions } from '../src/index.js';
import { cinema, largestDifference, small, unsettled } from './support.js';

const { tokenizer, events } = await cinema({ users: 4, events: 30 });
const { width, userTokens } = small;
const window = 6;
const attention = { position: 'rotary', window } as const;
const create = (options: EncoderOptions = {}): UserEncoder =>
  UserEncoder.create(tokenizer, { ...small, attention, tokenStart: 'last-and-mean', ...options }, { threads: 1 });

/** The encoder with a resampler that adds nothing to where its tokens start, which differ by nothing else. */
function starting(encoder: UserEncoder): UserEncoder {
  const idle = /^resampler\.(latents|layers\.\d+\.(attention\.output|down)\.(weight|bias))$/;
  return encoder.withWeights(
    new Map(
      [...encoder.weights]
        .filter(([name]) => idle.test(name))
        .map(([name, weight]) => [name, { ...weight, data: new Float32Array(weight.data.length) }]),
    ),
  );
}

/** User tokens [K][D]. */
async function tokensOf(encoder: UserEncoder, history: EventColumns): Promise<Float32Array[]> {
  const { data } = await encoder.encodeUser(history, 0);
  return Array.from({ length: data.length / width }, (_, k) => data.slice(k * width, (k + 1) * width) as Float32Array);
}

/** As a layer norm without its parameters leaves it. */
function normalised(x: Float32Array): Float32Array {
  const mean = x.reduce((sum, v) => sum + v, 0) / x.length;
  const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length;
  return x.map((v) => (v - mean) / Math.sqrt(variance + 1e-5));
}

describe('where the user tokens start', () => {
  const history = takeUsers(events, [1]);

  test('half of them from the last state, half from the mean of those that are read', async () => {
    const encoder = starting(create());
    // A state sees nothing after it: each is the last one of a shorter history.
    const states: Float32Array[] = [];
    for (let without = 0; without < window; without++) states.push((await tokensOf(encoder, dropLast(history, without)))[0]);
    const mean = states[0].map((_, i) => states.reduce((sum, state) => sum + state[i], 0) / window);
    const tokens = await tokensOf(encoder, history);
    for (const token of tokens.slice(0, userTokens / 2)) expect(largestDifference(token, states[0])).toBeLessThan(1e-5);
    for (const token of tokens.slice(userTokens / 2)) expect(largestDifference(token, normalised(mean))).toBeLessThan(1e-4);
  });

  test('from what stands before a first event, where there is none', async () => {
    const tokens = await tokensOf(starting(create()), dropLast(history, 30));
    for (const token of tokens.slice(1)) expect(largestDifference(token, tokens[0])).toBeLessThan(1e-6);
  });

  test('all of them from the last state, which is the default, or where there is one token alone', async () => {
    for (const options of [{ tokenStart: undefined }, { tokenStart: 'last' }, { userTokens: 1 }] as const) {
      const encoder = create(options);
      const tokens = await tokensOf(starting(encoder), history);
      for (const token of tokens.slice(1)) expect(largestDifference(token, tokens[0])).toBeLessThan(1e-6);
    }
    expect(() => create({ tokenStart: 'mean' as 'last' })).toThrow(EncoderOptionError);
  });

  test('a folder of before there was a choice is read as it was written', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'token-start-'));
    try {
      const former = unsettled(create({ tokenStart: 'last' }));
      await former.save(folder);
      expect(await readFile(path.join(folder, 'encoder.json'), 'utf8')).not.toContain('tokenStart');
      const loaded = await UserEncoder.load(folder, { tokenizer });
      expect(loaded.hash).toBe(former.hash);
      expect(await tokensOf(loaded, history)).toEqual(await tokensOf(former, history));
      const now = unsettled(create());
      await now.save(path.join(folder, 'now'));
      expect((await UserEncoder.load(path.join(folder, 'now'), { tokenizer })).config.tokenStart).toBe('last-and-mean');
      const manifest = path.join(folder, 'now', 'encoder.json');
      await writeFile(manifest, (await readFile(manifest, 'utf8')).replace('last-and-mean', 'first'));
      await expect(UserEncoder.load(path.join(folder, 'now'), { tokenizer })).rejects.toThrow('tokenStart');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
