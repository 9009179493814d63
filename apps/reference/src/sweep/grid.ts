import type { Budget } from '../budget.js';
import type { EncoderSize } from '../encoder-shape.js';
import { UsageError } from '../errors.js';
import { mainSystem, type SystemSpec } from '../system-specs.js';

/** One place of the grid: an encoder's width D and its user tokens K, and the system that reads users so. */
export interface Cell {
  readonly size: EncoderSize;
  readonly spec: SystemSpec;
}

/** What `user-llm sweep` trains when it is told nothing. */
export const defaultGrid = { widths: '32,64,128', tokens: '1,4,16' } as const;

/** Heads, and pairs of numbers that a head turns: widths are multiples of both. */
const widthStep = 4;

/** Beyond these a table of items alone would be gigabytes, and user tokens more than a prompt. */
const largest = { widths: 4096, tokens: 1024 } as const;

/** All pairs, by width and then by tokens. @throws UsageError for a list that is none */
export function gridOf(widths: string, tokens: string): Cell[] {
  const all = sizes('widths', widths, widthStep);
  const counts = sizes('tokens', tokens, 1);
  return all.flatMap((width) =>
    counts.map((userTokens): Cell => {
      const size = { width, userTokens };
      const title = `width ${width}, ${userTokens} user token${userTokens === 1 ? '' : 's'}`;
      return { size, spec: { ...mainSystem, name: `width-${width}-tokens-${userTokens}`, title, encoder: size } };
    }),
  );
}

function sizes(option: keyof typeof defaultGrid, text: string, step: number): number[] {
  const found = text.split(',').map((part) => {
    const value = Number(part);
    if (!/^\s*\d+\s*$/.test(part) || value < 1 || value % step !== 0)
      throw new UsageError(
        `--${option} ${text}: '${part}' is no ${step > 1 ? `multiple of ${step}` : 'whole number'} above zero; give a list like ${defaultGrid[option]}`,
      );
    if (value > largest[option])
      throw new UsageError(`--${option} ${text}: '${part}' is above ${largest[option]}, the most that is taken`);
    return value;
  });
  return [...new Set(found)].sort((a, b) => a - b);
}

/** Half of a cell's minutes pretrain its encoder, half adapt the language model to it; the language model itself is made once, in as long. */
export function sweepBudget(minutesPerCell: number): Budget {
  const half = (minutesPerCell * 60) / 2;
  return { pretrain: half, adapt: half, language: half };
}
