/**
 * `npm run bench -- cold-start --data NAME [--events 0,1,2,5] [--users 0.2] [--items 0.1] [--unknown 0.2] [--steps N | --minutes N]
 * [--seed N] [--seeds COUNT] [--threads N]`
 *
 * What can be said of users and items that nothing was trained on. New users: a share of the users is held out of training; of their
 * histories the first 0, 1, 2 and 5 events are shown, and all items ranked for the event that came next. Beside the encoder stand counting baselines
 * that have counted the other users. New items: a share of the items is taken out of the log before the tokenizer is fitted; the encoder, a dual
 * encoder whose labels learn to do without the item, ranks them by their categories and their title, for users who then met one: among the new
 * items alone, and among all. Beside it stand a random order and the likeness of categories and titles to what the user met. A user's last
 * event is used for nothing. With several seeds, each draws its own users, items and weights; the intervals are over all cases. Each encoder is
 * trained for the same steps or minutes (two by default). The last line is one JSON object; the whole result is written to benchmarks/results/.
 */
import { itemKnn, mix, popularity } from '@user-llm/evaluation';
import type { Dataset } from '@user-llm/datasets';
import { fitTokenizer, loadCorpus, openSource, UsageError, type Corpus } from '@user-llm/reference';
import { dualEncoder } from '@user-llm/user-encoder';
import { itemBaselines } from './study/item-baselines.js';
import { newItems, type NewItems } from './study/new-items.js';
import { countingRanks, encoderRanks, newUsers, popularAtPlace } from './study/new-users.js';
import { shares, studyOptions, type StudyOptions } from './study/options.js';
import { compared, figures, rankOf, type CaseRanks, type Comparison, type Figures } from './study/ranks.js';
import { runStudy, writeResult } from './study/result.js';
import { trained, type TrainingSummary } from './study/training.js';

const further = {
  events: { type: 'string', default: '0,1,2,5' },
  users: { type: 'string', default: '0.2' },
  items: { type: 'string', default: '0.1' },
  unknown: { type: 'string', default: '0.2' },
} as const;

/** Ranks by system; several seeds one after another, for each has cases of its own. */
class Ranks {
  private readonly found = new Map<string, number[]>();

  add(system: string, ranks: CaseRanks): void {
    this.found.set(system, [...(this.found.get(system) ?? []), ...ranks]);
  }

  /** Figures of all systems, and one of them against each other one. */
  result(ours: readonly string[], seed: number): { systems: Record<string, Figures>; differences: Record<string, Comparison> } {
    const entries = [...this.found];
    return {
      systems: Object.fromEntries(entries.map(([name, ranks]) => [name, figures([ranks], seed)])),
      differences: Object.fromEntries(
        ours.flatMap((name) =>
          entries
            .filter(([other]) => !ours.includes(other))
            .map(([other, ranks]) => [`${name} - ${other}`, compared([this.found.get(name)!], [ranks], seed)]),
        ),
      ),
    };
  }
}

