const marker = Symbol.for('@user-llm/cross-attention/GgufError');

/** What is wrong with a GGUF file. */
export type GgufProblem =
  | 'unreadable'
  | 'not-gguf'
  | 'truncated'
  | 'bad-header'
  | 'bad-tensor'
  | 'overlapping-tensors'
  | 'unknown-quantization'
  | 'unsupported'
  | 'missing-tensor'
  | 'shape-mismatch'
  | 'tokenizer'
  | 'tokenizer-mismatch'
  | 'changed';

/** Where in the file, and what was expected against what is there. */
export interface GgufDetails {
  readonly tensor?: string;
  /** The key of the metadata at fault. */
  readonly key?: string;
  readonly expected?: readonly number[];
  readonly actual?: readonly number[];
  readonly cause?: unknown;
}

/** A GGUF file could not be read as a language model. The message says what is wrong, where, and what to do. */
export class GgufError extends Error {
  readonly problem: GgufProblem;
  readonly file: string;
  readonly tensor?: string;
  readonly key?: string;
  /** Shapes (rows first), for a shape mismatch; numbers of tokens for a tokenizer that does not fit. */
  readonly expected?: readonly number[];
  readonly actual?: readonly number[];
  readonly [marker] = true;

  constructor(problem: GgufProblem, file: string, detail: string, details: GgufDetails = {}) {
    const { tensor, key, expected, actual, cause } = details;
    const where = tensor === undefined ? (key === undefined ? file : `${file}, ${key}`) : `${file}, tensor '${tensor}'`;
    super(`${where}: ${detail}`, cause === undefined ? undefined : { cause });
    this.name = 'GgufError';
    this.problem = problem;
    this.file = file;
    this.tensor = tensor;
    this.key = key;
    this.expected = expected;
    this.actual = actual;
  }

  static isInstance(error: unknown): error is GgufError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
  }
}
