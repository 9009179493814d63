const marker = Symbol.for('@user-llm/cross-attention/ModelFolderError');

/** What is wrong with a model folder. */
export type ModelFolderProblem =
  | 'no-folder'
  | 'no-config'
  | 'bad-config'
  | 'unsupported'
  | 'no-weights'
  | 'bad-weights'
  | 'missing-tensor'
  | 'shape-mismatch'
  | 'tokenizer-mismatch'
  | 'damaged'
  | 'changed'
  | 'unwritable';

/** Where in the folder, and what was expected against what is there. */
export interface ModelFolderDetails {
  readonly file?: string;
  readonly tensor?: string;
  readonly expected?: readonly number[];
  readonly actual?: readonly number[];
  readonly cause?: unknown;
}

/** A model folder could not be read or written. The message says what is wrong, where, and what to do. */
export class ModelFolderError extends Error {
  readonly problem: ModelFolderProblem;
  readonly folder: string;
  /** The file at fault, by its name inside the folder. */
  readonly file?: string;
  readonly tensor?: string;
  /** Shapes, for a shape mismatch; `[vocabulary of the weights]` and `[size of the tokenizer]` for a tokenizer that does not fit. */
  readonly expected?: readonly number[];
  readonly actual?: readonly number[];
  readonly [marker] = true;

  constructor(problem: ModelFolderProblem, folder: string, message: string, details: ModelFolderDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'ModelFolderError';
    this.problem = problem;
    this.folder = folder;
    this.file = details.file;
    this.tensor = details.tensor;
    this.expected = details.expected;
    this.actual = details.actual;
  }

  static isInstance(error: unknown): error is ModelFolderError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
  }
}
