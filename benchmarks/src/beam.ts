/**
 * `npm run bench -- beam --data NAME [--llm NAME] [--users N] [--titles N] [--widths 10,25,50,100] [--seed N] [--threads N]`
 *
 * What a beam over the titles of a real catalogue loses against the exact ranking, by the width of the beam: the share of the exact top
 * ten that it finds, and the tokens that each takes after the prompt. The model is as it was given, and reads a text prompt of each user's
 * last titles; what they have met is left out. Data and model are found by their names under USER_LLM_DATA and USER_LLM_MODELS. The last line is
 * one JSON object; it is also written to benchmarks/results/.
 */
import { LanguageModel, type Ranking } from '@user-llm/cross-attention';
import { bootstrap, machineDescription } from '@user-llm/evaluation';
import { Random } from '@user-llm/onnx-autograd';
import { fitTokenizer, loadCorpus, openSource, UsageError } from '@user-llm/reference';
import { median } from './encoder/statistics.js';
import { commandOf, keepResult } from './record/results.js';
import { commandLine, named, positive } from './study/options.js';
import { runStudy } from './study/result.js';

const top = 10;
const question = 'What is next?';

const options = {
  data: { type: 'string' },
  llm: { type: 'string', default: 'SmolLM2-135M-Instruct' },
  users: { type: 'string', default: '10' },
  titles: { type: 'string', default: '10' },
  widths: { type: 'string', default: '10,25,50,100' },
  seed: { type: 'string', default: '1' },
  threads: { type: 'string' },
} as const;

/** How the searches of one kind went, user by user. */
class Searches {
  private readonly shares: number[] = [];
  private readonly tokens: number[] = [];

  add(share: number, { tokens }: Ranking): void {
    this.shares.push(share);
    this.tokens.push(tokens);
  }

  get figures() {
    return {
      topShared: this.shares.reduce((a, b) => a + b, 0) / this.shares.length,
      ci95: bootstrap(this.shares, { seed: 1 }),
      tokens: median(this.tokens),
    };
  }
}

async function main(): Promise<void> {
  const values = commandLine(options);
  if (values.data === undefined) throw new UsageError('name a data set: npm run bench -- beam --data ml-latest-small');
  const seed = positive('seed', values.seed);
  const count = positive('titles', values.titles);
  const widths = values.widths.split(',').map((width) => positive('widths', width));
  const narrow = widths.find((width) => width < top);
  if (narrow !== undefined) throw new UsageError(`--widths ${narrow} is narrower than the ${top} items that are asked for`);

  const dataset = await openSource(named('USER_LLM_DATA', values.data), seed);
  const { log, split, titles } = await loadCorpus(dataset, await fitTokenizer(dataset));
  const model = await LanguageModel.load(named('USER_LLM_MODELS', values.llm));
  const served = await model.serve(values.threads === undefined ? {} : { threads: positive('threads', values.threads) });
  const trie = model.trie(titles);
  const cases = Random.of(seed, 'beam')
    .shuffle([...split.test])
    .slice(0, positive('users', values.users));
  const exact = new Searches();
  const beams = widths.map((width) => ({ width, searches: new Searches() }));
  for (const [done, { from, to }] of cases.entries()) {
    const history = log.items.subarray(from, to);
    const prompt = [...Array.from(history.subarray(-count), (item) => titles[item]), question].join('\n');
    const request = { messages: [{ role: 'user', content: prompt }], trie, top, exclude: new Set(history) } as const;
    const best = await served.rank({ ...request, exact: true });
    exact.add(1, best);
    for (const { width, searches } of beams) {
      const found = await served.rank({ ...request, width });
      searches.add(best.items.filter((item) => found.items.includes(item)).length / best.items.length, found);
    }
    process.stderr.write(`${done + 1} of ${cases.length} users: exact ${best.tokens} tokens\n`);
  }
  await served.dispose();
  const result = {
    data: values.data,
    model: values.llm,
    seed,
    users: cases.length,
    catalogue: titles.length,
    promptTitles: count,
    exact: exact.figures,
    beams: beams.map(({ width, searches }) => ({ width, ...searches.figures })),
  };
  console.table([{ width: 'exact', ...exact.figures }, ...result.beams]);
  await keepResult(`beam-${values.data}-${values.llm}-seed${seed}`, {
    command: commandOf('beam'),
    machine: machineDescription(),
    ...result,
  });
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

runStudy(main);
