import path from 'node:path';
import type { CatalogueWay } from '@user-llm/cross-attention';
import type { Dataset } from '@user-llm/datasets';
import { EventTokenizer } from '@user-llm/event-tokenizer';
import { budgetOf, type Budget } from './budget.js';
import { checkCatalogue, fitTokenizer, loadCorpus, openSource, type Corpus } from './corpus.js';
import { UsageError } from './errors.js';
import { rejectionInWords } from './own-words.js';
import { RunFolder } from './run/run-folder.js';
import type { RunSettings } from './run/run-manifest.js';
import { refuseOtherSource, sourceOf } from './run/run-source.js';
import type { ConsoleOutput } from './run/console-output.js';
import { chooseSystems, optionsOf, type SystemChoice, type SystemSpec } from './system-specs.js';

export interface WorkspaceOptions extends SystemChoice {
  /** The run folder. */
  readonly out: string;
  readonly output: ConsoleOutput;
  readonly signal: AbortSignal;
  /** Seconds of each kind of training from the run's minutes; default: those of the proof of concept. */
  readonly budget?: (minutes: number) => Budget;
  /** Threads of everything that trains and answers, so that a machine can be shared; its cores by default. */
  readonly threads?: number | undefined;
}

/** One pass ranks the whole catalogue, and every title of a prompt is one more item to learn from. */
export const defaultRanking: CatalogueWay = 'item-tokens';

/** What a run is planned for. Evaluation takes longer on a slow machine: it is to be through with the simulated data in five. */
export const defaultMinutes = { simulated: 4, real: 20 } as const;

/** What a run is asked for; what is left out has a default. */
export interface GivenSettings extends Partial<
  Pick<RunSettings, 'minutes' | 'ranking' | 'columns' | 'users' | 'examples' | 'encoderSteps'>
> {
  readonly data?: string;
  readonly llm?: string;
  readonly seed: number;
  /** Remove what a former run left. */
  readonly fresh?: boolean;
}

/** An open run: its folder, its settings, and what several stages read, loaded once. */
export class Workspace {
  private source: Promise<Dataset> | undefined;
  private loaded: Promise<Corpus> | undefined;
  readonly budget: Budget;
  /** The language-model systems that are compared, in the order in which they are trained. */
  readonly systems: readonly SystemSpec[];
  readonly output: ConsoleOutput;
  readonly signal: AbortSignal;
  /** `{ threads }`, or nothing where the cores decide. */
  readonly runtime: { readonly threads?: number };

  private constructor(
    readonly run: RunFolder,
    { output, signal, budget = budgetOf, suite, systems, align, threads }: WorkspaceOptions,
  ) {
    const { minutes, llm } = run.settings;
    run.chosen = optionsOf({ suite, systems, align });
    this.output = output;
    this.signal = signal;
    this.runtime = threads === undefined ? {} : { threads };
    this.budget = budget(minutes);
    this.systems = chooseSystems(llm === null ? 'scratch' : 'pretrained', { suite, systems, align });
  }

  /** Opens the run, or readies a new one; with `fresh`, what a former run left is removed when the new one begins. */
  static async create(options: WorkspaceOptions, given: GivenSettings): Promise<Workspace> {
    const settings: RunSettings = {
      data: given.data === undefined ? null : path.resolve(given.data),
      llm: given.llm === undefined ? null : await modelPlace(given.llm),
      seed: given.seed,
      minutes: given.minutes ?? (given.data === undefined ? defaultMinutes.simulated : defaultMinutes.real),
      ranking: given.ranking ?? defaultRanking,
      ...(given.columns === undefined ? {} : { columns: given.columns }),
      ...(given.users === undefined ? {} : { users: given.users }),
      ...(given.examples === undefined ? {} : { examples: given.examples }),
      ...(given.encoderSteps === undefined ? {} : { encoderSteps: given.encoderSteps }),
    };
    if (options.out === '') throw new UsageError('--out is empty; name the folder that everything is written to');
    // Data are the tables of a folder, and the record of a run would be one of them.
    if (settings.data === path.resolve(options.out))
      throw new UsageError(`${options.out} holds the data; name another folder with --out`);
    // Before anything is written: a path that cannot be read leaves no folder behind, nor does a system that there is none of.
    chooseSystems(settings.llm === null ? 'scratch' : 'pretrained', options);
    const source = await openSource(settings.data, settings.seed, settings.columns, options.signal);
    const exists = await RunFolder.exists(options.out);
    if (settings.llm !== null && (given.fresh || !exists)) await checkLanguageModel(settings.llm, options);
    const run = await RunFolder.create(options.out, settings, { fresh: given.fresh });
    // A new folder is made when the log turned out to be one that can be learned from.
    if (exists && !given.fresh) await run.begin();
    const workspace = new Workspace(run, options);
    workspace.source = Promise.resolve(source);
    return workspace;
  }

