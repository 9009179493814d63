const marker = (name: string): symbol => Symbol.for(`@user-llm/user-encoder/${name}`);

/** Base of this package's errors. `isInstance` survives two installed copies of the package. */
export class UserEncoderError extends Error {
  readonly [key: symbol]: boolean;
  protected static marker = marker('UserEncoderError');

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    let type: unknown = new.target;
    while (typeof type === 'function' && type !== Error) {
      Object.defineProperty(this, (type as unknown as { marker: symbol }).marker, { value: true });
      type = Object.getPrototypeOf(type);
    }
  }

  static isInstance<T extends UserEncoderError>(this: { readonly prototype: T }, error: unknown): error is T {
    const { marker: own } = this as unknown as { marker: symbol };
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[own] === true;
  }
}

/** An option cannot work. */
export class EncoderOptionError extends UserEncoderError {
  protected static override marker = marker('EncoderOptionError');
  constructor(
    readonly option: string,
    problem: string,
  ) {
    super(`option '${option}': ${problem}`);
  }
}

/** The events cannot train an encoder. */
export class TrainingDataError extends UserEncoderError {
  protected static override marker = marker('TrainingDataError');
  constructor(
    readonly users: number,
    readonly events: number,
    problem: string,
  ) {
    super(`${events} events of ${users} users cannot train an encoder: ${problem}`);
  }
}

/** The encoder was pretrained for something that does not score items. */
export class NoItemScoresError extends UserEncoderError {
  protected static override marker = marker('NoItemScoresError');
  constructor(readonly encoder: string) {
    super(
      `encoder ${encoder.slice(0, 12)} has no item head: contrastive pretraining alone learns embeddings, not what comes next. ` +
        'Pretrain with nextEvent, maskedEvents or dualEncoder, alone or combined with it.',
    );
  }
}

/** The encoder makes no vectors of items. */
export class NoLabelTowerError extends UserEncoderError {
  protected static override marker = marker('NoLabelTowerError');
  constructor(readonly encoder: string) {
    super(
      `encoder ${encoder.slice(0, 12)} has no label tower, so items can be scored by their id alone (scoreHistory). ` +
        'Pretrain with dualEncoder to score items by their fields.',
    );
  }
}

/** An exported encoder was used after its dispose(). */
export class EncoderDisposedError extends UserEncoderError {
  protected static override marker = marker('EncoderDisposedError');
  constructor() {
    super('this encoder was disposed; load it again');
  }
}

/** A folder does not hold a saved encoder. */
export class EncoderFormatError extends UserEncoderError {
  protected static override marker = marker('EncoderFormatError');
  constructor(
    readonly source: string,
    readonly problem: string,
    options?: ErrorOptions,
  ) {
    super(`${source} is not a saved user encoder: ${problem}. Give a folder that UserEncoder.save wrote.`, options);
  }
}

/** A saved encoder whose files are not what its hash says. */
export class EncoderHashError extends UserEncoderError {
  protected static override marker = marker('EncoderHashError');
  constructor(
    readonly source: string,
    readonly expected: string,
    readonly found: string,
  ) {
    super(
      `${source} was changed or damaged after it was saved: it says ${expected.slice(0, 12)} and holds ${found.slice(0, 12)}. ` +
        'Restore the folder, or train the encoder again.',
    );
  }
}

/** A checkpoint belongs to another run (other events, options or objective), is damaged, or cannot be written. */
export class PretrainCheckpointError extends UserEncoderError {
  protected static override marker = marker('PretrainCheckpointError');
  constructor(
    readonly file: string,
    problem: string,
    options?: ErrorOptions,
  ) {
    super(`checkpoint ${file}: ${problem}`, options);
  }
}

/** Bytes are not the state of a user, or were damaged. */
export class StateFormatError extends UserEncoderError {
  protected static override marker = marker('StateFormatError');
  constructor(readonly problem: string) {
    super(`this is no state of a user: ${problem}. Encode the user's whole history again with { state: true }.`);
  }
}

/** A state that another encoder or tokenizer made, or that is of another user or tenant than the events that are to go into it. */
export class StateMismatchError extends UserEncoderError {
  protected static override marker = marker('StateMismatchError');
  constructor(
    readonly what: 'encoder' | 'tokenizer' | 'user',
    /** Hashes; a user's is of tenant and name. */
    readonly expected: string,
    readonly found: string,
  ) {
    super(
      what === 'user'
        ? 'this state is of another user or tenant than the new events: update the embedding of their user, ' +
            'or, where its state is given alone, say the tenant that it was encoded with.'
        : `this state is of ${what} ${found.slice(0, 12)}, and goes on with ${expected.slice(0, 12)}: ` +
            `load that ${what}, or encode the user's whole history again with { state: true }.`,
    );
  }
}

/** New events that lie before the last one that a state has read. */
export class EventOrderError extends UserEncoderError {
  protected static override marker = marker('EventOrderError');
  constructor(
    /** Of the event that comes too late, Unix seconds. */
    readonly time: number,
    /** Of the event before it. */
    readonly last: number,
    /** Its place among the new events. */
    readonly index: number,
  ) {
    super(
      `new event ${index} is of ${time} and the one before it of ${last}: a state only goes forward. ` +
        `Encode the user's whole history again with { state: true }, the late event in its place.`,
    );
  }
}
