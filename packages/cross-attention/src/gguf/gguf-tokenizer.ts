import type { TokenizerFiles } from '../text/byte-level-bpe.js';
import { TextTokenizer } from '../text/text-tokenizer.js';
import { GgufError } from './gguf-error.js';
import type { GgufHeader } from './gguf-header.js';
import { sentencePieceParts, tokenTypes } from './sentence-piece.js';
import type { TokenizerParts } from './sentence-piece.js';

// How each kind of byte-level tokenizer cuts text into words before it merges, by llama.cpp's name for it.
const gpt2Words = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const singleDigits = { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, gpt2Words] };
const byPattern = (pattern: string) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    { ...gpt2Words, use_regex: false },
  ],
});
const contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const wordsWithDigits = (digits: string) =>
  byPattern(
    `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
  );
const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const beforeWord = '[^\\r\\n\\p{L}\\p{N}]?';
const wordsByCase = byPattern(
  `${beforeWord}${upper}*${lower}+|${beforeWord}${upper}+${lower}*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
);
const llama3 = { words: wordsWithDigits('\\p{N}{1,3}'), ignoreMerges: true, begins: true };
const qwen2 = { words: wordsWithDigits('\\p{N}'), normalizer: { type: 'NFC' } };

interface Kind {
  readonly words: object;
  readonly normalizer?: object;
  /** A word that is a token is that token, whatever the merges say. */
  readonly ignoreMerges?: boolean;
  /** Texts begin with a token of their own unless the file says otherwise. */
  readonly begins?: boolean;
}

const kinds: Readonly<Record<string, Kind>> = {
  'gpt-2': { words: gpt2Words },
  default: { words: gpt2Words },
  smollm: { words: singleDigits },
  starcoder: { words: singleDigits },
  refact: { words: singleDigits },
  'llama-bpe': llama3,
  'llama-v3': llama3,
  llama3,
  qwen2,
  'deepseek-r1-qwen': qwen2,
  tekken: { words: wordsByCase, ignoreMerges: true, begins: true },
};

const models = { byteLevel: 'gpt2', sentencePiece: 'llama' };

/**
 * The tokenizer and chat template that a GGUF file carries in its metadata, in Hugging Face's file format. Byte-level BPE and SentencePiece's
 * BPE are read; one of another kind is absent, and says why. Throws a `GgufError` for one that is not whole.
 */
export function ggufTokenizer(header: GgufHeader): TextTokenizer {
  const { file, metadata } = header;
  const key = (name: string) => `tokenizer.ggml.${name}`;
  const refuse = (name: string, detail: string) =>
    new GgufError('tokenizer', file, `${detail} Put the model's tokenizer.json and tokenizer_config.json beside the file.`, {
      key: key(name),
    });
  const list = (entry: string, type: 'string' | 'number'): readonly unknown[] => {
    const value: unknown = metadata.get(key(entry));
    if (Array.isArray(value) && value.every((each) => typeof each === type)) return value;
    throw refuse(entry, `is not a list of ${type}s.`);
  };
  const model = metadata.get(key('model'));
  const pre = String(metadata.get(key('pre')) ?? 'default');
  const kind = Object.hasOwn(kinds, pre) ? kinds[pre] : undefined;
  const isSentencePiece = model === models.sentencePiece;
  if (!isSentencePiece && model !== models.byteLevel)
    return TextTokenizer.absent(
      file,
      `carries a tokenizer of the kind '${String(model)}', and byte-level BPE ('gpt2') and SentencePiece ('llama') are read`,
    );
  if (!isSentencePiece && kind === undefined)
    return TextTokenizer.absent(file, `cuts words as '${pre}' does it, and known are ${Object.keys(kinds).join(', ')}`);

  const tokens = list('tokens', 'string') as readonly string[];
  const types = metadata.get(key('token_type'));
  const typeOf = (id: number): unknown => (Array.isArray(types) ? (types as unknown[])[id] : undefined);
  const flag = (entry: string, otherwise: boolean) => (metadata.get(key(entry)) ?? otherwise) === true;
  const pairs = (): (readonly [string, string])[] =>
    (list('merges', 'string') as readonly string[]).map((merge) => {
      const space = merge.indexOf(' ', 1);
      if (space < 0) throw refuse('merges', `${JSON.stringify(merge)} is not a pair of tokens.`);
      return [merge.slice(0, space), merge.slice(space + 1)];
    });
  const scores = (): readonly number[] => {
    const numbers = list('scores', 'number') as readonly number[];
    if (numbers.length === tokens.length) return numbers;
    throw refuse('scores', `holds ${numbers.length} numbers for ${tokens.length} tokens.`);
  };
  const parts = isSentencePiece
    ? sentencePieceParts(tokens, typeOf, scores(), flag('add_space_prefix', true))
    : byteLevelParts(kind!, pairs());

  const added = tokens.flatMap((content, id) => {
    const type = typeOf(id);
    const special = type === tokenTypes.control || type === tokenTypes.unknown;
    if (!special && type !== tokenTypes.userDefined) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
  const token = (entry: string) => {
    const id = metadata.get(key(entry));
    return typeof id === 'number' ? tokens.at(id) : undefined;
  };
  const begin = token('bos_token_id');
  const end = token('eos_token_id');
  if (end === undefined) return TextTokenizer.absent(file, `carries a tokenizer without an end token (${key('eos_token_id')})`);
  const template = metadata.get('tokenizer.chat_template');
  const before = flag('add_bos_token', isSentencePiece || (kind?.begins ?? false)) ? begin : undefined;
  const after = flag('add_eos_token', false) ? end : undefined;
  const files: TokenizerFiles = {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: parts.normalizer,
      pre_tokenizer: parts.words,
      post_processor: between(before, after, tokens),
      decoder: parts.decoder,
      model: {
        type: 'BPE',
        dropout: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        ...parts.model,
        vocab: Object.fromEntries(tokens.map((content, id) => [content, id])),
        merges: parts.merges,
      },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      ...(begin === undefined ? {} : { bos_token: begin }),
      eos_token: end,
      ...(parts.model.unk_token === null ? {} : { unk_token: parts.model.unk_token }),
      pad_token: token('padding_token_id') ?? end,
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      ...(typeof template === 'string' ? { chat_template: template } : {}),
    },
  };
  return TextTokenizer.fromFiles(files, file);
}

function byteLevelParts({ words, normalizer, ignoreMerges }: Kind, merges: TokenizerParts['merges']): TokenizerParts {
  return {
    normalizer: normalizer ?? null,
    words,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    merges,
    model: { ignore_merges: ignoreMerges ?? false, byte_fallback: false, fuse_unk: false, unk_token: null },
  };
}

/** Puts a token before every text and one after it, where they are named. */
function between(before: string | undefined, after: string | undefined, tokens: readonly string[]): object | null {
  if (before === undefined && after === undefined) return null;
  const special = (id: string | undefined, type_id: number) => (id === undefined ? [] : [{ SpecialToken: { id, type_id } }]);
  const text = (id: string, type_id: number) => [
    ...special(before, type_id),
    { Sequence: { id, type_id } },
    ...special(after, type_id),
  ];
  const named = [before, after].filter((token) => token !== undefined);
  return {
    type: 'TemplateProcessing',
    single: text('A', 0),
    pair: [...text('A', 0), ...text('B', 1)],
    special_tokens: Object.fromEntries(named.map((id) => [id, { id, ids: [tokens.indexOf(id)], tokens: [id] }])),
  };
}
