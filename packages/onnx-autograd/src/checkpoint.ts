import { createHash } from 'node:crypto';
import { CheckpointError } from './errors.js';
import type { HostTensor } from './host-tensor.js';
import { readSafetensors, writeSafetensors } from './safetensors.js';

/** Everything a training run needs to go on. */
export interface TrainingState {
  readonly step: number;
  readonly seed: number;
  /** The optimizer's name and settings. */
  readonly optimizer: string;
  /** A hash of the weights that do not learn: with others, the same model would be another. Empty without any. */
  readonly frozen: string;
  /** Weights that learn, and the optimizer's memory of them. */
  readonly tensors: ReadonlyMap<string, HostTensor>;
}

const format = 'user-llm training checkpoint 1';

/** A hash over names and values, in the order of the names; empty for no tensors. */
export function hashTensors(tensors: Iterable<readonly [string, HostTensor]>): string {
  const hash = createHash('sha256');
  let count = 0;
  for (const [name, { data }] of [...tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${name}:${data.length};`).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    count++;
  }
  return count === 0 ? '' : hash.digest('hex').slice(0, 32);
}

/** Writes a checkpoint atomically: a crash leaves the one before. */
export async function saveCheckpoint(file: string, state: TrainingState): Promise<void> {
  await writeSafetensors(file, new Map(state.tensors), {
    format,
    step: String(state.step),
    seed: String(state.seed),
    optimizer: state.optimizer,
    frozen: state.frozen,
  });
}

/** Reads a checkpoint and refuses one of another model, optimizer or seed. */
export async function loadCheckpoint(file: string, expected: TrainingState): Promise<TrainingState> {
  const { tensors, metadata } = await readSafetensors(file);
  if (metadata?.format !== format)
    throw new CheckpointError(file, 'is no training checkpoint; give the file that a trainer wrote');
  if (metadata.optimizer !== expected.optimizer)
    throw new CheckpointError(
      file,
      `was made by ${metadata.optimizer}, and this run uses ${expected.optimizer}; use the same settings or start anew`,
    );
  if (metadata.seed !== String(expected.seed))
    throw new CheckpointError(file, `was made with seed ${metadata.seed}, and this run has ${expected.seed}`);
  for (const [name, { shape }] of expected.tensors) {
    const found = tensors.get(name);
    if (!found) throw new CheckpointError(file, `has no '${name}'; it belongs to another model`);
    if (found.shape.join() !== shape.join())
      throw new CheckpointError(file, `'${name}' is [${found.shape.join(', ')}], and this model has [${shape.join(', ')}]`);
  }
  if (tensors.size !== expected.tensors.size)
    throw new CheckpointError(
      file,
      `has ${tensors.size} tensors, and this model has ${expected.tensors.size}; it belongs to another model`,
    );
  if (metadata.frozen !== expected.frozen)
    throw new CheckpointError(file, 'was made with other frozen weights; start from the same ones');
  return { ...expected, step: Number(metadata.step), tensors };
}
