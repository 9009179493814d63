import type { TextTokenizer } from '@user-llm/cross-attention';

/** Ways to ask for the next item; a model adapted on all of them understands any. The first one is the one that is evaluated. */
export const nextQuestions: readonly string[] = [
  'What is next?',
  'What should I watch tonight?',
  'What would I like?',
  'Recommend something.',
  'Which one should I pick?',
  'Any idea for me?',
];

/** The question of the favourite-genre task. */
export const genreQuestion = 'Which genre do I like best?';

/** What a model is asked to write a user's summary, behind their last titles. */
export const summaryQuestion = 'Describe in two sentences what the person who chose these likes.';

/** Puts questions and histories into words, as token ids. */
export class Prompts {
  private readonly cache = new Map<string, number[]>();

  constructor(
    private readonly tokenizer: TextTokenizer,
    private readonly titles: readonly string[],
  ) {}

  /** A question alone: the user comes in by the embedding. */
  question(question: string): number[] {
    let ids = this.cache.get(question);
    if (!ids) {
      ids = this.tokenizer.chat([{ role: 'user', content: question }]);
      this.cache.set(question, ids);
    }
    return ids;
  }

  /** A question after the user's last titles, oldest first. */
  withHistory(history: ArrayLike<number>, question: string): number[] {
    return this.tokenizer.chat([{ role: 'user', content: this.historyText(history, question) }]);
  }

  /** The same with as many of the last titles as `most` tokens hold; where they hold none, the question alone. */
  withWhatFits(history: Int32Array, question: string, most: number): number[] {
    for (let from = 0; from < history.length; from++) {
      const ids = this.withHistory(history.subarray(from), question);
      if (ids.length <= most) return ids;
    }
    return this.question(question);
  }

  /** The last titles by themselves, oldest first. */
  titlesAlone(history: ArrayLike<number>): number[] {
    return this.tokenizer.encode(this.historyText(history, ''));
  }

  /** A question after a text about the user. */
  withText(text: string, question: string): number[] {
    return this.tokenizer.chat([{ role: 'user', content: `${text}\n${question}` }]);
  }

  /**
   * Places in a prompt with a history of the tokens that end its titles, one for each: what comes behind the i-th of them is the next
   * title, or the question. `titles` is how many the prompt holds.
   */
  titleEnds(promptIds: readonly number[], question: string, titles: number): number[] {
    const plain = this.question(question);
    const parting = plain.findIndex((id, i) => id !== promptIds[i]);
    const before = plain.slice(0, Math.max(0, parting)).filter((id) => this.endsLine(id)).length;
    const ends: number[] = [];
    promptIds.forEach((id, place) => this.endsLine(id) && ends.push(place));
    return ends.slice(before, before + titles);
  }

  private endsLine(id: number): boolean {
    let ends = this.lineEnds.get(id);
    if (ends === undefined) this.lineEnds.set(id, (ends = this.tokenizer.decode([id]).includes('\n')));
    return ends;
  }
  private readonly lineEnds = new Map<number, boolean>();

  historyText(history: ArrayLike<number>, question: string): string {
    const titles: string[] = [];
    for (let i = 0; i < history.length; i++) if (history[i] >= 0) titles.push(this.titles[history[i]].replace(/\s+/g, ' '));
    return titles.length === 0 ? question : `${titles.join('\n')}\n${question}`;
  }

  /** An answer: the words and the token that ends them. */
  answer(text: string): number[] {
    const key = `answer ${text}`;
    let ids = this.cache.get(key);
    if (!ids) {
      ids = [...this.tokenizer.encode(text), this.tokenizer.eos];
      this.cache.set(key, ids);
    }
    return ids;
  }
}
