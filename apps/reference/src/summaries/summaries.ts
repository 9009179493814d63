/** How a summary of a user's history comes about: from a template, or written by the language model itself. */
export type SummaryKind = 'template' | 'written';

/** What is known of users, in a paragraph each. */
export interface Summaries {
  /** The user's first `end` events; the one that is asked about is none of them. */
  of(user: number, end: number): string;
  /** The moments that there are summaries of, where there are not summaries of all. */
  readonly moments?: readonly Moment[];
}

/** A user after their first `end` events. */
export interface Moment {
  readonly user: number;
  readonly end: number;
}
