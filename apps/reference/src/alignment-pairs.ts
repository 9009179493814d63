import type { AlignmentExample } from '@user-llm/cross-attention';
import { Random } from '@user-llm/onnx-autograd';
import type { Corpus } from './corpus.js';
import { validationMoments, type HistoryReference } from './examples.js';
import type { Prompts } from './prompts.js';

export type AlignmentPair = AlignmentExample<HistoryReference>;

/** Users with a text about them: their last titles, as a text prompt would show them. */
export class AlignmentPairs {
  constructor(
    private readonly corpus: Corpus,
    private readonly prompts: Prompts,
    private readonly seed: number,
    /** How many of the last titles a text has. */
    private readonly titles: number,
  ) {}

  /** `count` pairs to learn from, each of a moment of a user's training events; a second one of a user when all had their first. */
  training(count: number): AlignmentPair[] {
    const { train } = this.corpus;
    const random = Random.of(this.seed, 'alignment');
    const length = (user: number): number => train.offsets[user + 1] - train.offsets[user];
    const users = random.shuffle(train.users.map((_, user) => user).filter((user) => length(user) > 0));
    return readable(
      Array.from({ length: count }, (_, i) => {
        const user = users[i % users.length];
        return this.pair({ user, end: 1 + random.integer(length(user)) });
      }),
    );
  }

  /** Users before their validation items. */
  validation(count: number): AlignmentPair[] {
    return readable(validationMoments(this.corpus, this.seed, count).map((moment) => this.pair(moment)));
  }

  private pair(history: HistoryReference): AlignmentPair {
    const { log } = this.corpus;
    const end = log.offsets[history.user] + history.end;
    const shown = log.items.subarray(Math.max(log.offsets[history.user], end - this.titles), end);
    return { history, textIds: this.prompts.titlesAlone(shown) };
  }
}

/** Without those of whose events none has an item. */
const readable = (pairs: readonly AlignmentPair[]): AlignmentPair[] => pairs.filter(({ textIds }) => textIds.length > 0);
