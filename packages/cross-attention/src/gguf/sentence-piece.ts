/** What llama.cpp's `tokenizer.ggml.token_type` says of a token. */
export const tokenTypes = { normal: 1, unknown: 2, control: 3, userDefined: 4 } as const;

/** The parts of a tokenizer.json that say how text becomes tokens and tokens text; `merges` and the rest go into its `model`. */
export interface TokenizerParts {
  readonly normalizer: object | null;
  readonly words: object | null;
  readonly decoder: object;
  readonly merges: readonly (readonly [string, string])[];
  readonly model: {
    /** A word that is a token is that token, whatever the merges say. */
    readonly ignore_merges: boolean;
    readonly byte_fallback: boolean;
    readonly fuse_unk: boolean;
    readonly unk_token: string | null;
  };
}

/** SentencePiece makes pieces of 16 characters, unless told otherwise; all ways to cut a longer one would take too long to look up. */
const mostCharacters = 128;

/**
 * A SentencePiece tokenizer of the kind BPE, as Hugging Face's format has it: spaces are the character ▁, text is not cut into words, and
 * characters without a token are their bytes. SentencePiece joins the two neighbours whose piece has the highest score; that is what merges in the
 * order of scores do. `spacePrefix` puts a space before a text, as a word within one has it.
 */
export function sentencePieceParts(
  tokens: readonly string[],
  typeOf: (id: number) => unknown,
  scores: readonly number[],
  spacePrefix: boolean,
): TokenizerParts {
  const isPiece = (id: number) => (typeOf(id) ?? tokenTypes.normal) === tokenTypes.normal;
  const pieces = new Set(tokens.filter((_, id) => isPiece(id)));
  const merges: { readonly pair: readonly [string, string]; readonly score: number }[] = [];
  tokens.forEach((token, id) => {
    const characters = isPiece(id) ? Array.from(token) : [];
    if (characters.length > mostCharacters) return;
    let left = '';
    for (const character of characters.slice(0, -1)) {
      left += character;
      const right = token.slice(left.length);
      if (pieces.has(left) && pieces.has(right)) merges.push({ pair: [left, right], score: scores[id] });
    }
  });
  merges.sort((a, b) => b.score - a.score || b.pair[0].length - a.pair[0].length);
  const unknown = tokens.findIndex((_, id) => typeOf(id) === tokenTypes.unknown);
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  return {
    normalizer: spacePrefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] } : spaces,
    words: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(spacePrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    merges: merges.map(({ pair }) => pair),
    model: {
      ignore_merges: false,
      byte_fallback: true,
      fuse_unk: true,
      unk_token: unknown < 0 ? null : tokens[unknown],
    },
  };
}
