import { Run } from '../run.js';
import type { TextTokenizer } from '../text/text-tokenizer.js';

/** What a request cost, in tokens and in floating-point operations of its matrix products. */
export interface Usage {
  readonly promptTokens: number;
  readonly answerTokens: number;
  readonly flops: number;
}

/** Wall-clock of a request. */
export interface Timings {
  /** The user's keys and values, 0 where they were there already. */
  readonly userMs: number;
  /** From the request to the first token, the user included. */
  readonly firstTokenMs: number;
  readonly totalMs: number;
}

/** An answer that is being made. Everything rejects with the signal's reason when it was stopped. */
export interface Generation {
  /** Pieces of the text as they come; iterating late gives all of them. */
  readonly textStream: AsyncIterable<string>;
  readonly text: Promise<string>;
  readonly tokenIds: Promise<readonly number[]>;
  readonly usage: Promise<Usage>;
  readonly timings: Promise<Timings>;
}

/** What an answer came to. */
export interface Answer {
  readonly ids: readonly number[];
  readonly text: string;
  readonly usage: Usage;
  readonly timings: Timings;
}

/** An answer that is made by `work`, which emits its text piece by piece; of a model that came without a `tokenizer` the text is that one's error. */
export function generationOf(work: (emit: (piece: string) => void) => Promise<Answer>, tokenizer?: TextTokenizer): Generation {
  const run = new Run(work);
  // Not everybody asks for everything: what is not awaited must not crash the process.
  const of = <T>(pick: (answer: Answer) => T): Promise<T> => {
    const promise = run.result.then(pick);
    promise.catch(() => undefined);
    return promise;
  };
  const inWords = <T>(what: T): T => {
    tokenizer?.assertPresent();
    return what;
  };
  return {
    textStream: { [Symbol.asyncIterator]: () => inWords(run)[Symbol.asyncIterator]() },
    text: of(({ text }) => inWords(text)),
    tokenIds: of(({ ids }) => ids),
    usage: of(({ usage }) => usage),
    timings: of(({ timings }) => timings),
  };
}
