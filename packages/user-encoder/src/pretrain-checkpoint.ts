import { createHash } from 'node:crypto';
import { access, mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Column, EventColumns } from '@user-llm/event-tokenizer';
import { readSafetensors, writeFileAtomically, writeSafetensors, type Trainer, type Weights } from '@user-llm/onnx-autograd';
import { z } from 'zod';
import { PretrainCheckpointError } from './errors.js';
import { bestOf, type ValidationPoint } from './training-record.js';
import { lossesShape, validationPointShape } from './training-shapes.js';

/** What a run knows besides the trainer's own state. */
export interface RunState {
  seconds: number;
  losses: { step: number; loss: number }[];
  validation: ValidationPoint[];
  /** The best validation so far: after which step it was, and its weights. */
  best: { readonly step: number; readonly weights: Weights } | null;
}

const format = 'user-llm pretraining state 1';
const stateShape = z.object({
  seconds: z.number(),
  losses: lossesShape,
  validation: z.array(validationPointShape),
  // Earlier releases left it out: the best of the list.
  bestStep: z.number().nullish(),
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

/**
 * Makes the folder of a checkpoint and writes into it: now, not when there is something to lose.
 *
 * @throws PretrainCheckpointError
 */
export async function tryPlace(file: string): Promise<void> {
  const trial = `${file}.trial`;
  try {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFileAtomically(trial, []);
    await rm(trial);
  } catch (error) {
    throw unwritten(file, error);
  }
}

const unwritten = (file: string, cause: unknown): PretrainCheckpointError =>
  new PretrainCheckpointError(
    file,
    `cannot be written (${(cause as Error).message}); make room or name another file in checkpoint.file`,
    { cause },
  );

/** @throws PretrainCheckpointError where it cannot be written; the one before is still there then */
export async function saveRun(file: string, trainer: Trainer, state: RunState, run: string): Promise<void> {
  const { best, ...rest } = state;
  const text = JSON.stringify({ ...rest, bestStep: best?.step ?? null });
  try {
    // This file first: one that is ahead of the trainer's is cut back when it is read, one behind could not be.
    await writeSafetensors(companion(file), best?.weights ?? new Map(), { format, run, state: text });
    await trainer.saveCheckpoint(file);
  } catch (error) {
    throw unwritten(file, error);
  }
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
  return cutBack(state, saved.tensors, trainer.steps);
}

/** What was known after so many steps: the second file is ahead of the trainer's where a crash came between the two. */
function cutBack(state: z.infer<typeof stateShape>, bestWeights: Weights, until: number): RunState {
  const bestStep = state.bestStep ?? bestOf(state.validation)?.step;
  const best = bestWeights.size > 0 && bestStep !== undefined ? { step: bestStep, weights: bestWeights } : null;
  const isLost = best !== null && best.step > until;
  return {
    seconds: state.seconds,
    losses: state.losses.filter(({ step }) => step <= until),
    // The best weights up to here were written over by later ones: the trainer's are validated again and take their place.
    validation: state.validation.filter(({ step }) => step < until || (step === until && !isLost)),
    best: isLost ? null : best,
  };
}
