import { createHash } from 'node:crypto';
import { AutogradError } from './errors.js';
import { GraphBuilder, type ParameterInfo } from './graph-builder.js';
import type { Tensor } from './tensor.js';

/** What a model function gets: the builder, with `input` and `parameter` ready to be destructured. */
export interface ModelScope {
  readonly builder: GraphBuilder;
  readonly input: GraphBuilder['input'];
  readonly parameter: GraphBuilder['parameter'];
  readonly table: GraphBuilder['table'];
  readonly constant: GraphBuilder['constant'];
  readonly scope: GraphBuilder['scope'];
  readonly training: boolean;
}

export type Outputs = Readonly<Record<string, Tensor>>;

/** A built graph with its named outputs. */
export interface BuiltGraph<O extends Outputs = Outputs> {
  readonly builder: GraphBuilder;
  readonly outputs: O;
}

/** A model: builds its graph once for training (dropout on) and once for inference. */
export class GraphDefinition<O extends Outputs = Outputs> {
  private readonly built = new Map<boolean, BuiltGraph<O>>();

  constructor(private readonly model: (scope: ModelScope) => O) {}

  build(options: { training: boolean }): BuiltGraph<O> {
    let built = this.built.get(options.training);
    if (!built) {
      built = this.fresh(options);
      this.built.set(options.training, built);
    }
    return built;
  }

  /** A graph of its own, to which more may be added without touching the shared one. */
  fresh({ training }: { training: boolean }): BuiltGraph<O> {
    const builder = GraphBuilder.create({ training });
    const outputs = this.model({
      builder,
      input: builder.input.bind(builder),
      parameter: builder.parameter.bind(builder),
      table: builder.table.bind(builder),
      constant: builder.constant.bind(builder),
      scope: builder.scope.bind(builder),
      training,
    });
    if (Object.keys(outputs).length === 0)
      throw new AutogradError('the model function returned no outputs; return an object of named tensors');
    return { builder, outputs };
  }

  get parameters(): ParameterInfo[] {
    return [...this.build({ training: false }).builder.parameters.values()];
  }

  /** A hash of the parameters' names and shapes: two definitions with the same hash can share weights. */
  get signature(): string {
    const lines = this.parameters.map(({ name, shape }) => `${name}:${shape.join('x')}`).sort();
    return createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16);
  }
}

/** Defines a model as a function on symbolic tensors; it returns its named outputs. */
export const graph = <O extends Outputs>(model: (scope: ModelScope) => O): GraphDefinition<O> => new GraphDefinition(model);
