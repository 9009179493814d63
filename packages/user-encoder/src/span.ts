/** Events of one user: `start` to `end`. */
export type Span = { readonly start: number; readonly end: number };

/** The last `context` events of a history. */
export const latest = ({ start, end }: Span, context: number): Span => ({ start: Math.max(start, end - context), end });
