import { existsSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, readFile, readdir, realpath, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { threadId } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { encodeSafetensors } from '@user-llm/onnx-autograd';
import type { HostTensor } from '@user-llm/onnx-autograd';
import { createDecoder } from '../src/decoder/decoder.js';
import { toHuggingFaceConfig } from '../src/folder/decoder-config.js';
import { HubError } from '../src/hub/hub-error.js';
import type { HubProblem } from '../src/hub/hub-error.js';
import { fetchModel } from '../src/hub/hub-model.js';
import { hubNameOf } from '../src/hub/hub-name.js';
import { partialFile } from '../src/hub/partial-file.js';
import { hubSettings } from '../src/hub/hub-options.js';
import type { HubOptions, HubProgress } from '../src/hub/hub-options.js';
import { LanguageModel } from '../src/language-model.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { LocalHub } from './local-hub.js';

jest.setTimeout(60_000);

const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const tokenizer = trainByteLevelBpe(['Toy Story (1995)'], { vocabularySize: 262 });
const sizes = { vocabularySize: 262, width: 32, layers: 2, heads: 2, intermediate: 64, context: 64, endTokens: [0] };
const { config, weights } = createDecoder(sizes, 1);
const plainFiles = {
  '.gitattributes': new TextEncoder().encode('*.safetensors filter=lfs'),
  'README.md': new TextEncoder().encode('# A model'),
  'config.json': bytes(toHuggingFaceConfig(config)),
  ...Object.fromEntries(Object.entries(tokenizer).map(([name, json]) => [name, bytes(json)])),
};
const halves = [[...weights].slice(0, 9), [...weights].slice(9)].map((part) => new Map<string, HostTensor>(part));
const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
const commits = { first: '1'.repeat(40), second: '2'.repeat(40) };
const single = { ...plainFiles, 'model.safetensors': encodeSafetensors(weights, { format: 'pt' }) };

const hub = new LocalHub({
  'someone/small': { files: single, revisions: { main: commits.first, 'v1.0': commits.second } },
  'someone/sharded': {
    files: {
      ...plainFiles,
      'model.safetensors.index.json': bytes({
        weight_map: Object.fromEntries(halves.flatMap((half, i) => Array.from(half.keys(), (name) => [name, shards[i]]))),
      }),
      [shards[0]]: encodeSafetensors(halves[0]),
      [shards[1]]: encodeSafetensors(halves[1]),
    },
    revisions: { main: commits.first },
  },
  'someone/private': { files: single, revisions: { main: commits.first }, token: 'hf_secret' },
  'someone/gguf': {
    files: { 'model-Q4_0.gguf': bytes('one'), 'model-Q8_0.gguf': bytes('two'), 'tokenizer.json': bytes({}) },
    revisions: { main: commits.first },
  },
  'someone/terse': { files: { ...single, 'chat_template.jinja': new Uint8Array(0) }, revisions: { main: commits.first } },
  'someone/pickled': { files: { ...plainFiles, 'pytorch_model.bin': bytes('x') }, revisions: { main: commits.first } },
});

let cache: string;
beforeAll(() => hub.start());
afterAll(() => hub.stop());
beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), 'hub-'));
  hub.requests.length = 0;
  hub.storeRequests.length = 0;
  hub.fault = () => undefined;
});
afterEach(() => rm(cache, { recursive: true }));

const options = (more: HubOptions = {}): HubOptions => ({ endpoint: hub.endpoint, cache, retryDelayMs: 1, ...more });

async function refused(promise: Promise<unknown>, problem: HubProblem): Promise<HubError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!HubError.isInstance(error)) throw error ?? new Error('nothing was thrown');
  expect(error.problem).toBe(problem);
  return error;
}

const snapshot = (name: string, commit = commits.first) => path.join(cache, `models--someone--${name}`, 'snapshots', commit);

