import { afterEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { TextPieces } from '../src/serving/text-pieces.js';
import { trainByteLevelBpe } from '../src/text/byte-level-bpe.js';
import { TextTokenizer } from '../src/text/text-tokenizer.js';

const byteLevel = TextTokenizer.fromFiles(trainByteLevelBpe(['Once upon a time there was a film.'], { vocabularySize: 300 }));

/** A tokenizer that is there to decode: its tokens, and how they are joined. */
function decoderOf(tokens: readonly string[], decoder: object): TextTokenizer {
  const end = { id: 0, content: '</s>', special: true, single_word: false, lstrip: false, rstrip: false, normalized: false };
  const vocab = Object.fromEntries(['</s>', ...tokens].map((token, id) => [token, id]));
  return TextTokenizer.fromFiles({
    'tokenizer.json': {
      version: '1.0',
      added_tokens: [end],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder,
      model: { type: 'BPE', vocab, merges: [] },
    },
    'tokenizer_config.json': { eos_token: '</s>' },
  });
}

const words = ['Heat', 'and', 'Dust', '.', ',', 'n', 's', '\ufffd', '!'];
const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
const sentencePiece = [
  { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
  { type: 'ByteFallback' },
  { type: 'Fuse' },
  { type: 'Strip', content: ' ', start: 1, stop: 0 },
];
const decoders: [string, TextTokenizer][] = [
  ['of bytes', byteLevel],
  [
    'of words behind spaces, and bytes',
    decoderOf(['\u2581', ...words, ...words.map((word) => `\u2581${word}`), ...bytes], {
      type: 'Sequence',
      decoders: sentencePiece,
    }),
  ],
  [
    'of words behind spaces',
    decoderOf([...words, '\u2581', ...words.map((word) => `\u2581${word}`)], {
      type: 'Metaspace',
      replacement: '\u2581',
      add_prefix_space: true,
    }),
  ],
  [
    'of words and their parts',
    decoderOf([...words, ...words.map((word) => `##${word}`)], { type: 'WordPiece', prefix: '##', cleanup: true }),
  ],
  ['of words with an end', decoderOf([...words, ...words.map((word) => `${word}</w>`)], { type: 'BPEDecoder', suffix: '</w>' })],
];

/** The pieces token by token, those that came at the end last. */
function piecesOf(tokenizer: TextTokenizer, ids: readonly number[]): string[] {
  let piece = '';
  const pieces = new TextPieces(tokenizer, (text) => (piece += text));
  const taken = () => {
    const text = piece;
    piece = '';
    return text;
  };
  const all = ids.map((id) => {
    pieces.push(id);
    return taken();
  });
  pieces.end();
  expect(pieces.ids).toEqual(ids);
  return [...all, taken()];
}

/** What they are by definition: all tokens decoded, again and again. */
function expectedPieces(tokenizer: TextTokenizer, ids: readonly number[]): string[] {
  let written = '';
  const pieceOf = (text: string) => {
    if (!text.startsWith(written)) return '';
    const piece = text.slice(written.length);
    written = text;
    return piece;
  };
  const pieces = ids.map((_, i) => {
    const text = tokenizer.decode(ids.slice(0, i + 1));
    return text.endsWith('\ufffd') ? '' : pieceOf(text);
  });
  return [...pieces, pieceOf(tokenizer.decode(ids))];
}

afterEach(() => void jest.restoreAllMocks());

test.each([
  ['emoji of several characters', '👩‍👩‍👧 saw 🎬🏳️‍🌈'],
  ['combining marks', 'e\u0301 a\u0308\u0323 \u0915\u094d\u0937'],
  ['spaces of all kinds', ' \n\n\t  \u00a0\u3000 '],
  ['scripts of three bytes a character', '日本語のレビュー'],
  ['what stands for what is unreadable', '\ufffd\ufffda\ufffd'],
  ['signs before and behind words', "It 's , they 're . \ufeffDone !"],
])('the pieces joined are the text: %s', (_, part) => {
  const text = part.repeat(20);
  const ids = byteLevel.encode(text);
  expect(ids.length).toBeGreaterThan(100);
  const pieces = piecesOf(byteLevel, ids);
  expect(pieces.join('')).toBe(text);
  expect(pieces).toEqual(expectedPieces(byteLevel, ids));
});

describe.each(decoders)('a tokenizer %s', (_, tokenizer) => {
  test('gives the pieces that decoding all tokens each time would give, whatever they are', () => {
    const token = fc.nat(tokenizer.size - 1);
    // Some tokens come in runs, as bytes of characters do and as models repeat themselves.
    const run = fc.tuple(fc.array(token, { minLength: 1, maxLength: 4 }), fc.integer({ min: 1, max: 40 }));
    const ids = fc.array(
      fc.oneof(
        token.map((id) => [id]),
        run.map(([part, times]) => Array.from({ length: times }, () => part).flat()),
      ),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(ids, (parts) => {
        const all = parts.flat().slice(0, 200);
        expect(piecesOf(tokenizer, all)).toEqual(expectedPieces(tokenizer, all));
      }),
      { numRuns: 40 },
    );
  });
});

test.each([
  ['words', 'Once upon a time there was a film. '],
  ['emoji', '👩‍👩‍👧🎬'],
  ['characters of three bytes', '日本語'],
  ['what stands for what is unreadable', '\ufffd'],
])('a token costs the decoding of a few, in a long answer too: %s', (_, part) => {
  const ids = byteLevel.encode(part.repeat(200)).slice(0, 600);
  expect(ids).toHaveLength(600);
  const decode = jest.spyOn(byteLevel, 'decode');
  piecesOf(byteLevel, ids);
  expect(Math.max(...decode.mock.calls.map(([tokens]) => tokens.length))).toBeLessThanOrEqual(40);
});
