const marker = Symbol.for('@user-llm/cross-attention/HubError');

/** Why a model could not be had from a hub. */
export type HubProblem =
  | 'unreachable'
  | 'offline'
  | 'not-found'
  | 'unauthorized'
  | 'refused'
  | 'bad-answer'
  | 'interrupted'
  | 'damaged'
  | 'no-weights'
  | 'several-files'
  | 'unwritable'
  | 'bad-option';

export interface HubErrorDetails {
  readonly revision?: string;
  /** The file at fault, by its path inside the repository. */
  readonly file?: string;
  /** The server's HTTP status. */
  readonly status?: number;
  readonly cause?: unknown;
}

/** A model could not be fetched from a hub, or found in its cache. The message says what is wrong, where, and what to do. */
export class HubError extends Error {
  readonly problem: HubProblem;
  /** The model's name on the hub. */
  readonly model: string;
  readonly revision?: string;
  readonly file?: string;
  readonly status?: number;
  readonly [marker] = true;

  constructor(problem: HubProblem, model: string, detail: string, { revision, file, status, cause }: HubErrorDetails = {}) {
    super(`${model}${file === undefined ? '' : `, ${file}`}: ${detail}`, cause === undefined ? undefined : { cause });
    this.name = 'HubError';
    this.problem = problem;
    this.model = model;
    this.revision = revision;
    this.file = file;
    this.status = status;
  }

  static isInstance(error: unknown): error is HubError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
  }
}
