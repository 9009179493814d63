import { createHash } from 'node:crypto';
import { hashTensors } from '@user-llm/onnx-autograd';
import type { TrainingTask } from './train.js';

/** What a checkpoint remembers of the run that it belongs to, so that it does not go on as another. JSON. */
export interface RunIdentity {
  readonly options: Readonly<Record<string, unknown>>;
  /** A hash of the weights that the run starts from and trains; the trainer itself sees to the frozen ones. */
  readonly weights: string;
  /** A hash of the examples, where they are a list. */
  readonly examples?: string;
}

/** Options that say how long a run takes and how it is computed, not what a step does: they may change from one part of a run to the next. */
const free = new Set(['steps', 'epochs', 'seconds', 'threads', 'frozenWeights', 'tokensPerPart', 'recompute']);

export function identityOf({ options, weights, trainable, examples }: TrainingTask): RunIdentity {
  return {
    options: Object.fromEntries(Object.entries(options).filter(([name, value]) => !free.has(name) && value !== undefined)),
    weights: hashTensors([...weights].filter(([name]) => trainable(name))),
    ...(examples === undefined ? {} : { examples: examples() }),
  };
}

/** What makes two runs different ones, in words; undefined where they are the same. */
export function difference(before: RunIdentity, now: RunIdentity): string | undefined {
  const names = new Set([...Object.keys(before.options), ...Object.keys(now.options)]);
  for (const name of names) {
    const [was, is] = [before, now].map(({ options }) => JSON.stringify(options[name]) ?? 'not given');
    if (was !== is) return `${name} was ${was} and is now ${is}`;
  }
  if (before.examples !== now.examples) return 'the examples are others';
  if (before.weights !== now.weights) return 'the weights to start from are others';
  return undefined;
}

/** A hash of texts as token ids, in their order. */
export function hashTexts(texts: Iterable<readonly number[]>): string {
  const hash = createHash('sha256');
  for (const ids of texts) hash.update(`${ids.length};`).update(Int32Array.from(ids));
  return hash.digest('hex').slice(0, 32);
}
