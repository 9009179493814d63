/**
 * What ranking asks of a language model: rows that grow by one token each, sharing what was computed before. `State` is the scorer's
 * own, for example the rows' key/value caches and their last logits.
 */
export interface TokenScorer<State> {
  /** Runs the prompt: a state of one row. */
  start(): Promise<State>;
  /** A state of `tokens.length` rows; row `i` continues row `parents[i]` of `state` by `tokens[i]`. A row may be continued many times. */
  step(state: State, parents: Int32Array, tokens: Int32Array): Promise<State>;
  /** What the model says about the token after each row. */
  logits(state: State): Logits;
  /** Called once for each state when it is needed no more. */
  release?(state: State): void;
}

/** Scores of the next token, `[rows, vocabulary]`; logits or log-probabilities, as they are normalised over the vocabulary here. */
export interface Logits {
  readonly data: Float32Array;
  readonly vocabulary: number;
  /** `log(sum(exp(row)))` of each row, where the model has computed it already. `[rows]` */
  readonly logNormalizers?: Float32Array;
}

/** What is thrown where a model's scores of the next token are no numbers. */
export const notFinite = (): RangeError =>
  new RangeError(
    "The model's scores of the next token are not finite: its user or its weights hold NaN or Infinity. Encode the user again, or look at the weights.",
  );

/** The logarithm of the sum of exponentials of one row: subtracted from a logit it gives the log-probability. */
export function logNormalizer({ data, vocabulary, logNormalizers }: Logits, row: number): number {
  if (logNormalizers !== undefined) return logNormalizers[row];
  const start = row * vocabulary;
  const end = start + vocabulary;
  let largest = -Infinity;
  for (let i = start; i < end; i++) if (data[i] > largest) largest = data[i];
  let sum = 0;
  for (let i = start; i < end; i++) sum += Math.exp(data[i] - largest);
  return largest + Math.log(sum);
}
