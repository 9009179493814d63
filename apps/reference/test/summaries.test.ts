import { appendFile, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { PrefixTrie, TextTokenizer, trainByteLevelBpe } from '@user-llm/cross-attention';
import { fitTokenizer, loadCorpus, openSource, type Corpus } from '../src/corpus.js';
import { ExampleSource } from '../src/examples.js';
import { nextQuestions, Prompts } from '../src/prompts.js';
import { templateSummaries } from '../src/summaries/template-summary.js';
import { WrittenSummaries } from '../src/summaries/written-summaries.js';

/** One user who watched these films in this order, and nine who watched others. */
async function films(): Promise<Corpus> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'films-'));
  const watched = ['1', '2', '1', '3', '1', '4'];
  const rows = watched.map((film, i) => `1,${film},${[5, 4, 5, 2, 5, 1][i]},${1000 + i}`);
  for (let user = 2; user <= 10; user++) for (let i = 0; i < 4; i++) rows.push(`${user},${1 + i},3,${2000 + i}`);
  await writeFile(path.join(folder, 'ratings.csv'), `userId,movieId,rating,timestamp\n${rows.join('\n')}\n`);
  const titles = ['1,Alien (1979),Horror|Sci-Fi', '2,Heat (1995),Crime', '3,Big (1988),Comedy', '4,Them (2006),Horror'];
  await writeFile(path.join(folder, 'movies.csv'), `movieId,title,genres\n${titles.join('\n')}\n`);
  const dataset = await openSource(folder, 1);
  return loadCorpus(dataset, await fitTokenizer(dataset));
}

let corpus: Corpus;
let user: number;
beforeAll(async () => {
  corpus = await films();
  user = corpus.log.users.indexOf('1');
});

describe('a summary by the template', () => {
  it('tells of genres with their shares, what was repeated, the mean rating and the last titles, oldest first', () => {
    expect(templateSummaries(corpus).of(user, 5)).toBe(
      '5 events. Likes Horror 60 %, Sci-Fi 60 %, Crime 20 %, Comedy 20 %. Most often: Alien (1979) (3 times). Mean rating 4.2. Last: Alien (1979); Heat (1995); Alien (1979); Big (1988); Alien (1979).',
    );
  });

  it('knows no more than the events before the one that is asked about', () => {
    const summaries = templateSummaries(corpus);
    expect(summaries.of(user, 1)).toBe('1 event. Likes Horror 100 %, Sci-Fi 100 %. Mean rating 5.0. Last: Alien (1979).');
    // The sixth event is the test item: a film and a rating that stand in no summary of what was before.
    for (let end = 1; end <= 5; end++) expect(summaries.of(user, end)).not.toContain('Them');
  });

  it('stands before the question in every training prompt, as the history was at that moment', () => {
    const tokenizer = TextTokenizer.fromFiles(trainByteLevelBpe([...corpus.titles, ...nextQuestions], { vocabularySize: 400 }));
    const trie = PrefixTrie.build(
      corpus.titles.map((title) => tokenizer.encode(title)),
      tokenizer.eos,
    );
    const prompts = new Prompts(tokenizer, corpus.titles);
    const reading = { embedding: false, titles: 0, summary: 'template' } as const;
    const summaries = templateSummaries(corpus);
    const source = new ExampleSource(corpus, prompts, reading, 1, trie, 'item-tokens', summaries);
    const possible = corpus.log.users.flatMap((_, who) => [1, 2, 3].map((end) => summaries.of(who, end)));
    for (const { promptIds } of source.batch(1, { users: 8, moments: 1, reach: 100 })) {
      const [summary, question] = tokenizer.decode(promptIds).split('\n');
      expect(possible).toContain(summary);
      expect(question.endsWith('?') || question.endsWith('.')).toBe(true);
    }
  });
});

describe('summaries that a model wrote', () => {
  const file = async (): Promise<string> => path.join(await mkdtemp(path.join(os.tmpdir(), 'summaries-')), 'written.jsonl');

  it('are found again, and a line that was cut off is written anew', async () => {
    const place = await file();
    const first = await WrittenSummaries.open(place);
    await first.add({ user: 3, end: 7 }, 'Likes "westerns".');
    await appendFile(place, '{"user":4,"end":9,"te');
    const second = await WrittenSummaries.open(place);
    expect(second.of(3, 7)).toBe('Likes "westerns".');
    expect(second.has({ user: 4, end: 9 })).toBe(false);
    await second.add({ user: 4, end: 9 }, 'Likes horror.');
    const third = await WrittenSummaries.open(place);
    expect([third.of(3, 7), third.of(4, 9)]).toEqual(['Likes "westerns".', 'Likes horror.']);
    expect((await readFile(place, 'utf8')).trimEnd().split('\n')).toHaveLength(3);
  });

  it('are of a moment: of another one there is none', async () => {
    const summaries = await WrittenSummaries.open(await file());
    await summaries.add({ user: 0, end: 2 }, 'Likes comedies.');
    expect(() => summaries.of(0, 3)).toThrow('no written summary of user 0 after 3 events');
  });

  it('are trained on at the moments that they were written of', async () => {
    const place = await file();
    const moments = [
      { user, end: 2 },
      { user, end: 3 },
    ];
    const summaries = await WrittenSummaries.open(place, moments);
    for (const moment of moments) await summaries.add(moment, `After ${moment.end}.`);
    const tokenizer = TextTokenizer.fromFiles(trainByteLevelBpe([...corpus.titles, ...nextQuestions], { vocabularySize: 400 }));
    const trie = PrefixTrie.build(
      corpus.titles.map((title) => tokenizer.encode(title)),
      tokenizer.eos,
    );
    const reading = { embedding: false, titles: 0, summary: 'written' } as const;
    const prompts = new Prompts(tokenizer, corpus.titles);
    const source = new ExampleSource(corpus, prompts, reading, 1, trie, 'item-tokens', summaries);
    const asked = source.batch(1, { users: 12, moments: 1, reach: 100 }).filter(({ item }) => item !== undefined);
    for (const { promptIds, item } of asked) {
      const after = Number(/After (\d)\./.exec(tokenizer.decode(promptIds))![1]);
      expect(item).toBe(corpus.log.items[corpus.log.offsets[user] + after]);
    }
    expect(new Set(asked.map(({ item }) => item)).size).toBe(2);
  });
});
