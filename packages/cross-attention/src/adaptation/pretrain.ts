import { checkNames } from '../check-names.js';
import type { Decoder } from '../decoder/decoder.js';
import { AdaptationError } from '../errors.js';
import type { Run } from '../run.js';
import { adaptJointModel } from './adapt.js';
import type { AdaptedParts } from './adapt.js';
import type { AdaptationExample } from './examples.js';
import type { TrainingOptions, TrainingProgress } from './training-options.js';
import { trainingNames } from './training-settings.js';

export interface PretrainOptions extends Omit<TrainingOptions, 'validation' | 'encoderRate' | 'itemRate'> {
  /** Tokens of one row. Default 128, or the context where that is shorter. */
  readonly sequenceLength?: number;
  /** Rows of one step. Default 16. */
  readonly batchSize?: number;
  /** Every n-th row is held out, and the weights with the lowest loss on those are kept. Default: none is. */
  readonly holdOut?: number;
}

const settingNames = [
  ...['sequenceLength', 'holdOut', 'tokensPerPart', 'recompute'],
  ...trainingNames.filter((name) => name !== 'encoderRate' && name !== 'validation'),
];

/**
 * Trains a decoder to predict the next token of texts, given as token ids. Texts are joined, each with the end token behind it, and cut
 * into rows of equal length, so that nothing is padding. As usual with such rows, a text that begins within one reads what stands before it there,
 * and its positions count on: only the end token tells that another text begins.
 */
export function pretrainDecoder(
  decoder: Decoder,
  texts: Iterable<readonly number[]>,
  options: PretrainOptions,
): Run<TrainingProgress, AdaptedParts> {
  checkNames(options, settingNames);
  const { sequenceLength = Math.min(128, decoder.config.contextLength - 1), batchSize = 16, holdOut, ...rest } = options;
  if (!Number.isInteger(sequenceLength) || sequenceLength < 1 || sequenceLength >= decoder.config.contextLength)
    throw new AdaptationError(
      'sequenceLength',
      `must be from 1 to ${decoder.config.contextLength - 1}, and is ${sequenceLength}`,
    );
  if (holdOut !== undefined && !(Number.isInteger(holdOut) && holdOut >= 2))
    throw new AdaptationError('holdOut', `must be a whole number of at least 2, and is ${holdOut}`);
  const rows = packTexts(texts, sequenceLength, decoder.config.endTokens[0]);
  if (rows.length === 0) throw new AdaptationError('texts', 'there are none');
  const held = holdOut === undefined ? [] : rows.filter((_, i) => i % holdOut === holdOut - 1);
  const kept = holdOut === undefined ? rows : rows.filter((_, i) => i % holdOut !== holdOut - 1);
  return adaptJointModel({ decoder }, kept, {
    ...rest,
    batchSize,
    strategy: 'full',
    ...(held.length === 0 ? {} : { validation: { examples: held } }),
  });
}

/** Texts one after the other as rows of `length` predicted tokens; each row's first token is the last one of the row before. */
function packTexts(texts: Iterable<readonly number[]>, length: number, endToken: number | undefined): AdaptationExample<never>[] {
  const rows: AdaptationExample<never>[] = [];
  let open: number[] = endToken === undefined ? [] : [endToken];
  const cut = () => {
    rows.push({ promptIds: open.slice(0, 1), answerIds: open.slice(1, length + 1) });
    open = open.slice(length);
  };
  for (const text of texts) {
    for (const id of text) open.push(id);
    if (endToken !== undefined && text.at(-1) !== endToken) open.push(endToken);
    while (open.length > length) cut();
  }
  if (open.length > 1) cut();
  return rows;
}
