import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { CatalogueWay } from '@user-llm/cross-attention';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { UsageError } from './errors.js';
import { explain } from './explain.js';
import { ConsoleOutput } from './run/console-output.js';
import { defaultRanking, Workspace, type WorkspaceOptions } from './workspace.js';
import type { GivenEvents } from './stages/update.js';
import type { Suite } from './system-specs.js';

interface CommonOptions {
  run: string;
  out?: string;
  seed: number;
  json: boolean;
  quiet: boolean;
  verbose: boolean;
  data?: string;
  columns?: Record<string, string>;
  llm?: string;
  minutes?: number;
  ranking?: CatalogueWay;
  users?: number;
  examples?: number;
  encoderSteps?: number;
  fresh?: boolean;
  suite?: Suite;
  systems?: string[];
  align?: boolean;
}

interface Context {
  readonly output: ConsoleOutput;
  readonly signal: AbortSignal;
  /** The seed that was typed; undefined where it is the default. */
  readonly seed: number | undefined;
}

type Action = (context: Context, options: CommonOptions, args: string[]) => Promise<void>;

const wholeNumber = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('give a whole number');
  return Number(text);
};
const aboveZero = (text: string): number => {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('give a whole number above zero');
  return Number(text);
};
const anyNumber = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('give a number');
  return value;
};
const columnMapping = (text: string): Record<string, string> => {
  const pairs = text.split(',').map((pair) => pair.split('=').map((part) => part.trim()));
  if (pairs.some((pair) => pair.length !== 2 || pair.includes('')))
    throw new InvalidArgumentError('give roles and columns, such as user=customer,item=sku,time=bought_at');
  const mapping = Object.fromEntries(pairs) as Record<string, string>;
  if (Object.keys(mapping).length < pairs.length) throw new InvalidArgumentError('a role stands there twice; give it one column');
  return mapping;
};
const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0 && value < Infinity)) throw new InvalidArgumentError('give a number above zero');
  return value;
};

