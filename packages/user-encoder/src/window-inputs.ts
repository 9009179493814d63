/** Names of the inputs that describe windows beside the fields of their events. */

/** int32 [U]: how many places of each window hold an event. */
export const lengthsInput = 'lengths';

export const blocksInput = 'blocks';

/** Input of the times between events of the rows whose inputs have this prefix (without its dot). */
export const gapsInput = (prefix: string): string => `gaps.${prefix}`;

/** Inputs of the cosines and sines by which those rows' events are turned. */
export const turnsInputs = (prefix: string): { cosine: string; sine: string } => ({
  cosine: `turns.${prefix}.cosine`,
  sine: `turns.${prefix}.sine`,
});

/**
 * How a band is computed; the numbers are the same. `mask`: all pairs of the T events, those outside masked. `blocks`: T is a
 * multiple of W, and a block of W events sees its own and the one before, so that the work grows with T alone.
 */
export type AttentionForm = 'mask' | 'blocks';
