const markerOf = (name: string) => Symbol.for(`@user-llm/cross-attention/${name}`);

const has = (error: unknown, marker: symbol): boolean =>
  typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;

const doesNotFit = markerOf('DoesNotFitError');

/** A prompt with its answer is longer than the model's context. Report it as 'does not fit'. */
export class DoesNotFitError extends Error {
  readonly [doesNotFit] = true;

  constructor(
    /** Tokens that were asked for, the answer's included. */
    readonly tokens: number,
    /** Most tokens that the model can read. */
    readonly context: number,
    what = 'The prompt and its answer',
  ) {
    super(
      `${what}: ${tokens} tokens do not fit into the model's context of ${context}. Shorten the prompt, or use a model with a longer context.`,
    );
    this.name = 'DoesNotFitError';
  }

  static isInstance(error: unknown): error is DoesNotFitError {
    return has(error, doesNotFit);
  }
}

const encoderMismatch = markerOf('EncoderMismatchError');

/** A user embedding was made by other encoder weights, or has another shape, than the model was adapted to. */
export class EncoderMismatchError extends Error {
  readonly [encoderMismatch] = true;

  constructor(
    /** Hash of the encoder, or the shape, that the model reads. */
    readonly expected: string,
    readonly actual: string,
    message = `The embedding was made by encoder ${actual}, but the model reads those of encoder ${expected}. Encode the user again with the encoder that the adaptation gave back.`,
  ) {
    super(message);
    this.name = 'EncoderMismatchError';
  }

  static isInstance(error: unknown): error is EncoderMismatchError {
    return has(error, encoderMismatch);
  }
}

const prefix = markerOf('PrefixError');

/** A prefix, or the blind part of a prompt, does not go with the request's prompt or its model. */
export class PrefixError extends Error {
  readonly [prefix] = true;

  constructor(
    /** What is wrong with it, and what to do. */
    readonly reason: string,
  ) {
    super(`The prefix ${reason}`);
    this.name = 'PrefixError';
  }

  static isInstance(error: unknown): error is PrefixError {
    return has(error, prefix);
  }
}

const modelWorker = markerOf('ModelWorkerError');

/** A worker thread that held a model has ended by itself; what was under way in it is lost. */
export class ModelWorkerError extends Error {
  readonly [modelWorker] = true;

  constructor(
    /** How it ended. */
    readonly reason: string,
    cause?: unknown,
  ) {
    super(
      `The model's worker thread failed: ${reason}. Open the model again; if it was killed for memory, open fewer workers.`,
      cause === undefined ? undefined : { cause },
    );
    this.name = 'ModelWorkerError';
  }

  static isInstance(error: unknown): error is ModelWorkerError {
    return has(error, modelWorker);
  }
}

const adaptation = markerOf('AdaptationError');

/** An adaptation cannot be run as it was asked for; the message says which option or example is wrong. */
export class AdaptationError extends Error {
  readonly [adaptation] = true;

  constructor(
    /** The option, or the example's position, at fault. */
    readonly where: string,
    reason: string,
  ) {
    super(`${where}: ${reason}`);
    this.name = 'AdaptationError';
  }

  static isInstance(error: unknown): error is AdaptationError {
    return has(error, adaptation);
  }
}
