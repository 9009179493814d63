import { titleDistributions, type PrefixTrie, type ScoredExample } from '@user-llm/cross-attention';
import { FIRST_VALUE_ID, type EventColumns } from '@user-llm/event-tokenizer';
import { Random } from '@user-llm/onnx-autograd';
import type { UserEncoder } from '@user-llm/user-encoder';
import { answerWeights, type Example, type HistoryReference } from './examples.js';
import type { Prompts } from './prompts.js';

/** How much of the distribution to learn is what really came next; the rest is the encoder's prediction. */
const truthShare = 0.2;

/**
 * The pretrained encoder's item head as the teacher of a model that reads its embeddings (knowledge distillation: Hinton et al., arXiv
 * 1503.02531). The encoder has learned from every event of the log what the language model could only learn title by title; from its
 * whole prediction, as a distribution over the tokens of titles, the model learns in minutes what the titles alone teach in hours.
 */
export class Teacher {
  constructor(
    private readonly encoder: UserEncoder,
    private readonly events: EventColumns,
    private readonly prompts: Prompts,
    private readonly titles: readonly string[],
    private readonly trie: PrefixTrie,
    private readonly seed: number,
  ) {}

  /** `batches` batches of examples that ask a user's next item, each with what the teacher thinks of every item. */
  async *scored(batch: (step: number) => readonly Example[], batches: number): AsyncGenerator<ScoredExample<HistoryReference>[]> {
    for (let step = 1; step <= batches; step++) {
      const asked = batch(step).filter(isTaught);
      if (asked.length === 0) continue;
      // Raw: scores that are linear in a state, those of what the user has taken too, are what a row can be fitted to.
      const scores = await this.scores(asked, { raw: true });
      yield asked.map(({ history, promptIds }, i) => ({ history, promptIds, scores: scores[i] }));
    }
  }

  /** A logit for every item, `[items]`, after each example's history. */
  private async scores(asked: readonly Taught[], options?: { readonly raw: boolean }): Promise<Float32Array[]> {
    const histories = asked.map(({ history }) => history);
    const scores = await this.encoder.scoreMoments(this.events, histories, options);
    return scores.map((row) => row.subarray(FIRST_VALUE_ID));
  }

  /** The examples of a step, those that ask a user's next item with a title drawn from what the teacher expects, and its distribution. */
  async teach(examples: readonly Example[], step: number): Promise<Example[]> {
    const random = Random.of(this.seed, 'teacher', step);
    const asked = examples.filter(isTaught);
    if (asked.length === 0) return [...examples];
    const scores = await this.scores(asked);
    let next = 0;
    return examples.map((example) => {
      if (!isTaught(example)) return example;
      const probabilities = softmax(scores[next++], example.items?.at(-1)?.excluded);
      for (let item = 0; item < probabilities.length; item++) probabilities[item] *= 1 - truthShare;
      probabilities[example.item] += truthShare;
      const items = example.items && [...example.items.slice(0, -1), { ...example.items.at(-1)!, probabilities }];
      if (example.answerIds.length === 0) return { ...example, items };
      const answerIds = this.prompts.answer(this.titles[draw(probabilities, random)]);
      return {
        ...example,
        items,
        answerIds,
        answerWeights: answerWeights(this.trie, answerIds),
        answerDistributions: titleDistributions(this.trie, answerIds, probabilities),
      };
    });
  }
}

type Taught = Example & Required<Pick<Example, 'history' | 'item'>>;

const isTaught = (example: Example): example is Taught => example.history !== undefined && example.item !== undefined;

function softmax(scores: Float32Array, excluded: Iterable<number> = []): Float32Array {
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const exponentials = scores.map((score) => Math.exp(score - most));
  for (const item of excluded) exponentials[item] = 0;
  const total = exponentials.reduce((a, b) => a + b, 0);
  return exponentials.map((value) => value / total);
}

function draw(probabilities: Float32Array, random: Random): number {
  let left = random.next();
  for (let item = 0; item < probabilities.length; item++) if ((left -= probabilities[item]) < 0) return item;
  return probabilities.length - 1;
}
