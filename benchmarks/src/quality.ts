/**
 * `npm run bench -- quality (--data NAME | --llm NAME) [--only encoder] [--minutes N | --steps N] [--seed N] [--seeds COUNT] [--dropout X] [--width N]
 * [--layers N] [--rate X] [--batch N] [--position P] [--window W] [--threads N] [--ranking WAY] [--users N] [--examples N] [--encoder-steps N]
 * [--slice MINUTES] [--suite full | --systems NAME,...] [--keep] [--out FOLDER]`
 *
 * How good the systems are on a real data set, found by its name under the folder in USER_LLM_DATA (models under USER_LLM_MODELS). With
 * `--only encoder` the encoder alone is pretrained, for `--minutes` or, the same on every machine, for `--steps`, and stands beside the
 * counting baselines, alone and blended with Mix by a weight that is chosen on validation items, for `--seeds` seeds from `--seed` on, each
 * with a result of its own and one over all; otherwise the whole proof of concept runs, with the systems of a suite or those that
 * are named: by one way to rank, for so many test users. Systems are compared after the same number of examples (`--examples`) or, without
 * it, after the same time by the clock (from `--minutes`); the encoder that they read is pretrained for `--encoder-steps`, or for a share of the minutes. A system that is finished is in the result at once, which says so by `finished: false`
 * until all are. A long run is made in slices: after `--slice` minutes, or when it is interrupted, it stops with a checkpoint, and the same command goes on. With `--keep`
 * systems that an earlier run of the same seed, users, examples and encoder steps (or minutes) measured stay in the result, so that a comparison can be made of several
 * runs, on several machines, and a mean over seeds of those that lie there: their answers, user by user, are in benchmarks/results/answers/.
 * A given model (`--llm`) is too large for minutes: unless said otherwise every system of the full suite learns from 2,000 examples, reads an encoder of
 * 800 steps and answers for 400 users; without `--data`, on ml-latest-small and then ml-1m.
 * Leave-one-out, all items ranked. The last line is one JSON object; it is also written to benchmarks/results/.
 */
