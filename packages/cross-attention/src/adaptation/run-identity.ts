import { createHash } from 'node:crypto';
import { hashTensors } from '@user-llm/onnx-autograd';
import { namedKinds, rowsName } from '../items/item-tokens.js';
import type { TrainingTask } from './train.js';
import { trainingDefaults } from './training-settings.js';

/** What a checkpoint remembers of the run that it belongs to, so that it does not go on as another. JSON. */
export interface RunIdentity {
  /** Those that say what a step does, with their defaults. */
  readonly options: Readonly<Record<string, unknown>>;
  /** A hash of the weights that the run starts from and trains; the trainer itself sees to the frozen ones. */
  readonly weights: string;
  /** A hash of the examples, where they are a list. */
  readonly examples?: string;
  /** What a function that gives the examples says of itself. Logs of older versions do not say. */
  readonly source?: string;
  /** How batches are cut into parts, where that changes numbers. Logs of older versions do not say. */
  readonly parts?: number | 'as fit';
}

/** Options that say how long a run takes and how it is computed, not what a step does: they may change from one part of a run to the next. */
const free = new Set(['steps', 'epochs', 'seconds', 'threads', 'frozenWeights', 'tokensPerPart', 'recompute']);

/** Rows of item and label tokens may be fitted before a run begins; one that goes on has them in its checkpoint, and need not fit them again. */
const areFitted = (name: string): boolean => namedKinds.some((kind) => name === rowsName(kind));

export function identityOf({ options, weights, trainable, examples, source, parts }: TrainingTask): RunIdentity {
  const given = Object.entries(options).filter(([name, value]) => !free.has(name) && value !== undefined);
  return {
    options: { ...trainingDefaults, ...Object.fromEntries(given) },
    weights: hashTensors([...weights].filter(([name]) => trainable(name) && !areFitted(name))),
    ...(examples === undefined ? {} : { examples: examples() }),
    ...(source === undefined ? {} : { source: source() }),
    ...(parts === undefined ? {} : { parts }),
  };
}

/** What makes two runs different ones, in words; undefined where they are the same. */
export function difference(before: RunIdentity, now: RunIdentity): string | undefined {
  const names = new Set([...Object.keys(before.options), ...Object.keys(now.options)]);
  for (const name of names) {
    const [was, is] = [before, now].map(({ options }) => JSON.stringify(options[name]) ?? 'not given');
    if (was !== is) return `${name} was ${was} and is now ${is}`;
  }
  if (before.parts !== undefined && before.parts !== now.parts)
    return `tokensPerPart was ${before.parts} and is now ${now.parts}, by which an encoder draws other dropout masks`;
  if (before.examples !== now.examples || (before.source !== undefined && before.source !== now.source))
    return 'the examples are others';
  if (before.weights !== now.weights) return 'the weights to start from are others';
  return undefined;
}

/** A hash of all that examples hold, in their order, but for the histories: only an encoder knows what these are. */
export function hashExamples(examples: Iterable<{ readonly history?: unknown }>): string {
  const hash = createHash('sha256');
  for (const { history: _, ...said } of examples) hash.update(JSON.stringify(said, plain)).update('\n');
  return hash.digest('hex').slice(0, 32);
}

/** Typed arrays and sets as lists. What can be gone through once alone would be gone. */
const plain = (_: string, value: unknown): unknown =>
  ArrayBuffer.isView(value) || value instanceof Set || value instanceof Map
    ? Array.from(value as unknown as Iterable<unknown>)
    : value;
