const MARKER = Symbol.for('@user-llm/evaluation/error');

/** What kind of trouble an {@link EvaluationError} reports. */
export type EvaluationErrorKind = 'invalid-log' | 'invalid-option' | 'invalid-result' | 'system-failed' | 'report-write';

/** Base of this package's errors. The check survives duplicate installs: use {@link EvaluationError.isInstance}. */
export class EvaluationError extends Error {
  readonly [MARKER] = true;

  constructor(
    readonly kind: EvaluationErrorKind,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'EvaluationError';
  }

  static isInstance(error: unknown): error is EvaluationError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[MARKER] === true;
  }
}

/** The interaction log cannot be evaluated: lengths that do not fit, events out of order, nothing to test on. */
export class InvalidLogError extends EvaluationError {
  constructor(
    message: string,
    /** the field of the log that is wrong */
    readonly field: string,
    /** the user whose events are wrong, where one is */
    readonly user?: string,
  ) {
    super('invalid-log', message);
    this.name = 'InvalidLogError';
  }

  static override isInstance(error: unknown): error is InvalidLogError {
    return EvaluationError.isInstance(error) && error.kind === 'invalid-log';
  }
}

/** An option has a value that cannot be used. */
export class InvalidOptionError extends EvaluationError {
  constructor(
    readonly option: string,
    message: string,
  ) {
    super('invalid-option', `${option}: ${message}`);
    this.name = 'InvalidOptionError';
  }

  static override isInstance(error: unknown): error is InvalidOptionError {
    return EvaluationError.isInstance(error) && error.kind === 'invalid-option';
  }
}

/** A system answered with something that is not a ranking or a label. */
export class InvalidResultError extends EvaluationError {
  constructor(
    readonly system: string,
    message: string,
  ) {
    super('invalid-result', `System "${system}" ${message}`);
    this.name = 'InvalidResultError';
  }

  static override isInstance(error: unknown): error is InvalidResultError {
    return EvaluationError.isInstance(error) && error.kind === 'invalid-result';
  }
}

/** A system threw while it was fitted or asked; the original error is the `cause`. */
export class SystemFailedError extends EvaluationError {
  constructor(
    readonly system: string,
    readonly stage: 'fit' | 'rank' | 'classify',
    cause: unknown,
  ) {
    super('system-failed', `System "${system}" failed in ${stage}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
    this.name = 'SystemFailedError';
  }

  static override isInstance(error: unknown): error is SystemFailedError {
    return EvaluationError.isInstance(error) && error.kind === 'system-failed';
  }
}

/** A report file could not be written; whatever stood at that path before is untouched. */
export class ReportWriteError extends EvaluationError {
  constructor(
    readonly file: string,
    readonly code: string | undefined,
    cause: unknown,
  ) {
    const why =
      code === 'ENOSPC'
        ? 'the disk is full; free some space'
        : code === 'ENOENT'
          ? 'its folder does not exist; create it'
          : code === 'EACCES'
            ? 'permission denied; choose another folder'
            : String(cause instanceof Error ? cause.message : cause);
    super('report-write', `Cannot write ${file}: ${why} and write the report again.`, { cause });
    this.name = 'ReportWriteError';
  }

  static override isInstance(error: unknown): error is ReportWriteError {
    return EvaluationError.isInstance(error) && error.kind === 'report-write';
  }
}