import type { CatalogueWay } from '@user-llm/cross-attention';
import { machineDescription, nextItem, processorOf } from '@user-llm/evaluation';
import {
  ConsoleOutput,
  encoderShape,
  fitTokenizer,
  loadCorpus,
  openSource,
  runAll,
  type RunSettings,
  sampleSize,
  type Suite,
  UsageError,
  Workspace,
} from '@user-llm/reference';
import type { Band } from '@user-llm/user-encoder';
import { rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { commandOf, keepResult, resultsFolder } from './record/results.js';
import { encoderQuality } from './study/encoder-quality.js';
import { encoderRecipe, keepSeed, keptSeed, ranksOf, type KeptSeed } from './study/kept-seeds.js';
import { KeptSystems, systemRecipe } from './study/kept-systems.js';
import { commandLine, named, positive } from './study/options.js';
import { overSeeds } from './study/over-seeds.js';
import { runStudy } from './study/result.js';

const options = {
  data: { type: 'string' },
  only: { type: 'string' },
  llm: { type: 'string' },
  minutes: { type: 'string' },
  ranking: { type: 'string' },
  users: { type: 'string' },
  examples: { type: 'string' },
  'encoder-steps': { type: 'string' },
  slice: { type: 'string' },
  suite: { type: 'string' },
  systems: { type: 'string' },
  keep: { type: 'boolean', default: false },
  steps: { type: 'string' },
  threads: { type: 'string' },
  seed: { type: 'string', default: '1' },
  seeds: { type: 'string', default: '1' },
  dropout: { type: 'string', default: '0.3' },
  batch: { type: 'string', default: '16' },
  width: { type: 'string', default: '64' },
  layers: { type: 'string', default: '2' },
  rate: { type: 'string', default: '1e-3' },
  position: { type: 'string' },
  window: { type: 'string', default: '100' },
  out: { type: 'string' },
} as const;

/** Of a given model a suite and systems by name are parts of one comparison. */
const variantOf = (values: Values): string =>
  [values.llm, values.ranking, values.llm === undefined && values.suite, values.examples && `${values.examples}-examples`]
    .filter(Boolean)
    .map((part) => `-${part}`)
    .join('');

type Values = ReturnType<typeof commandLine<typeof options>>;

/** What a given model is measured on where no data set is named. */
const dataWithModel = ['ml-latest-small', 'ml-1m'];

/** A given model is too large for minutes: where nothing else is said, every system learns from as many examples and answers for as many users. */
function ofModel(values: Values): Values {
  if (values.llm === undefined) return values;
  const byClock = values.minutes !== undefined && values.examples === undefined;
  return {
    ...values,
    users: values.users ?? '400',
    ...(!byClock && { examples: values.examples ?? '2000', 'encoder-steps': values['encoder-steps'] ?? '800' }),
    suite: values.suite ?? (values.systems === undefined ? 'full' : undefined),
  };
}

async function encoderAlone(values: Values, name: string, minutes: number): Promise<Record<string, unknown>> {
  if (values.slice !== undefined)
    throw new UsageError('--slice is for language models; interrupt --only encoder, and the same command goes on');
  const signal = interruption();
  const first = positive('seed', values.seed);
  const dataset = await openSource(named('USER_LLM_DATA', name), first);
  const corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
  const usual = encoderShape(corpus.tokenizer);
  // The positions that rate and batch were chosen with.
  const position = usual.attention.position === 'rotary-time' ? 'relative-time' : usual.attention.position;
  const shape = {
    ...usual,
    width: positive('width', values.width),
    layers: positive('layers', values.layers),
    dropout: Number(values.dropout),
    attention: { position: (values.position ?? position) as Band['position'], window: positive('window', values.window) },
  };
  const training = {
    ...(values.steps === undefined ? { seconds: minutes * 60 } : { steps: positive('steps', values.steps) }),
    ...(values.threads === undefined ? {} : { threads: positive('threads', values.threads) }),
    learningRate: Number(values.rate),
    batch: positive('batch', values.batch),
  };
  const { threads: _, ...counted } = training;
  const terms = { shape, training: counted, recipe: encoderRecipe, task: nextItem(corpus.split).hash };
  const runs: KeptSeed[] = [];
  const count = positive('seeds', values.seeds);
  for (let seed = first; seed < first + count; seed++) {
    const of = `seed${seed}`;
    const kept = answersFile(values, of);
    const known = values.keep ? await keptSeed(kept, { seed, ...terms }) : undefined;
    if (known) {
      process.stderr.write(`seed ${seed}: measured earlier, on ${processorOf(known.machine)}\n`);
      runs.push(known);
      continue;
    }
    const file = path.join(outOf(values, seed), 'encoder.safetensors');
    const { report, outcomes, ...how } = await encoderQuality(
      corpus,
      { ...shape, seed },
      { ...training, checkpoint: { file }, signal },
    );
    // Another run is to train, by the code that there is then.
    for (const written of [file, `${file}.run`]) await rm(written, { force: true });
    console.table(report.rows);
    const { systems } = report.toJSON();
    const measured = {
      terms: { seed, ...terms },
      machine: machineDescription(),
      command: commandOf('quality'),
      ranks: ranksOf(outcomes),
    };
    await keepSeed(kept, measured);
    runs.push(measured);
    const { mixedAgainstEncoder } = together([measured]);
    await writeResult(values, of, { data: name, shape: { ...shape, seed }, ...how, systems, mixedAgainstEncoder });
  }
  const summary = {
    data: name,
    seeds: runs.map((run) => run.terms.seed),
    shape,
    measured: runs.map((run) => ({ seed: run.terms.seed, command: run.command, machine: run.machine })),
    ...together(runs),
  };
  // Of one seed there is a result already.
  if (count > 1) await writeResult(values, `seeds${first}-${first + count - 1}`, summary);
  return summary;
}

/**
 * Seeds in one comparison with Mix, user by user, and whether encoder and Mix together are above the encoder alone too, not only above Mix.
 */
function together(runs: readonly KeptSeed[]) {
  const ranks = runs.map((run) => run.ranks);
  return {
    against: 'mix',
    systems: overSeeds(ranks, 'mix'),
    mixedAgainstEncoder: overSeeds(ranks, 'encoder')['encoder+mix'],
  };
}

function rankingWay(given: string | undefined): CatalogueWay | undefined {
  if (given === undefined || given === 'title' || given === 'item-tokens' || given === 'retrieve') return given;
  throw new UsageError(`--ranking is title, item-tokens or retrieve, not ${given}`);
}

function suiteNamed(given: string | undefined): Suite | undefined {
  if (given === undefined || given === 'default' || given === 'full') return given;
  throw new UsageError(`--suite is default or full, not ${given}`);
}

const minutesOf = ({ minutes, only }: Values): number => positive('minutes', minutes ?? (only === 'encoder' ? '15' : '20'));

const numberOf = (name: string, text: string | undefined): number | undefined =>
  text === undefined ? undefined : positive(name, text);

async function everything(values: Values, name: string, minutes: number): Promise<Record<string, unknown>> {
  const seed = positive('seed', values.seed);
  const out = outOf(values, seed);
  const output = new ConsoleOutput({ json: false, quiet: false });
  const slice = numberOf('slice', values.slice);
  const stopped = interruption();
  const signal = AbortSignal.any([stopped, ...(slice === undefined ? [] : [AbortSignal.timeout(slice * 60_000)])]);
  const llm = values.llm === undefined ? undefined : named('USER_LLM_MODELS', values.llm);
  const workspace = await Workspace.create(
    {
      out,
      output,
      signal,
      suite: suiteNamed(values.suite),
      systems: values.systems?.split(','),
      threads: numberOf('threads', values.threads),
    },
    {
      data: named('USER_LLM_DATA', name),
      seed,
      minutes,
      llm,
      ranking: rankingWay(values.ranking),
      users: numberOf('users', values.users),
      examples: numberOf('examples', values.examples),
      encoderSteps: numberOf('encoder-steps', values['encoder-steps']),
    },
  );
  const of = `seed${seed}`;
  const kept = await keptSystems(values, of, workspace.run.settings);
  let latest: Record<string, unknown> = {};
  try {
    await runAll(workspace, {
      onReport: async (report) => {
        await kept.write(report, machineDescription(), commandOf('quality'));
        const { curves: _, ...figures } = kept.addTo(report).toJSON();
        latest = { data: name, ...figures };
        await writeResult(values, of, latest);
      },
    });
  } catch (error) {
    if (!signal.aborted) throw error;
    // What is finished lies in the run folder, a checkpoint of what was under way too.
    const why = stopped.aborted ? 'stopped' : `the slice of ${slice} minutes is over`;
    process.stderr.write(`${why}; the same command goes on from here\n`);
    process.stdout.write(`${JSON.stringify({ data: name, seed, finished: false })}\n`);
    process.exit(stopped.aborted ? 130 : 0);
  }
  return { data: name, seed, systems: latest.systems };
}

/** Aborts when the run is interrupted, so that it leaves a checkpoint. */
function interruption(): AbortSignal {
  const stopped = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => stopped.abort());
  return stopped.signal;
}

