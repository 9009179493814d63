import { formatShape, type Dim } from './dim.js';

const marker = (name: string): symbol => Symbol.for(`@user-llm/onnx-autograd/${name}`);

/** Base of this package's errors. `isInstance` survives two installed copies of the package. */
export class AutogradError extends Error {
  readonly [key: symbol]: boolean;
  protected static marker = marker('AutogradError');

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    let type: unknown = new.target;
    while (typeof type === 'function' && type !== Error) {
      Object.defineProperty(this, (type as unknown as { marker: symbol }).marker, { value: true });
      type = Object.getPrototypeOf(type);
    }
  }

  static isInstance<T extends AutogradError>(this: { readonly prototype: T }, error: unknown): error is T {
    const { marker: own } = this as unknown as { marker: symbol };
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[own] === true;
  }
}

/** An operand in an error: a tensor, which has a name, or a bare shape. */
export type Operand = readonly Dim[] | { readonly shape: readonly Dim[]; readonly label: string };

const isShape = (operand: Operand): operand is readonly Dim[] => Array.isArray(operand);

/** Shapes do not fit an operation. Thrown while the graph is built, never while it runs. */
export class ShapeError extends AutogradError {
  protected static override marker = marker('ShapeError');
  readonly shapes: readonly (readonly Dim[])[];
  /** The operands by name: inputs, parameters, or the nodes that make them. */
  readonly nodes: readonly string[];

  constructor(
    readonly operation: string,
    operands: readonly Operand[],
    readonly reason: string,
  ) {
    super(
      `${operation} of ${operands.map((operand) => (isShape(operand) ? formatShape(operand) : `${operand.label} ${formatShape(operand.shape)}`)).join(' and ')}: ${reason}`,
    );
    this.shapes = operands.map((operand) => (isShape(operand) ? operand : operand.shape));
    this.nodes = operands.flatMap((operand) => (isShape(operand) ? [] : [operand.label]));
  }
}

/** A feed is absent, unknown, or has a shape or element type other than the input's. */
export class FeedError extends AutogradError {
  protected static override marker = marker('FeedError');
  constructor(
    readonly input: string,
    reason: string,
  ) {
    super(`input '${input}': ${reason}`);
  }
}

/** A weight is absent, or has another shape than the graph's parameter of that name. */
export class WeightError extends AutogradError {
  protected static override marker = marker('WeightError');
  constructor(
    readonly parameter: string,
    reason: string,
  ) {
    super(`weight '${parameter}': ${reason}`);
  }
}

/** The weights and values in a model make it larger than an ONNX file can be. */
export class ModelSizeError extends AutogradError {
  protected static override marker = marker('ModelSizeError');
  constructor(
    readonly bytes: number,
    /** The most that it can have. */
    readonly most: number,
  ) {
    super(
      `the model would have ${bytes} bytes, and an ONNX file holds ${most} at most; leave weights out, give them as \`external\` values, or quantise them`,
    );
  }
}

/** The operation has no gradient, and one was asked through it. */
export class NotDifferentiableError extends AutogradError {
  protected static override marker = marker('NotDifferentiableError');
  constructor(
    readonly operation: string,
    readonly node: string,
    /** The setting of the operation that its gradient does not cover. */
    readonly setting?: string,
  ) {
    super(
      `${node}: ${operation}${setting ? ` with ${setting}` : ''} has no gradient; take it off the path to the loss, or cut it with stopGradient()`,
    );
  }
}

/** The loss, a gradient or a weight stopped being a finite number. */
export class NonFiniteLossError extends AutogradError {
  protected static override marker = marker('NonFiniteLossError');
  constructor(
    readonly step: number,
    readonly loss: number,
    /** `loss`, or `gradientNorm` where gradients are clipped, or `sum of the weights` where they are not. */
    readonly quantity = 'loss',
  ) {
    super(
      `the ${quantity} is ${loss} at step ${step}; the weights are as they were before it; lower the learning rate, clip the gradients, or look for an empty target in the batch`,
    );
  }
}

/** A checkpoint belongs to another model, or to other optimizer settings. */
export class CheckpointError extends AutogradError {
  protected static override marker = marker('CheckpointError');
  constructor(
    readonly file: string,
    reason: string,
    options?: ErrorOptions,
  ) {
    super(`checkpoint ${file}: ${reason}`, options);
  }
}

/** Something was used after its dispose(). */
export class DisposedError extends AutogradError {
  protected static override marker = marker('DisposedError');
  constructor(readonly what: string) {
    super(`this ${what} was disposed; create a new one`);
  }
}
