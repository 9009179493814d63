import type { TokenizerFiles } from '../text/byte-level-bpe.js';
import { TextTokenizer } from '../text/text-tokenizer.js';
import { GgufError } from './gguf-error.js';
import type { GgufHeader } from './gguf-header.js';

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
};

const tokenTypes = { unknown: 2, control: 3, userDefined: 4 };

/**
 * The tokenizer and chat template that a GGUF file carries in its metadata, in Hugging Face's file format. Byte-level BPE is read;
 * anything else is a `GgufError` that says to put `tokenizer.json` beside the file.
 */
export function ggufTokenizer(header: GgufHeader): TextTokenizer {
  const { file, metadata } = header;
  const key = (name: string) => `tokenizer.ggml.${name}`;
  const refuse = (name: string, detail: string) =>
    new GgufError('tokenizer', file, `${detail} Put the model's tokenizer.json and tokenizer_config.json beside the file.`, {
      key: key(name),
    });
  const model = metadata.get(key('model'));
  if (model !== 'gpt2')
    throw refuse('model', `the tokenizer is of the kind '${String(model)}'; byte-level BPE ('gpt2') is read.`);
  const name = metadata.get(key('pre')) ?? 'default';
  const kind = typeof name === 'string' && Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  if (kind === undefined)
    throw refuse('pre', `words are cut as '${String(name)}' does it; known are ${Object.keys(kinds).join(', ')}.`);
  const strings = (entry: string): readonly string[] => {
    const value = metadata.get(key(entry));
    if (Array.isArray(value) && value.every((each) => typeof each === 'string')) return value;
    throw refuse(entry, 'is not a list of strings.');
  };
  const tokens = strings('tokens');
  const merges = strings('merges').map((merge) => {
    const space = merge.indexOf(' ', 1);
    if (space < 0) throw refuse('merges', `${JSON.stringify(merge)} is not a pair of tokens.`);
    return [merge.slice(0, space), merge.slice(space + 1)] as const;
  });
  const types = metadata.get(key('token_type'));
  const typeOf = (id: number): unknown => (Array.isArray(types) ? (types as unknown[])[id] : undefined);
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
  const template = metadata.get('tokenizer.chat_template');
  const begins = begin !== undefined && (metadata.get(key('add_bos_token')) ?? kind.begins ?? false) === true;
  const files: TokenizerFiles = {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: kind.normalizer ?? null,
      pre_tokenizer: kind.words,
      post_processor: begins ? beginsWith(begin, tokens.indexOf(begin)) : null,
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: kind.ignoreMerges ?? false,
        vocab: Object.fromEntries(tokens.map((content, id) => [content, id])),
        merges,
      },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      ...(begin === undefined ? {} : { bos_token: begin }),
      ...(end === undefined ? {} : { eos_token: end }),
      pad_token: token('padding_token_id') ?? end,
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      ...(typeof template === 'string' ? { chat_template: template } : {}),
    },
  };
  return TextTokenizer.fromFiles(files, file);
}

function beginsWith(token: string, id: number): object {
  const special = { SpecialToken: { id: token, type_id: 0 } };
  return {
    type: 'TemplateProcessing',
    single: [special, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [special, { Sequence: { id: 'A', type_id: 0 } }, special, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}
