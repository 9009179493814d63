import { AdaptationError, DoesNotFitError } from '../errors.js';
import type { DecoderConfig } from '../folder/decoder-config.js';

/** A user, and what a language model can read of the same user in words. */
export interface AlignmentExample<History = unknown> {
  /** What the encoder reads of the user. */
  readonly history: History;
  /** Token ids of a text about the history, such as its last titles. One text may stand for several users. */
  readonly textIds: readonly number[];
}

/** Throws an `AdaptationError` or a `DoesNotFitError` for an example that cannot be used; `where` names it. */
export function checkAlignmentExample<History>(
  { history, textIds }: AlignmentExample<History>,
  { vocabularySize, contextLength }: DecoderConfig,
  where: string,
): void {
  if (history === undefined) throw new AdaptationError(where, 'has no history; give what the encoder reads of the user');
  if (textIds.length === 0)
    throw new AdaptationError(where, 'its text is empty; leave out users of whom there is nothing to read');
  const bad = textIds.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabularySize));
  if (bad !== undefined) throw new AdaptationError(where, `token id ${bad} is outside the vocabulary of ${vocabularySize}`);
  if (textIds.length > contextLength) throw new DoesNotFitError(textIds.length, contextLength, where);
}

/** Tells texts apart. */
export const textKey = (textIds: readonly number[]): string => textIds.join(' ');