async function main(): Promise<void> {
  const { options, own } = studyOptions('cold-start', further, { minutes: 2 });
  const lengths = own.events.split(',').map((part) => {
    if (!/^\d+$/.test(part)) throw new UsageError(`--events ${own.events}: '${part}' is no number of events`);
    return Number(part);
  });
  const share = (name: 'users' | 'items' | 'unknown'): number => shares(name, own[name])[0];
  const [firstSeed] = options.seeds;
  const dataset = await openSource(options.folder, firstSeed);
  const corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
  const training: TrainingSummary[] = [];
  const users = new Map(lengths.map((events) => [events, new Ranks()]));
  const items = { amongNew: new Ranks(), amongAll: new Ranks() };
  let itemsAsked: { fields: readonly string[]; new: number; all: number } | null = null;
  for (const seed of options.seeds) {
    await studyUsers(corpus, users, { share: share('users'), seed, options, training });
    const study = await studyItems(dataset, items, { share: share('items'), unknown: share('unknown'), seed, options, training });
    if (study) itemsAsked = { fields: study.fields, new: study.items.length - study.known, all: study.items.length };
  }
  const encoders = Object.keys(labels(itemsAsked?.fields ?? []));
  const result = {
    newUsers: lengths.map((events) => ({ events, ...users.get(events)!.result(['encoder'], firstSeed) })),
    newItems: itemsAsked && {
      ...itemsAsked,
      amongNew: items.amongNew.result(encoders, firstSeed),
      amongAll: items.amongAll.result(encoders, firstSeed),
    },
  };
  console.table(result.newUsers.map(({ events, systems }) => ({ 'first events': events, ...short(systems) })));
  if (result.newItems)
    console.table({
      'among new items': short(result.newItems.amongNew.systems),
      'among all': short(result.newItems.amongAll.systems),
    });
  else console.log('nothing describes the items of this data set: a new one cannot be told from another');
  await writeResult(
    'cold-start',
    options,
    { ...own, training, ...result },
    {
      newUsers: result.newUsers.map(({ events, systems }) => ({ events, ...short(systems) })),
      newItems: result.newItems && {
        amongNew: short(result.newItems.amongNew.systems),
        amongAll: short(result.newItems.amongAll.systems),
      },
    },
  );
}

interface Study {
  readonly share: number;
  readonly seed: number;
  readonly options: StudyOptions;
  readonly training: TrainingSummary[];
}

async function studyUsers(
  corpus: Corpus,
  ranks: ReadonlyMap<number, Ranks>,
  { share, seed, options, training }: Study,
): Promise<void> {
  const held = newUsers(corpus, share, Math.max(...ranks.keys()), seed);
  if (held.users.length === 0) throw new UsageError('no new user has so many events; give smaller --events or a larger --users');
  const { encoder, summary } = await trained(corpus.tokenizer, held.others, { name: 'new users' }, seed, options);
  training.push(summary);
  for (const [events, found] of ranks) {
    found.add('encoder', await encoderRanks(encoder, corpus, held.users, events));
    for (const system of [popularity(), popularAtPlace(events), itemKnn(), mix()])
      found.add(system.name, countingRanks(system, corpus, held, events));
  }
  await encoder.dispose();
}

/** Which of the fields the labels are made of, by the name of the encoder. */
function labels(fields: readonly string[]): Record<string, readonly string[]> {
  return {
    [`labels of ${fields.join(', ')}`]: fields,
    ...(fields.length > 1 && { [`labels of ${fields[0]}`]: fields.slice(0, 1) }),
  };
}

async function studyItems(
  dataset: Dataset,
  ranks: { readonly amongNew: Ranks; readonly amongAll: Ranks },
  { share, unknown, seed, options, training }: Study & { unknown: number },
): Promise<NewItems | null> {
  const study = await newItems(dataset, share, seed);
  if (!study) return null;
  const { cases, known } = study;
  const add = (name: string, scores: readonly (Float32Array | Float64Array)[]): void => {
    ranks.amongNew.add(
      name,
      cases.map(({ target }, i) => rankOf(scores[i].subarray(known), target - known, [])),
    );
    ranks.amongAll.add(
      name,
      cases.map(({ target, met }, i) => rankOf(scores[i], target, met)),
    );
  };
  for (const [name, baseline] of Object.entries(await itemBaselines(study, seed))) add(name, cases.map(baseline));
  for (const [name, fields] of Object.entries(labels(study.fields))) {
    const objective = dualEncoder({ fields, unknown });
    const { encoder, summary } = await trained(study.tokenizer, study.events, { name, training: { objective } }, seed, options);
    training.push(summary);
    const scores: Float32Array[] = [];
    for (const { user } of cases) scores.push(await encoder.scoreItems(study.events, user, study.catalogue));
    add(name, scores);
    await encoder.dispose();
  }
  return study;
}

const short = (systems: Readonly<Record<string, Figures>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(systems).map(([name, { 'recall@10': recall, ci95 }]) => [
      name,
      `${recall.toFixed(4)} (${ci95['recall@10'].map((end) => end.toFixed(3)).join(' to ')})`,
    ]),
  );

runStudy(main);
