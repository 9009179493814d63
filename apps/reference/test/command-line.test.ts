import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { smallLog } from './small-log.js';
import { tinyModel } from './tiny-model.js';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'cli-'));
});

function userLlm(...given: (string | Record<string, string>)[]): { code: number | null; out: string; err: string } {
  const args = given.filter((one) => typeof one === 'string');
  const environment = given.filter((one) => typeof one !== 'string');
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '', ...environment[0] },
  });
  return { code: status, out: stdout, err: stderr };
}

const smallDecoder = {
  model_type: 'llama',
  vocab_size: 64,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 64,
};

describe('bad input is one line that says what to do, and exit code 2', () => {
  it.each([
    ['a missing path', async () => path.join(folder, 'nowhere'), /nowhere/],
    ['an empty file', async () => write('empty.csv', ''), /empty/],
    ['a wrong column', async () => write('columns.csv', 'who,what\n1,2\n'), /columns\.csv/],
    ['a binary file named .csv', async () => write('binary.csv', Buffer.from([0, 1, 2, 0, 255, 254, 0, 3])), /binary\.csv/],
    ['too few users', async () => smallLog({ users: 9 }), /9 of 9 users have 3 events or more, and a split needs 10/],
    ['histories of one event', async () => smallLog({ events: 1 }), /0 of 30 users have 3 events or more/],
    ['histories that are all held out but for one event', async () => smallLog({ events: 3 }), /no user has 4 events, and one/],
    ['an id that is too long to store', async () => smallLog({ more: [`${'x'.repeat(5000)},film 1,3,9`] }), /has more than 4096/],
    [
      'an id with half of a character',
      async () => brokenIds(),
      /holds half of a character .*: "u\\ud83d"\. Give users other ids/,
    ],
    ['too few items', async () => smallLog({ items: 2 }), /has 2 items, and a ranking of the first ten needs 11/],
    ['no row that can be read', async () => write('times.csv', 'user,item,timestamp\nu1,i1,soon\n'), /--columns user=NAME/],
  ])('%s', async (_, make, message) => {
    const out = path.join(folder, 'untouched');
    const { code, err } = userLlm('fit', '--data', await make(), '--out', out);
    expect(code).toBe(2);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/\n\s+at /);
    expect(existsSync(out)).toBe(false);
  });

  it('columns of other names are named with --columns, and the message says how', async () => {
    const rows = Array.from({ length: 60 }, (_, i) => `p${i % 12},b${(i * 7) % 11},${1_600_000_000 + i}`);
    const data = await write('own.csv', ['who,what,moment', ...rows].join('\n'));
    const place = ['--data', data, '--out', path.join(folder, 'own')];
    expect(userLlm('data', ...place).err).toContain('it has who, what, moment. Name it with --columns user=NAME');
    const { code, out } = userLlm('data', ...place, '--columns', 'user=who,item=what,time=moment', '--quiet');
    expect([code, out]).toEqual([0, expect.stringMatching(/users +12\n/)]);
    expect(userLlm('data', ...place, '--columns', 'who').err).toMatch(/^user-llm: .*user=customer,item=sku.*\n$/);
  });

  it('a time that is none is not told to be a number, and what is no role is named', async () => {
    const day = (i: number) => new Date(1_600_000_000_000 + i * 60_000).toISOString();
    const rows = Array.from({ length: 60 }, (_, i) => `p${i % 12},b${(i * 7) % 11},${i === 20 ? 'soon' : day(i)},d${i % 3}`);
    const data = await write('days.csv', ['who,what,moment,shelf', ...rows].join('\n'));
    const { code, out } = userLlm('data', '--data', data, '--columns', 'user=who,item=what,time=moment,genre=shelf');
    expect([code, out]).toEqual([
      0,
      expect.stringMatching(/rejected: line 22, time: "soon" cannot be read as a time; .*ISO 8601/),
    ]);
    expect(out).toMatch(/columns of your own +genre\n/);
  });

  it.each([
    ['a model folder without weights', { 'config.json': '{"model_type":"llama"}' }, /config\.json does not describe a decoder/],
    ['a model folder with nothing but a config', { 'config.json': JSON.stringify(smallDecoder) }, /holds no weights/],
    ['a GGUF file that is none', { 'model.gguf': 'not a model' }, /model\.gguf/],
    ['a model folder that is not there', null, /There is no such folder/],
  ])('%s, before anything is trained or written', async (_, files, message) => {
    const llm = path.join(await mkdtemp(path.join(os.tmpdir(), 'llm-')), 'model');
    if (files) await mkdir(llm);
    for (const [name, content] of Object.entries(files ?? {})) await writeFile(path.join(llm, name), content);
    const run = path.join(folder, 'llm');
    const { code, err } = userLlm('poc', '--data', await smallLog(), '--out', run, '--llm', llm, '--quiet');
    expect(code).toBe(2);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(err).toMatch(message);
    expect(err).toContain(llm);
    expect(existsSync(run)).toBe(false);
  });

  it.each([
    ['without a tokenizer', (llm: string) => rm(path.join(llm, 'tokenizer.json')), /has no tokenizer; put .*tokenizer\.json/],
    ['with weights that are cut short', (llm: string) => truncate(path.join(llm, 'model.safetensors'), 9000), /cut short/],
    [
      'of a family that is unknown',
      (llm: string) => writeFile(path.join(llm, 'config.json'), '{"model_type":"mamba"}'),
      /'mamba'/,
    ],
    ['with a broken tokenizer', (llm: string) => writeFile(path.join(llm, 'tokenizer.json'), '{'), /tokenizer\.json is not JSON/],
  ])('a model folder %s, before anything is trained or written', async (_, spoil, message) => {
    const llm = await tinyModel();
    await spoil(llm);
    const run = path.join(folder, 'llm');
    const { code, err } = userLlm('fit', '--data', await smallLog(), '--out', run, '--llm', llm);
    expect(code).toBe(2);
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(err).toMatch(message);
    expect(existsSync(run)).toBe(false);
  });

  it('a model of a hub that is not in the cache, offline', async () => {
    const run = path.join(folder, 'hub');
    const data = await smallLog();
    const { code, err } = userLlm(
      'poc',
      '--data',
      data,
      '--out',
      run,
      '--llm',
      'nobody/nothing',
      '--minutes',
      '0.05',
      '--quiet',
      {
        HF_HUB_OFFLINE: '1',
        HF_HUB_CACHE: path.join(folder, 'models'),
      },
    );
    expect(code).toBe(2);
    expect(err).toMatch(/^user-llm: nobody\/nothing: it is not in the cache .*offline/);
    expect(existsSync(run)).toBe(false);
  }, 120_000);

  it('columns of data that have no own ones, and a role that is given twice', async () => {
    expect(userLlm('data', '--columns', 'user=who')).toMatchObject({ code: 2, err: expect.stringContaining('give --data') });
    const twice = userLlm('data', '--data', await smallLog(), '--columns', 'user=user, item=item,user=item');
    expect(twice).toMatchObject({ code: 2, err: expect.stringContaining('a role stands there twice') });
  });

  it('a user or a question that nobody would be asked about, before anything is trained', async () => {
    const data = await smallLog();
    const run = path.join(folder, 'asked');
    const poc = (...more: string[]) => userLlm('poc', '--data', data, '--out', run, '--quiet', ...more);
    expect(poc('--systems', 'text-prompt-10', '--user', 'u1')).toMatchObject({
      code: 2,
      err: expect.stringContaining('are for user-llm/cross-attention, which is not among the systems'),
    });
    expect(existsSync(run)).toBe(false);
    expect(poc('--user', 'nobody')).toMatchObject({ code: 2, err: expect.stringContaining("there is no user 'nobody'") });
    expect(existsSync(path.join(run, 'encoder'))).toBe(false);
  });

  it('the folder of the data as the run folder, of which nothing could be read afterwards', async () => {
    const data = path.dirname(await smallLog());
    const { code, err } = userLlm('fit', '--data', data, '--out', `${data}/.`);
    expect({ code, err }).toEqual({ code: 2, err: expect.stringMatching(/holds the data; .*another folder with --out\n$/) });
    expect(await readdir(data)).toEqual(['ratings.csv']);
  });

  it('a sweep in the folder of another run, whose language model it would train anew', async () => {
    const place = ['--data', await smallLog(), '--out', path.join(folder, 'run-and-sweep'), '--quiet'];
    expect(userLlm('fit', ...place, '--minutes', '1').code).toBe(0);
    const record = path.join(folder, 'run-and-sweep', 'run.json');
    const { stages, ...rest } = JSON.parse(await readFile(record, 'utf8')) as { stages: Record<string, object> };
    await writeFile(record, JSON.stringify({ ...rest, stages: { ...stages, pretrain: stages.fit } }));
    const { code, err } = userLlm('sweep', ...place, '--cell-minutes', '1', '--widths', '4', '--tokens', '1');
    expect({ code, err }).toEqual({ code: 2, err: expect.stringMatching(/holds another run; .*--out\n$/) });
  });

  it('a folder of somebody else, of which nothing is touched', async () => {
    const run = path.join(folder, 'project');
    await mkdir(path.join(run, 'users'), { recursive: true });
    await writeFile(path.join(run, 'users', 'draft.old'), 'mine');
    for (const fresh of [[], ['--fresh']])
      expect(userLlm('fit', '--data', await smallLog(), '--out', run, ...fresh)).toMatchObject({
        code: 2,
        err: expect.stringMatching(/project is no run folder .*its users would be written over/),
      });
    expect(await readFile(path.join(run, 'users', 'draft.old'), 'utf8')).toBe('mine');
    expect(existsSync(path.join(run, 'run.json'))).toBe(false);
  });

  it('an empty --out, a width that no machine could hold', async () => {
    const data = await smallLog();
    expect(userLlm('fit', '--data', data, '--out', '')).toMatchObject({
      code: 2,
      err: expect.stringContaining('--out is empty'),
    });
    const wide = userLlm('sweep', '--data', data, '--out', path.join(folder, 'wide'), '--widths', '2000000');
    expect(wide).toMatchObject({ code: 2, err: expect.stringContaining("'2000000' is above 4096") });
  });

  it('a run folder that is a file, or of another seed', async () => {
    const file = await write('taken', 'mine');
    const data = await smallLog();
    expect(userLlm('fit', '--data', data, '--out', file)).toMatchObject({ code: 2, err: expect.stringContaining('is a file') });
    expect(await readFile(file, 'utf8')).toBe('mine');
    const run = path.join(folder, 'seeded');
    expect(userLlm('fit', '--data', data, '--out', run, '--seed', '3').code).toBe(0);
    for (const command of ['fit', 'pretrain', 'ask'])
      expect(userLlm(command, '--run', run, '--seed', '4', ...(command === 'fit' ? ['--data', data] : []))).toMatchObject({
        code: 2,
        err: expect.stringContaining('--seed 3, not 4'),
      });
  });

  it('output that finds no room; that its reader has gone is no error', async () => {
    const data = await smallLog();
    const child = spawn(process.execPath, [cli, 'data', '--data', data, '--quiet'], {
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    child.stdout.destroy();
    let err = '';
    child.stderr.on('data', (text: Buffer) => (err += text.toString()));
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect({ code, err }).toEqual({ code: 0, err: '' });
    if (!existsSync('/dev/full')) return;
    const into = openSync('/dev/full', 'w');
    const { status, stderr } = spawnSync(process.execPath, [cli, 'data', '--data', data, '--quiet'], {
      encoding: 'utf8',
      stdio: ['ignore', into, 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    closeSync(into);
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: expect.stringMatching(/^user-llm: standard output: the disk is full.*\n$/),
    });
  });

  it('a terminal that is gone ends no run that has none; one that was stopped says what goes on with it', async () => {
    const run = path.join(folder, 'stopped');
    const child = spawn(process.execPath, [cli, 'poc', '--data', await smallLog(), '--out', run, '--minutes', '30', '--fresh'], {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let err = '';
    child.stderr.on('data', (text: Buffer) => (err += text.toString()));
    const closed = new Promise((resolve) => child.once('close', resolve));
    while (!existsSync(path.join(run, 'checkpoints')) && child.exitCode === null)
      await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGHUP');
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect([child.exitCode, child.signalCode]).toEqual([null, null]);
    child.kill('SIGTERM');
    expect(await closed).toBe(130);
    expect(err).toContain('Ctrl-C stops, and the same command without --fresh goes on');
    expect(err).toMatch(/user-llm: stopped; .*, and the same command without --fresh goes on from there\n$/);
  });

  it('a command without a run, an unknown command, an unknown option', () => {
    expect(userLlm('ask', '--run', path.join(folder, 'none'), 'What?')).toMatchObject({
      code: 2,
      err: expect.stringContaining('no run folder'),
    });
    expect(userLlm('fly').code).toBe(2);
    for (const minutes of ['soon', 'Infinity'])
      expect(userLlm('poc', '--minutes', minutes, '--data', 'nowhere')).toMatchObject({
        code: 2,
        err: expect.stringContaining('give a number above zero'),
      });
    expect(userLlm('poc', '--suite', 'everything')).toMatchObject({ code: 2, err: expect.stringContaining('default, full') });
    const unknown = userLlm('poc', '--systems', 'text-prompt-10,nonsense', '--out', path.join(folder, 'unknown'));
    expect(unknown).toMatchObject({ code: 2, err: expect.stringMatching(/no system 'nonsense'.*text-summary/) });
    expect(existsSync(path.join(folder, 'unknown'))).toBe(false);
  });
});

describe('the help', () => {
  it('names every command', () => {
    const { code, out } = userLlm('--help');
    expect(code).toBe(0);
    for (const name of ['poc', 'data', 'fit', 'pretrain', 'adapt', 'encode', 'eval', 'sweep', 'ask'])
      expect(out).toMatch(new RegExp(`^  ${name}\\b`, 'm'));
  });

  it('is of one command where one is named, and says where none is of that name', () => {
    expect(userLlm('help').out).toBe(userLlm('--help').out);
    expect(userLlm('help', 'sweep')).toEqual(userLlm('sweep', '--help'));
    expect(userLlm('help', 'fly')).toMatchObject({
      code: 2,
      err: "user-llm: there is no command 'fly'; --help lists what there is\n",
    });
  });
});

it('the command that an error names can be typed as it stands, whatever the run was made with', async () => {
  const run = path.join(folder, "somebody's run");
  const [tokenizer, data] = [path.join(run, 'tokenizer.json'), await smallLog()];
  const columns = ['--columns', 'user=user,item=item,time=timestamp,stars=rating'];
  expect(userLlm('fit', '--data', data, '--out', run, '--seed', '3', '--minutes', '1.5', '--users', '7', ...columns).code).toBe(
    0,
  );
  const whole = await readFile(tokenizer, 'utf8');
  await truncate(tokenizer, 20);
  const { code, err } = userLlm('pretrain', '--run', run, '--quiet');
  const [, said] = /and run: user-llm (.*)\n$/.exec(err)!;
  expect([code, said]).toEqual([2, expect.stringMatching(/^fit --run .* --minutes 1\.5/)]);
  await rm(tokenizer);
  const { status, stderr } = spawnSync('sh', ['-c', `"$NODE" "$CLI" ${said} --quiet`], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '', NODE: process.execPath, CLI: cli },
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(await readFile(tokenizer, 'utf8')).toBe(whole);
}, 60_000);

describe('the whole way on a small log', () => {
  let run: string;
  let data: string;
  let args: string[];
  beforeAll(async () => {
    run = path.join(folder, 'run');
    // Of one user a single event is known, and of another none besides the one that is held out.
    data = await smallLog({ more: ['two,film 1,3,1600000000', 'two,film 2,3,1600003600', 'one,film 3,4,1600000000'] });
    args = ['poc', '--data', data, '--out', run, '--minutes', '0.1', '--json', '--seed', '3'];
  });

  it('leaves a report with every system, and answers for a user and for an unknown one', async () => {
    const first = userLlm(...args);
    expect(first.err).toBe('');
    expect(first.code).toBe(0);
    const report = JSON.parse(await readFile(path.join(run, 'report.json'), 'utf8')) as {
      systems: { name: string; task: string; filtered: Record<string, number>; latencyMs: { p50: number } }[];
      dataset: { users: number };
      finished: boolean;
      training: { name: string; strategy?: string }[];
      promptCache: { system: string; tokensKept: number; tokensPerRequest: number; bytesPerUser: number; topShared: number };
    };
    const names = report.systems.filter(({ task }) => task === 'next-item').map(({ name }) => name);
    for (const name of [
      'popularity',
      'markov',
      'item-knn',
      'mix',
      'encoder',
      'text-prompt-10',
      'text-prompt-50',
      'user-llm/cross-attention',
      'user-llm/soft-prompt',
      'user-llm/cross-attention+text-10',
    ])
      expect(names).toContain(name);
    expect(report.dataset.users).toBe(32);
    expect(report.finished).toBe(true);
    for (const { name, strategy } of report.training) expect(strategy).toBe(name === 'encoder' ? undefined : 'full');
    const { promptCache } = report;
    expect(promptCache).toMatchObject({ system: 'text-prompt-50+cache', topShared: 1 });
    expect(promptCache.tokensPerRequest).toBeLessThan(promptCache.tokensKept);
    // Keys and values of four layers with two heads of 32 numbers each, in float32.
    expect(promptCache.bytesPerUser).toBeCloseTo(2 * 4 * 2 * 32 * 4 * promptCache.tokensKept, 3);
    expect(existsSync(path.join(run, 'prompt-caches'))).toBe(false);
    expect(existsSync(path.join(run, 'report.html'))).toBe(true);
    const lines = first.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string });
    expect(lines.at(-1)?.event).toBe('note');
    expect(lines.some(({ event }) => event === 'answer')).toBe(true);

    // A second run finds everything finished.
    const { seconds } = JSON.parse(await readFile(path.join(run, 'run.json'), 'utf8')).stages.pretrain as { seconds: number };
    expect(userLlm(...args).code).toBe(0);
    expect(JSON.parse(await readFile(path.join(run, 'run.json'), 'utf8')).stages.pretrain.seconds).toBe(seconds);

    // Another system on the same run: what is finished is not trained again, and the report is on what is asked for.
    expect(userLlm(...args, '--systems', 'text-summary').code).toBe(0);
    const second = JSON.parse(await readFile(path.join(run, 'report.json'), 'utf8')) as typeof report;
    expect(second.training.map(({ name }) => name)).toEqual(['encoder', 'text-summary']);
    expect(JSON.parse(await readFile(path.join(run, 'run.json'), 'utf8')).stages.pretrain.seconds).toBe(seconds);

    const asked = userLlm('ask', '--run', run, '--user', 'u3', 'What is next?').out;
    expect(asked).toContain('with the embedding');
    expect(asked).toMatch(/film \d+; film \d+; film \d+ {2}\(named by their tokens\)/);
    expect(userLlm('ask', '--run', run, '--user', 'two').out).toMatch(/User two \(1 event known: film 1\)/);
    expect(userLlm('ask', '--run', run, '--user', 'one').out).toMatch(/User one \(no events known\)/);
    expect(userLlm('ask', '--run', run, '--user', 'nobody')).toMatchObject({
      code: 2,
      err: expect.stringContaining("no user 'nobody'"),
    });
    expect(userLlm('poc', '--data', data, '--out', run, '--minutes', '0.1', '--seed', '4')).toMatchObject({
      code: 2,
      err: expect.stringContaining('--seed 3, not 4'),
    });
  }, 360_000);

  it('says which command mends what was damaged since, and that command does', async () => {
    const [store, encoder, other] = [
      'users',
      'systems/user-llm-cross-attention-encoder',
      'systems/user-llm-soft-prompt-encoder',
    ].map((name) => path.join(run, name));
    const refused = (command: string, said: string): void => {
      const { code, out, err } = userLlm(command, '--run', run, '--quiet');
      expect({ code, out, err }).toEqual({ code: 2, out: '', err: expect.stringContaining(said) });
      expect(err.trim().split('\n')).toHaveLength(1);
    };
    await rm(path.join(run, 'outcomes'), { recursive: true });

    await cp(encoder, `${encoder}.mine`, { recursive: true });
    await rm(encoder, { recursive: true });
    await cp(other, encoder, { recursive: true });
    for (const command of ['ask', 'eval'])
      refused(command, `not the encoder that was adapted with the model. Remove ${encoder} and run: user-llm adapt --run ${run}`);
    await rm(encoder, { recursive: true });
    await rename(`${encoder}.mine`, encoder);

    await writeFile(path.join(store, 'data.mdb'), '');
    refused('eval', `holds 0 embeddings of 96. Remove ${store} and run: user-llm encode --run ${run}`);
    await rm(store, { recursive: true });
    refused('ask', `users, which 'encode user-llm/cross-attention' left, is gone; run: user-llm encode --run ${run}`);
    expect(userLlm('encode', '--run', run, '--quiet')).toEqual({ code: 0, out: '', err: '' });
    expect(userLlm('ask', '--run', run, '--quiet').code).toBe(0);
  }, 120_000);
});

/** A log as a program writes it that cuts names in the middle of a character. */
function brokenIds(): Promise<string> {
  const event = (i: number) => ({ user: i % 12 === 5 ? 'u\ud83d' : `u${i % 12}`, item: `film ${(i * 7) % 11}`, time: i });
  return write('broken.jsonl', Array.from({ length: 60 }, (_, i) => JSON.stringify(event(i))).join('\n'));
}

async function write(name: string, content: string | Buffer): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, content);
  return file;
}