/** Where a run keeps what it has not finished. */
const outOf = (values: Values, seed: number): string =>
  values.out ??
  path.join(os.tmpdir(), ['user-llm-quality', values.only, `${values.data}${variantOf(values)}`, seed].filter(Boolean).join('-'));

/** What earlier runs measured, with `--keep`; what this one measures is kept in any case. */
function keptSystems(values: Values, of: string, settings: RunSettings): Promise<KeptSystems> {
  const file = answersFile(values, of);
  const { seed, examples = null, encoderSteps = null } = settings;
  // A model from scratch is trained on its titles for a share of the minutes, whatever else is counted.
  const byClock = settings.llm === null || examples === null || encoderSteps === null;
  const minutes = byClock ? settings.minutes : null;
  const terms = { seed, users: sampleSize(settings), examples, encoderSteps, minutes, recipe: systemRecipe };
  return values.keep ? KeptSystems.read(file, terms) : Promise.resolve(KeptSystems.none(file, terms));
}

/** Where the answers of a result lie, user by user. */
const answersFile = (values: Values, of: string): string => path.join(resultsFolder, 'answers', `${resultName(values, of)}.json`);

/** Under the data's name and what it is of. */
const resultName = (values: Values, of: string): string =>
  `quality-${values.only ?? 'all'}-${values.data}${variantOf(values)}-${of}`;

async function writeResult(values: Values, of: string, result: Readonly<Record<string, unknown>>): Promise<void> {
  const counted = values.only === undefined ? values.llm && values.examples && values['encoder-steps'] : values.steps;
  const minutes = counted === undefined && { minutes: minutesOf(values) };
  await keepResult(resultName(values, of), {
    command: commandOf('quality'),
    ...minutes,
    machine: machineDescription(),
    ...result,
  });
}

async function main(): Promise<void> {
  const values = ofModel(commandLine(options));
  const { data, only } = values;
  if (only !== undefined && only !== 'encoder') throw new UsageError(`--only takes encoder, not ${only}`);
  if (data === undefined && (only !== undefined || values.llm === undefined))
    throw new UsageError('name a data set: npm run bench -- quality --data ml-100k [--only encoder]');
  const measure = only === 'encoder' ? encoderAlone : everything;
  if (data !== undefined) return print(await measure(values, data, minutesOf(values)));
  // Missing data are told of before the first run, not after it.
  for (const name of dataWithModel) named('USER_LLM_DATA', name);
  const runs = [];
  for (const name of dataWithModel) {
    const out = values.out && path.join(values.out, name);
    runs.push(await measure({ ...values, data: name, out }, name, minutesOf(values)));
  }
  print({ runs });
}

const print = (result: unknown): void => void process.stdout.write(`${JSON.stringify(result)}\n`);

runStudy(main);