test('a model by its hub name: what loading reads is fetched, checked and kept; the second time nothing is asked', async () => {
  const seen: HubProgress[] = [];
  const model = await LanguageModel.load('someone/small', options({ onProgress: (progress) => seen.push(progress) }));
  expect(model.weights).toEqual(weights);
  expect(model.tokenizer.encode('Toy Story')).toEqual(TextTokenizer.fromFiles(tokenizer).encode('Toy Story'));
  expect((await readdir(snapshot('small'))).sort()).toEqual(
    ['config.json', 'model.safetensors', ...Object.keys(tokenizer)].sort(),
  );
  const last = seen.at(-1)!;
  expect(last).toMatchObject({ file: 'model.safetensors', receivedBytes: last.totalBytes });
  expect(last.allReceivedBytes).toBe(last.allTotalBytes);
  // The layout is that of Hugging Face's own tools.
  expect((await lstat(path.join(snapshot('small'), 'config.json'))).isSymbolicLink()).toBe(true);
  expect(await readFile(path.join(cache, 'models--someone--small/refs/main'), 'utf8')).toBe(commits.first);

  hub.requests.length = 0;
  expect((await LanguageModel.load('someone/small', options())).weights).toEqual(weights);
  expect((await LanguageModel.load('someone/small', options({ offline: true }))).weights).toEqual(weights);
  expect(hub.requests).toEqual([]);
  // Asked whether the branch moved, one request answers.
  await fetchModel('someone/small', options({ refresh: true }));
  expect(hub.requests).toHaveLength(1);
});

test('shards, as their index names them', async () => {
  expect((await LanguageModel.load('someone/sharded', options())).weights).toEqual(weights);
  expect(existsSync(path.join(snapshot('sharded'), shards[1]))).toBe(true);
  await rm(path.join(snapshot('sharded'), shards[1]));
  await refused(fetchModel('someone/sharded', options({ offline: true })), 'offline');
});

test('another revision is another snapshot, with the bytes that both have stored once', async () => {
  await fetchModel('someone/small', options());
  const { commit, place, fetched } = await fetchModel('someone/small', options({ revision: 'v1.0' }));
  expect({ commit, place, fetched }).toEqual({ commit: commits.second, place: snapshot('small', commits.second), fetched: true });
  expect(hub.storeRequests.filter(({ url }) => url.includes('model.safetensors'))).toHaveLength(1);
  // A commit needs no question what it stands for.
  hub.requests.length = 0;
  await fetchModel('someone/small', options({ revision: commits.second }));
  expect(hub.requests).toEqual([]);
  const error = await refused(fetchModel('someone/small', options({ revision: 'v9' })), 'not-found');
  expect(error).toMatchObject({ revision: 'v9', status: 404 });
});

describe('a connection that breaks', () => {
  const weightsUrl = /model\.safetensors/;
  const size = single['model.safetensors'].length;

  test('is taken up again where it broke', async () => {
    hub.fault = (url, count) => (weightsUrl.test(url) && count <= 2 ? { cutAfter: 5000 } : undefined);
    const { place } = await fetchModel('someone/small', options());
    expect(await readFile(path.join(place, 'model.safetensors'))).toEqual(Buffer.from(single['model.safetensors']));
    expect(hub.storeRequests.filter(({ url }) => weightsUrl.test(url)).map(({ range }) => range)).toEqual([
      undefined,
      `bytes=5000-${size - 1}`,
      `bytes=10000-${size - 1}`,
    ]);
  });

  test('too often ends the call, and the next one carries on', async () => {
    hub.fault = (url) => (weightsUrl.test(url) ? { cutAfter: 4000 } : undefined);
    const error = await refused(fetchModel('someone/small', options({ retries: 1 })), 'interrupted');
    expect(error.message).toMatch(`someone/small, model.safetensors: the connection to ${hub.endpoint} broke too often`);
    expect(existsSync(path.join(cache, 'models--someone--small/refs/main'))).toBe(false);
    hub.fault = () => undefined;
    hub.storeRequests.length = 0;
    await fetchModel('someone/small', options());
    expect(hub.storeRequests.at(-1)!.range).toBe(`bytes=8000-${size - 1}`);
  });

  test('a busy server is asked again, an absent one is named', async () => {
    hub.fault = (_, count) => (count === 1 ? { status: 503 } : undefined);
    await fetchModel('someone/small', options());
    hub.fault = () => undefined;
    const error = await refused(
      fetchModel('someone/small', options({ endpoint: 'http://127.0.0.1:9', cache: `${cache}/other`, retries: 1 })),
      'unreachable',
    );
    expect(error.message).toMatch('http://127.0.0.1:9 could not be reached');
  });

  test('a signal stops it with its reason', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const started = fetchModel(
      'someone/small',
      options({ signal: controller.signal, onProgress: () => controller.abort(reason) }),
    );
    await expect(started).rejects.toBe(reason);
  });

  test('so does one that comes when the bytes are there and are hashed', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const onProgress = ({ receivedBytes, totalBytes }: HubProgress) => {
      if (receivedBytes === totalBytes) controller.abort(reason);
    };
    await expect(fetchModel('someone/small', options({ signal: controller.signal, onProgress }))).rejects.toBe(reason);
  });

  test('a server that says nothing is not waited for', async () => {
    hub.fault = (url, count) => (weightsUrl.test(url) && count === 1 ? { cutAfter: -1 } : undefined);
    await fetchModel('someone/small', options({ idleTimeoutMs: 100 }));
    expect(hub.storeRequests.filter(({ url }) => weightsUrl.test(url))).toHaveLength(2);
  });
});

