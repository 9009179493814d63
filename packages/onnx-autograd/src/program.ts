import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import type { GraphDefinition, Outputs } from './definition.js';
import { AutogradError, DisposedError, WeightError } from './errors.js';
import type { InputInfo } from './graph-builder.js';
import { asFloat32, type HostTensor } from './host-tensor.js';
import type { Weights } from './initializers.js';
import { toOnnx } from './onnx-model.js';
import { reachable } from './reachable.js';
import { bindFeeds, fromOrt, openSession, toOrt, type Feeds, type SessionOptions } from './session.js';

export interface ProgramOptions extends SessionOptions {
  readonly weights: Weights;
  /** Which outputs to compute; all by default. */
  readonly outputs?: readonly string[];
}

/** A model ready to run: the inference graph with its weights inside, one session for every shape. */
export class Program {
  private readonly running = new Set<Promise<unknown>>();
  private disposing: Promise<void> | undefined;

  private constructor(
    private readonly session: InferenceSession,
    private readonly inputs: readonly InputInfo[],
    /** All inputs of the model, also those that the chosen outputs do not read. */
    private readonly known: ReadonlySet<string>,
  ) {}

  /**
   * Builds the inference graph and opens its session.
   *
   * @throws AutogradError (no output of that name), WeightError (a weight that the outputs need is absent or of another shape), and what
   *   the model function throws: ShapeError
   */
  static async create(definition: GraphDefinition, options: ProgramOptions): Promise<Program> {
    const { builder, outputs } = definition.build({ training: false });
    const picked = pickOutputs(outputs, options.outputs ?? Object.keys(outputs));
    const { leaves } = reachable(Object.values(picked));
    const parameters = [...builder.parameters.values()].filter(({ tensor }) => leaves.has(tensor));
    checkWeights(parameters, options.weights);
    const model = toOnnx({
      outputs: picked,
      weights: new Map(parameters.map(({ name }) => [name, asFloat32(options.weights.get(name)!)])),
    });
    const used = new Set(model.inputs);
    return new Program(
      await openSession(model.bytes, options),
      [...builder.inputs.values()].filter(({ name }) => used.has(name)),
      new Set(builder.inputs.keys()),
    );
  }

  /** Runs once. The returned arrays are the caller's. @throws FeedError, DisposedError */
  async run(feeds: Feeds): Promise<Record<string, HostTensor>> {
    if (this.disposing) throw new DisposedError('program');
    bindFeeds(this.inputs, feeds, this.known);
    const tensors: Record<string, OrtTensor> = {};
    for (const { name } of this.inputs) tensors[name] = toOrt(feeds[name]);
    const run = this.session.run(tensors);
    this.running.add(run);
    try {
      return Object.fromEntries(Object.entries(await run).map(([name, tensor]) => [name, fromOrt(tensor)]));
    } finally {
      this.running.delete(run);
    }
  }

  /** Releases the session when its runs have ended. Later runs give a DisposedError. */
  async dispose(): Promise<void> {
    await (this.disposing ??= Promise.allSettled(this.running).then(() => this.session.release()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

export function pickOutputs<O extends Outputs>(outputs: O, names: readonly string[]): Outputs {
  return Object.fromEntries(
    names.map((name) => {
      const tensor = outputs[name];
      if (!tensor) throw new AutogradError(`the model has no output '${name}'; it has ${Object.keys(outputs).join(', ')}`);
      return [name, tensor];
    }),
  );
}

/** Every parameter has a weight of its shape. */
export function checkWeights(parameters: Iterable<{ name: string; shape: readonly number[] }>, weights: Weights): void {
  for (const { name, shape } of parameters) {
    const weight = weights.get(name);
    if (!weight) throw new WeightError(name, `is missing; the model needs it as [${shape.join(', ')}]`);
    if (weight.shape.length !== shape.length || weight.shape.some((size, i) => size !== shape[i]))
      throw new WeightError(name, `is [${weight.shape.join(', ')}], and the model needs [${shape.join(', ')}]`);
  }
}