/** Runs the command line and returns the exit code: 0, 1 for a bug of ours, 2 for what the person can mend, 130 when interrupted. */
export async function main(argv: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  const stop = (): void => {
    if (interrupt.signal.aborted) process.exit(130);
    process.stderr.write('\nstopping at the next step; what is trained is kept (press again to leave at once)\n');
    interrupt.abort();
  };
  // Of a terminal that is gone nothing can be asked or told. Without one (nohup) the run goes on, which Node would end all the same.
  const hangUp = (): void => {
    if (!process.stderr.isTTY) return;
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
    stop();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  process.on('SIGHUP', hangUp);
  try {
    await build(interrupt.signal).parseAsync([...argv]);
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const { message, exitCode } = explain(error);
    // With --fresh the same command would begin by removing what is kept.
    const again = argv.includes('--fresh') ? message.replaceAll('the same command', 'the same command without --fresh') : message;
    process.stderr.write(`user-llm: ${again}\n`);
    if (argv.includes('--verbose') && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
    return exitCode;
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
    process.off('SIGHUP', hangUp);
  }
}

/** The command line itself. */
export function build(signal: AbortSignal): Command {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  const program = new Command('user-llm')
    .description(
      'Turns a log of user events into a personalised language model and an honest report. Everything runs in Node, on this machine.',
    )
    .version(version)
    .exitOverride()
    .configureHelp({ sortSubcommands: false })
    .configureOutput({
      outputError: (text, write) => write(`user-llm: ${text.replace(/^error: /, '').trim()}; --help lists what there is\n`),
    });

  const command = (name: string, description: string, action: Action, folder = 'run'): Command => {
    const sub = program
      .command(name)
      .description(description)
      .exitOverride()
      .addOption(new Option('--run, --out <folder>', 'the run folder: everything is written there').default(folder))
      .addOption(
        new Option('--seed <n>', 'seeds the simulation, the first weights, the samples').argParser(wholeNumber).default(1),
      )
      .option('--json', 'progress and results as JSON lines on standard output', false)
      .option('--quiet', 'results alone, no progress', false)
      .option('--verbose', 'show where an error came from', false);
    sub.action(async () => {
      const options = sub.opts<CommonOptions>();
      const output = new ConsoleOutput(options);
      const seed = sub.getOptionValueSource('seed') === 'cli' ? options.seed : undefined;
      try {
        await action({ output, signal, seed }, { ...options, run: options.out ?? options.run }, sub.args);
      } finally {
        output.close();
      }
    });
    return sub;
  };
  const columns = (): Option =>
    new Option(
      '--columns <list>',
      'which column is what where names do not tell: user=customer,item=sku,time=bought_at (also rating, title, categories, text; any other name keeps a column of your own, which the encoder reads)',
    ).argParser(columnMapping);
  const source = (sub: Command, ways: readonly CatalogueWay[] = ['title', 'item-tokens', 'retrieve']): Command =>
    sub
      .option(
        '--data <path>',
        'a folder or file of events (MovieLens, Amazon Review, Google Local, CSV, JSONL, Parquet); without it a simulated film service',
      )
      .addOption(columns())
      .option(
        '--llm <model>',
        'a language model: a Hugging Face folder, a .gguf file, or owner/model of the hub; without it a small one is trained on the titles',
      )
      .addOption(
        new Option(
          '--ranking <way>',
          `how the language models rank the items: by their titles (title), by one token for each (item-tokens)${ways.includes('retrieve') ? ', or anew what was retrieved (retrieve)' : ''} (default: ${defaultRanking})`,
        ).choices(ways),
      )
      .option('--fresh', 'start anew: remove what a former run left in the run folder', false);
  const compared = (sub: Command): Command =>
    sub
      .addOption(
        new Option(
          '--suite <name>',
          'which systems are compared: the usual five (default), or with them every strategy, both ways in, and prompts with summaries (full)',
        )
          .choices(['default', 'full'])
          .conflicts('systems'),
      )
      .addOption(
        new Option('--systems <list>', 'the systems to compare, by name, in this order: text-prompt-10,text-summary').argParser(
          (text: string) => text.split(','),
        ),
      )
      .addOption(
        new Option(
          '--align',
          "beside each system that reads users, the same one trained in two stages: contrastive alignment with the model's own reading of the last titles, then adaptation, both in the time of the other",
        ).conflicts('systems'),
      );
  const timed = (sub: Command): Command =>
    source(sub)
      .addOption(
        new Option(
          '--minutes <n>',
          'how long the whole run may take (default: 4 for the simulated data, 20 for real data)',
        ).argParser(positive),
      )
      .addOption(
        new Option(
          '--users <n>',
          'test users that the language models rank for (default: 80 below ten minutes; from there 1,000, or 200 with --llm or another --ranking)',
        ).argParser(aboveZero),
      )
      .addOption(
        new Option('--examples <n>', 'train every language-model system on so many examples, however long it takes').argParser(
          aboveZero,
        ),
      )
      .addOption(
        new Option('--encoder-steps <n>', 'pretrain the user encoder for so many steps, however long they take').argParser(
          aboveZero,
        ),
      );

  compared(
    timed(
      command(
        'poc',
        'everything in a row: fit, pretrain, adapt, encode, eval, ask; a second run goes on where the first one stopped',
        poc,
      ),
    ),
  )
    .option('--question <text>', 'the question to ask at the end')
    .option('--user <id>', 'for whom; by default the test user with the longest history');
  command(
    'data',
    'shows what is in a data set: users, items, events, rows that cannot be read; writes nothing',
    async ({ output, signal }, { data, seed, columns }) => {
      const { openSource } = await import('./corpus.js');
      const { showData } = await import('./stages/data.js');
      await showData(await openSource(data === undefined ? null : path.resolve(data), seed, columns, signal), output, signal);
    },
  )
    .option('--data <path>', 'a folder or file of events; without it the simulated film service')
    .addOption(columns());
  timed(
    command(
      'fit',
      'reads the events and fits the tokenizer',
      async (context, options) => void (await (await create(context, options)).corpus()),
    ),
  );
  command('pretrain', 'pretrains the user encoder on the events alone', async (context, options) => {
    const { pretrain } = await import('./stages/pretrain.js');
    await pretrain(await openToWrite(context, options));
  });
  compared(
    command(
      'adapt',
      'trains the language model, with each way of reading users and with text prompts',
      async (context, options) => {
        const { adaptAll } = await import('./stages/adapt.js');
        await adaptAll(await openToWrite(context, options));
      },
    ),
  );
  compared(
    command('encode', 'writes the embedding of every user into the store', async (context, options) => {
      const { encodeUsers } = await import('./stages/encode.js');
      await encodeUsers(await openToWrite(context, options));
    }),
  );
  compared(
    command(
      'eval',
      'evaluates the systems on the held-out events and writes report.html and report.json',
      async (context, options) => {
        const { evaluateAll } = await import('./stages/evaluate.js');
        await evaluateAll(await openToWrite(context, options));
      },
    ),
  );
  source(
    command(
      'sweep',
      'trains a grid of embedding widths and user tokens, and draws quality against bytes and milliseconds per user: sweep.html and sweep.json',
      async (context, options) => {
        const { defaultGrid, gridOf, sweepBudget } = await import('./sweep/grid.js');
        const { sweep } = await import('./sweep/sweep.js');
        const given = options as CommonOptions & { cellMinutes: number; widths?: string; tokens?: string; users: number };
        // Before anything is written: a grid that is none leaves no folder behind.
        const cells = gridOf(given.widths ?? defaultGrid.widths, given.tokens ?? defaultGrid.tokens);
        const place = { out: options.run, ...context, budget: sweepBudget };
        await sweep(await Workspace.create(place, { ...options, minutes: given.cellMinutes }), { cells, users: given.users });
      },
      'sweep',
    ),
    ['title', 'item-tokens'],
  )
    .option('--widths <list>', 'widths D of the encoder and the user tokens, multiples of 4 (default: 32,64,128)')
    .option('--tokens <list>', 'user tokens K that the language model reads (default: 1,4,16)')
    .addOption(
      new Option(
        '--cell-minutes <n>',
        'how long each cell is trained, by the clock: half pretrains the encoder (shared by the cells of a width), half adapts the language model, which is made once, in as long as a half',
      )
        .argParser(positive)
        .default(2),
    )
    .addOption(
      new Option('--users <n>', 'test users that the language models rank for, one seeded sample')
        .argParser(aboveZero)
        .default(200),
    )
    .addHelpText(
      'after',
      `
K only matters to a model that reads the tokens: its figure is the recall@10 of the language model, adapted in every cell for the same time
with the same seed. D is also shown by the encoder's own item head, which reads no tokens. Both stand beside counting baselines, with 95 %
intervals over users. Finished cells are kept: the same command goes on after Ctrl-C, and a larger grid trains what is new.`,
    );
  command('ask', 'answers a question for a user, with and without the embedding', async (context, options, args) => {
    const { ask } = await import('./stages/ask.js');
    const { user } = options as CommonOptions & { user?: string };
    await ask(await open(context, options), { user, question: args.join(' ') || undefined });
  })
    .argument('[question...]', 'the question, for example "What should I watch tonight?"')
    .option('--user <id>', 'for whom; by default the test user with the longest history');
  command(
    'update',
    "takes new events into the users' states, one step for each, so that `ask` knows them; without any, checks the states and makes anew what is missing",
    async (context, options) => {
      const { update } = await import('./stages/update.js');
      await update(await open(context, options), options as GivenEvents);
    },
  )
    .addOption(
      new Option('--events <path>', 'a file or folder of new events, in any layout that --data takes').conflicts([
        'user',
        'item',
        'rating',
        'time',
      ]),
    )
    .addOption(columns())
    .option('--user <id>', 'the user of a single event, who may be new')
    .option('--item <id>', 'its item')
    .addOption(new Option('--rating <n>', 'its rating').argParser(anyNumber))
    .option('--time <time>', 'when it was: seconds since 1970 or ISO 8601 (default: now)');
  // The library's own answers to a name that is no command with the whole help, and nothing of what is wrong.
  program
    .helpCommand(false)
    .command('help [command]')
    .description('shows what a command does and takes')
    .action((name?: string) => {
      const asked = name === undefined ? program : program.commands.find((one) => one.name() === name);
      if (asked === undefined) throw new UsageError(`there is no command '${name}'; --help lists what there is`);
      asked.help();
    });
  return program;
}

const create = (context: Context, options: CommonOptions): Promise<Workspace> =>
  Workspace.create(placeOf(context, options), options);
const open = (context: Context, options: CommonOptions): Promise<Workspace> =>
  Workspace.open(placeOf(context, options), context.seed);
const placeOf = (context: Context, { run, suite, systems, align }: CommonOptions): WorkspaceOptions => ({
  out: run,
  ...context,
  suite,
  systems,
  align,
});

/** One command at a time writes into a run folder: the second one is told so before it has read anything. */
async function openToWrite(context: Context, options: CommonOptions): Promise<Workspace> {
  const workspace = await open(context, options);
  await workspace.run.begin();
  return workspace;
}

const poc: Action = async (context, options) => {
  const { question, user } = options as CommonOptions & { question?: string; user?: string };
  const workspace = await create(context, options);
  const { runAll } = await import('./stages/poc.js');
  await runAll(workspace, { question, user });
};