describe('bytes that are not those of the repository', () => {
  const wrong = single['model.safetensors'].map((byte, i) => (i === 6000 ? byte ^ 1 : byte));

  test.each([
    ['a bit flipped', wrong, 'damaged'],
    ['too few', wrong.subarray(0, 7000), 'interrupted'],
    ['too many', new Uint8Array([...wrong, 1]), 'damaged'],
  ] as const)('%s: refused', async (_, instead, problem) => {
    hub.fault = (url) => (url.includes('model.safetensors') ? { instead } : undefined);
    const error = await refused(fetchModel('someone/small', options({ retries: 1 })), problem);
    expect(error.file).toBe('model.safetensors');
    expect(existsSync(path.join(snapshot('small'), 'model.safetensors'))).toBe(false);
    hub.fault = () => undefined;
    expect((await LanguageModel.load('someone/small', options())).weights).toEqual(weights);
  });

  test('left by an earlier call: fetched anew', async () => {
    hub.fault = (url) => (url.includes('model.safetensors') ? { cutAfter: 4000 } : undefined);
    await refused(fetchModel('someone/small', options({ retries: 0 })), 'interrupted');
    hub.fault = () => undefined;
    const blobs = path.join(cache, 'models--someone--small/blobs');
    const partial = path.join(
      blobs,
      (await readdir(blobs)).find((name) => name.endsWith('.partial'))!,
    );
    await writeFile(partial, new Uint8Array(4000));
    expect((await LanguageModel.load('someone/small', options())).weights).toEqual(weights);
  });

  test('what a process that ended has left is carried on, what a running one gathers is its own', async () => {
    await fetchModel('someone/small', options());
    const blobs = path.join(cache, 'models--someone--small/blobs');
    const blob = await realpath(path.join(snapshot('small'), 'model.safetensors'));
    const leave = async (owner: number | string) => {
      await rm(blob);
      await writeFile(
        `${blob}.${hostname().replace(/[^\w-]/g, '_')}.${owner}.partial`,
        single['model.safetensors'].subarray(0, 3000),
      );
      hub.storeRequests.length = 0;
      await fetchModel('someone/small', options());
      const left = (await readdir(blobs)).filter((name) => name.endsWith('.partial'));
      return { range: hub.storeRequests.at(-1)!.range, left: left.length };
    };
    // No process has a number as high as that. Older versions named no thread.
    for (const ended of [2 ** 31 - 1, `${2 ** 31 - 1}.3`])
      expect(await leave(ended)).toEqual({ range: `bytes=3000-${single['model.safetensors'].length - 1}`, left: 0 });
    expect(await leave(process.ppid)).toEqual({ range: undefined, left: 1 });
    // Nor does a thread take another's of its own process.
    const own = await partialFile(blob);
    expect(path.basename(own)).toContain(`.${process.pid}.${threadId}.partial`);
    expect(await leave(`${process.pid}.${threadId + 1}`)).toEqual({ range: undefined, left: 2 });
  });

  test('a file in the cache that was cut short is fetched again', async () => {
    await fetchModel('someone/small', options());
    const file = path.join(snapshot('small'), 'model.safetensors');
    await truncate(file, 100);
    await refused(fetchModel('someone/small', options({ offline: true })), 'offline');
    await fetchModel('someone/small', options());
    expect((await stat(file)).size).toBe(single['model.safetensors'].length);
  });
});

