/**
 * A model whose prompts begin without the user: the tokens of the blind prefix do not read who is asking, so that their keys and values
 * are everybody's and are computed once. Training and serving must agree on it, so it belongs to the model.
 */
export interface BlindPrefix {
  /**
   * So many tokens at the end of a prompt read the user, and the answer; those before them are blind. An example or a request that gives
   * its own `blindTokens` is taken at its word; one that does not reads the user from its first token on where this is left out.
   */
  readonly readingTokens?: number;
}

/** Why a model cannot have this blind prefix; undefined where it can. */
export function problemOfBlindPrefix({ readingTokens }: BlindPrefix): string | undefined {
  if (readingTokens === undefined || (Number.isInteger(readingTokens) && readingTokens >= 1)) return undefined;
  return `readingTokens must be a whole number of at least 1, not ${readingTokens}: the last token of a prompt has to read the user.`;
}

/** How many tokens at the beginning of a prompt of `length` tokens are blind. `own` is what the example or the request says itself. */
export function blindTokensOf(blindPrefix: BlindPrefix | undefined, length: number, own: number | undefined): number {
  if (own !== undefined) return own;
  const { readingTokens = length } = blindPrefix ?? {};
  return Math.max(0, length - readingTokens);
}

/** Why a prompt of `length` tokens cannot have `own` blind ones; undefined where it can. */
export function problemOfBlindTokens(
  blindPrefix: BlindPrefix | undefined,
  length: number,
  own: number | undefined,
): string | undefined {
  if (own === undefined || own === 0) return undefined;
  if (blindPrefix === undefined)
    return `has ${own} blind tokens, and the model reads the user from the first token on; give withUserEmbeddings a blindPrefix and adapt it so`;
  if (Number.isInteger(own) && own > 0 && own < length) return undefined;
  return `has ${own} blind tokens; of a prompt of ${length} tokens 0 to ${length - 1} can be blind`;
}
