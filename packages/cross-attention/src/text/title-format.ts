import type { ChatMessage } from './text-tokenizer.js';

/**
 * How titles, histories and questions are put in words, the same for training and for asking:
 *
 * ```text
 * Next title?                      the user is read from the embedding: about five tokens with a tokenizer trained here
 *
 * History:                         the user is read from the text (or from both)
 * Jumanji (1995)                   one title a line, the latest last
 * Heat (1995)
 * Next title?
 * ```
 *
 * The question stands last, so that prompts of one user share their beginning, and the answer is a title alone.
 */
export const questions = {
  nextItem: 'Next title?',
  favouriteGenre: 'Favourite genre?',
} as const;

export type Question = keyof typeof questions;

const heading = 'History:';

export interface HistoryOptions {
  /** Titles of the user's events, oldest first. Default: none, the embedding tells of the user. */
  readonly history?: readonly string[];
  /** Only that many of the latest titles are written. Default: all of them. */
  readonly last?: number;
}

/** A question about a user as a conversation of one message, with as much of the history in words as asked for. */
export function questionMessages(question: Question, options: HistoryOptions = {}): ChatMessage[] {
  const { history = [], last = history.length } = options;
  if (!Number.isInteger(last) || last < 0) throw new RangeError(`last must be a whole number of titles, not ${last}.`);
  const lines = history.slice(Math.max(0, history.length - last)).map(titleText);
  const content = lines.length === 0 ? questions[question] : [heading, ...lines, questions[question]].join('\n');
  return [{ role: 'user', content }];
}

/** A title as it is written in prompts and answers: on one line, without space around it. */
export function titleText(title: string): string {
  return title.replace(/\s+/g, ' ').trim();
}

/** The fixed words of all prompts, `times` over: among the texts of a tokenizer's training they become tokens of their own. */
export function* promptTexts(times: number): Generator<string> {
  const text = [heading, ...Object.values(questions)].join('\n');
  for (let i = 0; i < times; i++) yield text;
}
