import { createHash } from 'node:crypto';
import { access } from 'node:fs/promises';
import type { Column, EventColumns } from '@user-llm/event-tokenizer';
import { readSafetensors, writeSafetensors, type Trainer, type Weights } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { PretrainCheckpointError } from './errors.js';
import type { ValidationPoint } from './training-record.js';
import { lossesShape, validationPointShape } from './training-shapes.js';

/** What a run knows besides the trainer's own state. */
export interface RunState {
  seconds: number;
  losses: { step: number; loss: number }[];
  validation: ValidationPoint[];
  /** Weights of the best validation so far. */
  best: Weights | null;
}

const format = 'user-llm pretraining state 1';
const stateShape = z.object({
  seconds: z.number(),
  losses: lossesShape,
  validation: z.array(validationPointShape),
});

/** Names what a run trains and on what, so that a checkpoint is never continued with something else. */
export function fingerprint(events: EventColumns, settings: unknown): string {
  const hash = createHash('sha256').update(JSON.stringify(settings)).update(events.tokenizer);
  const add = (data: Int32Array | Float32Array | Float64Array): void =>
    void hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  add(events.offsets);
  add(events.times);
  for (const name of Object.keys(events.fields).sort()) for (const data of arraysOf(events.fields[name])) add(data);
  return hash.digest('hex');
}

/** All that a column holds. */
function arraysOf(column: Column): readonly (Int32Array | Float32Array)[] {
  switch (column.kind) {
    case 'time':
      return [column.gap, column.hour, column.weekday];
    case 'text':
      return [column.vectors];
    case 'categories':
      return [column.offsets, column.ids];
    case 'number':
      return [column.ids, column.values];
    default:
      return [column.ids];
  }
}

/** The run's own file, beside the trainer's. */
const companion = (file: string): string => `${file}.run`;

export async function saveRun(file: string, trainer: Trainer, state: RunState, run: string): Promise<void> {
  const { best, ...rest } = state;
  // This file first: one that is ahead of the trainer's is cut back when it is read, one behind could not be.
  await writeSafetensors(companion(file), best ?? new Map(), { format, run, state: JSON.stringify(rest) });
  await trainer.saveCheckpoint(file);
}

/** Brings the trainer to where the checkpoint left off; undefined when there is none. */
export async function resumeRun(file: string, trainer: Trainer, run: string): Promise<RunState | undefined> {
  const exists = await access(file).then(
    () => true,
    () => false,
  );
  if (!exists) return undefined;
  const again = 'remove it, or name another file, to start anew';
  let saved;
  try {
    saved = await readSafetensors(companion(file));
  } catch (error) {
    throw new PretrainCheckpointError(file, `its second file ${companion(file)} cannot be read; ${again}`, { cause: error });
  }
  if (saved.metadata.format !== format) throw new PretrainCheckpointError(file, `is not a checkpoint of pretraining; ${again}`);
  if (saved.metadata.run !== run)
    throw new PretrainCheckpointError(file, `was made with other events, options or an other encoder; ${again}`);
  const state = stateShape.parse(JSON.parse(saved.metadata.state));
  await trainer.resume(file);
  const until = trainer.steps;
  return {
    seconds: state.seconds,
    losses: state.losses.filter(({ step }) => step <= until),
    validation: state.validation.filter(({ step }) => step <= until),
    best: saved.tensors.size > 0 ? saved.tensors : null,
  };
}