describe('who may', () => {
  test('a token opens a private model, and goes to the hub alone', async () => {
    await refused(fetchModel('someone/private', options()), 'unauthorized');
    const error = await refused(fetchModel('someone/private', options({ token: 'hf_another' })), 'not-found');
    expect(error.message).not.toMatch('hf_another');
    hub.requests.length = hub.storeRequests.length = 0;
    await fetchModel('someone/private', options({ token: 'hf_secret' }));
    expect(hub.requests.every(({ authorization }) => authorization === 'Bearer hf_secret')).toBe(true);
    expect(hub.storeRequests.length).toBeGreaterThan(0);
    expect(hub.storeRequests.every(({ authorization }) => authorization === undefined)).toBe(true);
  });

  test('a model that is not there, one behind conditions', async () => {
    const error = await refused(fetchModel('someone/absent', options()), 'unauthorized');
    expect(error.message).toMatch('shows no such model, and there is no such folder here');
    hub.fault = (url) => (url.includes('resolve') ? { status: 403, headers: { 'x-error-code': 'GatedRepo' } } : undefined);
    const gated = await refused(fetchModel('someone/small', options()), 'unauthorized');
    expect(gated.message).toMatch(`accept the conditions at ${hub.endpoint}/someone/small`);
  });

  test('settings come from the environment where options say nothing', () => {
    const environment = { HF_TOKEN: 'hf_x', HF_ENDPOINT: 'http://mirror/', HF_HUB_OFFLINE: '1', HF_HOME: '/models' };
    const { token, endpoint, offline, cache } = hubSettings('a/b', {}, environment);
    expect({ token, endpoint, offline, cache }).toEqual({
      token: 'hf_x',
      endpoint: 'http://mirror',
      offline: true,
      cache: path.join('/models', 'hub'),
    });
    expect(hubSettings('a/b', { offline: false }, environment).offline).toBe(false);
    for (const wrong of [{ endpoint: 'ftp://x' }, { revision: '../main' }])
      expect(() => hubSettings('a/b', wrong, {})).toThrow(expect.objectContaining({ problem: 'bad-option' }));
  });

  test('a token that is none is refused before a request, and does not matter to what is in the cache', async () => {
    const token = 'secret';
    const error = await refused(fetchModel('someone/small', options({ token })), 'bad-option');
    expect(error.message).toMatch(/HF_TOKEN/);
    expect(error.message).not.toMatch(token);
    expect(hub.requests).toEqual([]);
    await fetchModel('someone/small', options());
    for (const offline of [true, false])
      expect(await fetchModel('someone/small', options({ token, offline }))).toMatchObject({ fetched: false });
    await refused(fetchModel('someone/small', options({ token, refresh: true })), 'bad-option');
  });
});