  /** Opens a run that exists. @param seed where one is given it must be the run's */
  static async open(options: WorkspaceOptions, seed?: number): Promise<Workspace> {
    return new Workspace(await RunFolder.open(options.out, seed), options);
  }

  /** Lets other processes work in the run folder, which else they may when this one ends. */
  close(): Promise<void> {
    return this.run.close();
  }

  get seed(): number {
    return this.run.settings.seed;
  }

  dataset(): Promise<Dataset> {
    this.source ??= openSource(this.run.settings.data, this.seed, this.run.settings.columns, this.signal);
    return this.source;
  }

  /** The data set under the run's tokenizer, which is fitted when it is not there yet. */
  corpus(): Promise<Corpus> {
    this.loaded ??= this.load();
    return this.loaded;
  }

  private async load(): Promise<Corpus> {
    const dataset = await this.dataset();
    const { signal } = this;
    const { files } = dataset.provenance;
    refuseOtherSource(this.run, files);
    const file = this.run.path('tokenizer.json');
    let corpus: Corpus | undefined;
    const progress = this.output.progress('fit', 'reading events, fitting the tokenizer');
    await this.run.stage(
      'fit',
      { data: this.run.settings.data, seed: this.seed },
      async () => {
        const { tokenizer, log, events } = corpus!;
        await tokenizer.save(file);
        return {
          tokenizer: tokenizer.hash,
          users: log.users.length,
          items: log.itemIds.length,
          ...events.counts,
          source: sourceOf(files),
        };
      },
      {
        leaves: ['tokenizer.json'],
        before: async () => checkCatalogue((corpus = await loadCorpus(dataset, await fitTokenizer(dataset, signal), signal))),
      },
    );
    corpus ??= await loadCorpus(dataset, await this.run.read('tokenizer.json', 'fit', () => EventTokenizer.load(file)), signal);
    const { log, events } = corpus;
    const rejected =
      events.counts.rejected > 0
        ? `, ${events.counts.rejected} rows rejected (first: ${rejectionInWords(events.rejected[0])})`
        : '';
    progress.done(
      `${dataset.name}: ${log.users.length} users, ${log.itemIds.length} items, ${events.counts.events} events${rejected}`,
    );
    return corpus;
  }
}

/** A model that cannot be loaded is found out before an encoder is trained for it; one of a hub is fetched now, and kept in the cache. */
async function checkLanguageModel(llm: string, { output, signal }: Pick<WorkspaceOptions, 'output' | 'signal'>): Promise<void> {
  const { checkModel, fetchModel, hubNameOf } = await import('@user-llm/cross-attention');
  const named = await hubNameOf(llm);
  let place = llm;
  if (named !== undefined) {
    const progress = output.progress('fetch', `fetching ${llm}`);
    ({ place } = await fetchModel(named.model, {
      ...(named.file === undefined ? {} : { file: named.file }),
      signal,
      onProgress: ({ file, allReceivedBytes, allTotalBytes }) =>
        progress.update({ fraction: allReceivedBytes / allTotalBytes, detail: file }),
    }));
    progress.done();
  }
  if ((await checkModel(place))?.hasTokenizer === false)
    throw new UsageError(`${llm} has no tokenizer; put the model's tokenizer.json and tokenizer_config.json there`);
}

/** A name on a hub as it is, a path from wherever the command may run next. */
async function modelPlace(llm: string): Promise<string> {
  const { hubNameOf } = await import('@user-llm/cross-attention');
  return (await hubNameOf(llm)) === undefined ? path.resolve(llm) : llm;
}
