import type { HostTensor, Trainer, Weights } from '@user-llm/onnx-autograd';
import type { Decoder } from '../decoder/decoder.js';
import { AdaptationError } from '../errors.js';
import { namedKinds, rowsName } from '../items/item-tokens.js';
import { Run } from '../run.js';
import type { ExampleSource } from './examples.js';
import { Feeder } from './feeder.js';
import { jointDefinition, jointWeights, strategies, trainedBy } from './joint-model.js';
import type { JointModel, Strategy } from './joint-model.js';
import { checkLoraOptions, isLoraParameter, loraSettings, mergeLora } from './lora.js';
import type { LoraAdapter } from './lora-adapter.js';
import type { LoraOptions } from './lora.js';
import { hashExamples } from './run-identity.js';
import { train } from './train.js';
import type { TrainingTask } from './train.js';
import { isEncoderParameter, isResamplerParameter, withoutScope } from './trainable-encoder.js';
import type { TrainableEncoder } from './trainable-encoder.js';
import type { TrainingOptions, TrainingProgress, TrainingRecord } from './training-options.js';
import { checkBatchSize, checkTrainingSettings, trainingDefaults } from './training-settings.js';
import { validated } from './validation.js';

export interface AdaptOptions<History = unknown> extends TrainingOptions<History> {
  readonly strategy: Strategy;
  /** Settings of the strategy `lora`. */
  readonly lora?: LoraOptions;
}

/** What `adaptJointModel` trained. */
export interface AdaptedParts {
  /** LoRA is merged into the weights. */
  readonly decoder: Decoder;
  /** What the strategy `lora` added to them, by itself. */
  readonly lora?: LoraAdapter;
  readonly integration?: Weights;
  readonly itemRows?: HostTensor;
  readonly labelRows?: HostTensor;
  /** The encoder's own weights, by its own names. */
  readonly encoder?: Weights;
  readonly record: TrainingRecord;
}

/** Trains a joint model on examples by a strategy, loss on the answers' tokens. Begins at once; see `Run`. */
export function adaptJointModel<History>(
  model: JointModel<History>,
  source: ExampleSource<History>,
  options: AdaptOptions<History>,
): Run<TrainingProgress, AdaptedParts> {
  return new Run(async (emit) => {
    const { strategy } = options;
    if (!strategies.includes(strategy))
      throw new AdaptationError('strategy', `'${strategy}' is none of ${strategies.join(', ')}`);
    if (model.user === undefined && (strategy === 'encoder' || strategy === 'projection'))
      throw new AdaptationError(
        'strategy',
        `'${strategy}' trains what reads users, and this model reads none; use full or lora, or add user embeddings`,
      );
    checkTrainingSettings(options, {
      settings: ['strategy', 'lora', 'itemRate', 'tokensPerPart', 'recompute'],
      validation: ['examples', 'by'],
    });
    checkBatchSize(source, options);
    if (model.user === undefined && options.encoderRate !== undefined)
      throw new AdaptationError('encoderRate', 'is for an encoder, and this model reads no users; leave it out');
    if (options.lora !== undefined && strategy !== 'lora')
      throw new AdaptationError(
        'lora',
        `is for the strategy 'lora', and this one is '${strategy}'; leave it out, or train by 'lora'`,
      );
    const lora = strategy === 'lora' ? (options.lora ?? {}) : undefined;
    if (lora !== undefined) checkLoraOptions(lora, model.decoder.config);
    const feeder = new Feeder(model, options);
    const epochs = typeof source === 'function' ? undefined : feeder.epochs(source);
    if (typeof source === 'function' && options.validation) await feeder.findHistory(options.validation.examples, source);
    const validation = options.validation && feeder.validation(options.validation);
    const { encoderRate, itemRate } = { ...trainingDefaults, ...options };
    const task: TrainingTask = {
      definition: jointDefinition(model, lora, { recomputed: options.recompute ?? false }),
      weights: jointWeights(model),
      trainable: trainedBy(strategy, model),
      batch: async (step) => {
        if (typeof source !== 'function') return feeder.batch(epochs!.at(step));
        const examples = await source(step);
        if (examples === null) return null;
        await feeder.findHistory(examples, source);
        return feeder.batch(feeder.rows(examples, `step ${step}, example`));
      },
      ...(epochs === undefined ? {} : { stepsPerEpoch: epochs.stepsPerEpoch }),
      ...(validation === undefined ? {} : { validate: (trainer: Trainer) => validated(trainer, validation) }),
      ...(encoderRate === 1 && itemRate === 1 ? {} : { rateOf: ratesOf(model, encoderRate, itemRate) }),
      ...(typeof source !== 'function'
        ? { examples: () => hashExamples(source) }
        : source.identity && { source: source.identity }),
      // An encoder draws dropout masks part by part, and lets histories of one user share a window within one.
      ...(model.user && { parts: options.tokensPerPart ?? 'as fit' }),
      options: recorded(options),
    };
    const budget = options.steps ?? options.epochs ?? options.seconds;
    const { weights, record } = await train(
      task,
      budget === undefined && epochs !== undefined ? { ...options, epochs: 3 } : options,
      emit,
    );
    const parts = { ...takeApart(model, weights, task.trainable, lora), record };
    if (lora === undefined) return parts;
    const own = new Map([...weights].filter(([name]) => isLoraParameter(name)));
    return { ...parts, lora: { ...loraSettings(lora), weights: own } };
  });
}

const ratesOf =
  <History>({ user }: JointModel<History>, encoderRate: number, itemRate: number) =>
  (name: string): number => {
    if (namedKinds.some((kind) => name === rowsName(kind))) return itemRate;
    if (!isEncoderParameter(name) || isResamplerParameter(user!.encoder as TrainableEncoder<never>, name)) return 1;
    return encoderRate;
  };

function takeApart<History>(
  { decoder, user }: JointModel<History>,
  weights: Weights,
  trained: (name: string) => boolean,
  lora: LoraOptions | undefined,
): Omit<AdaptedParts, 'record'> {
  // The trainer holds everything in float32; what has not learned stays as it is stored, in its blocks and its file.
  const own = new Map([...decoder.weights].map(([name, stored]) => [name, trained(name) ? weights.get(name)! : stored]));
  const loraWeights = new Map([...weights].filter(([name]) => isLoraParameter(name)));
  const adapted = { config: decoder.config, weights: lora === undefined ? own : mergeLora(own, loraWeights, lora) };
  const [itemRows, labelRows] = [weights.get(rowsName('item')), weights.get(rowsName('label'))];
  const parts = { decoder: adapted, ...(itemRows && { itemRows }), ...(labelRows && { labelRows }) };
  if (user === undefined) return parts;
  return {
    ...parts,
    integration: new Map([...weights].filter(([name]) => user.integration.owns(name))),
    // Parts of the encoder that are not in this graph, such as its output heads, stay.
    encoder: new Map([...user.encoder.weights, ...withoutScope(weights)]),
  };
}

function recorded<History>(options: AdaptOptions<History>): Record<string, unknown> {
  const { signal: _, checkpoint: __, validation, ...rest } = options;
  return {
    ...rest,
    ...(validation === undefined
      ? {}
      : { validationExamples: validation.examples.length, validationBy: validation.by ?? 'loss' }),
  };
}