describe('which files', () => {
  test('of several GGUF files one must be named', async () => {
    const error = await refused(fetchModel('someone/gguf', options()), 'several-files');
    expect(error.message).toMatch('model-Q4_0.gguf, model-Q8_0.gguf');
    const { place } = await fetchModel('someone/gguf', { ...options(), file: 'model-Q8_0.gguf' });
    expect(place).toBe(path.join(snapshot('gguf'), 'model-Q8_0.gguf'));
    expect((await readdir(snapshot('gguf'))).sort()).toEqual(['model-Q8_0.gguf', 'tokenizer.json']);
    await refused(fetchModel('someone/gguf', { ...options(), file: 'model-Q2_K.gguf' }), 'not-found');
  });

  test('weights in other forms are named', async () => {
    const error = await refused(fetchModel('someone/pickled', options()), 'no-weights');
    expect(error.message).toMatch('found pytorch_model.bin');
  });

  test('an empty one is there like any other', async () => {
    await fetchModel('someone/terse', options());
    expect((await stat(path.join(snapshot('terse'), 'chat_template.jinja'))).size).toBe(0);
    expect((await fetchModel('someone/terse', options({ offline: true }))).fetched).toBe(false);
  });

  test('a cache that another tool filled serves offline, and is completed online', async () => {
    await fetchModel('someone/small', options());
    await rm(path.join(cache, 'models--someone--small/listings'), { recursive: true });
    expect((await fetchModel('someone/small', options({ offline: true }))).fetched).toBe(false);
    await rm(path.join(snapshot('small'), 'tokenizer.json'));
    expect((await fetchModel('someone/small', options())).fetched).toBe(true);
    expect(existsSync(path.join(snapshot('small'), 'tokenizer.json'))).toBe(true);
  });

  test('a model that was saved is fetched whole', async () => {
    const saved = path.join(cache, 'saved');
    await (await LanguageModel.load('someone/small', options())).save(saved);
    const names = await readdir(saved, { recursive: true, withFileTypes: true });
    const files: Record<string, Uint8Array> = { 'README.md': bytes('x') };
    for (const entry of names.filter((entry) => entry.isFile())) {
      const file = path.join(entry.parentPath, entry.name);
      files[path.relative(saved, file).split(path.sep).join('/')] = await readFile(file);
    }
    const other = new LocalHub({ 'me/adapted': { files, revisions: { main: commits.first } } });
    await other.start();
    const served = await LanguageModel.open('me/adapted', { ...options({ endpoint: other.endpoint }), threads: 1 });
    expect((await served.generate({ promptIds: [5, 6], maxNewTokens: 2 }).tokenIds).length).toBeGreaterThan(0);
    await served.dispose();
    const workers = await LanguageModel.openInWorkers('me/adapted', { ...options({ endpoint: other.endpoint }), threads: 1 });
    expect((await workers.generate({ promptIds: [5, 6], maxNewTokens: 2 }).tokenIds).length).toBeGreaterThan(0);
    await workers.dispose();
    await other.stop();
  });

  test('what is a name and what a path', async () => {
    expect(await hubNameOf('HuggingFaceTB/SmolLM2-135M-Instruct')).toEqual({ model: 'HuggingFaceTB/SmolLM2-135M-Instruct' });
    expect(await hubNameOf('a/b-GGUF/sub/model.Q4_1.gguf')).toEqual({ model: 'a/b-GGUF', file: 'sub/model.Q4_1.gguf' });
    for (const place of ['./a/b', '../a', '/a/b', '~/a', 'a', 'a/b/c', 'a\\b', 'C:/a', 'models/x.gguf', 'a/..', 'a/b/../x.gguf'])
      expect(await hubNameOf(place)).toBeUndefined();
    // What is there comes first.
    const here = path.join(cache, 'someone', 'small');
    await mkdir(here, { recursive: true });
    const before = process.cwd();
    process.chdir(cache);
    try {
      expect(await hubNameOf('someone/small')).toBeUndefined();
    } finally {
      process.chdir(before);
    }
  });

  test('a place that cannot be written', async () => {
    const file = path.join(cache, 'file');
    await writeFile(file, '');
    const error = await refused(fetchModel('someone/small', options({ cache: file })), 'unwritable');
    expect(error.message).toMatch('HF_HUB_CACHE');
  });

  test('two calls at once fetch one model', async () => {
    const all = await Promise.all(Array.from({ length: 4 }, () => fetchModel('someone/small', options())));
    expect(new Set(all.map(({ place }) => place)).size).toBe(1);
    expect(hub.storeRequests.filter(({ url }) => url.includes('model.safetensors'))).toHaveLength(1);
    expect((await LanguageModel.load('someone/small', options({ offline: true }))).weights).toEqual(weights);
  });
});
