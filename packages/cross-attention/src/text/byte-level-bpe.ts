import { learnMerges } from './byte-pair-merges.js';

/** Settings of `trainByteLevelBpe`. */
export interface ByteLevelBpeOptions {
  /** Tokens in all: special tokens, the 256 bytes, and merges. Fewer when the texts do not hold that many frequent pairs. Default 4,096. */
  readonly vocabularySize?: number;
  /** A pair seen less often than this does not become a token. Default 2. */
  readonly minimumCount?: number;
  /** Special tokens besides the five of `specialTokens`, for example a separator between items. */
  readonly extraSpecialTokens?: readonly string[];
  /** The longest input, in tokens, that the model is made for; written to `tokenizer_config.json`. Default: not written. */
  readonly maximumLength?: number;
}

/** The special tokens that every tokenizer trained here has, in order of their ids from 0. */
export const specialTokens = {
  end: '<|endoftext|>',
  padding: '<|pad|>',
  system: '<|system|>',
  user: '<|user|>',
  assistant: '<|assistant|>',
} as const;

/** A tokenizer as the files of a Hugging Face folder: file name to JSON value. */
export interface TokenizerFiles {
  readonly 'tokenizer.json': Readonly<Record<string, unknown>>;
  readonly 'tokenizer_config.json': Readonly<Record<string, unknown>>;
  readonly 'special_tokens_map.json'?: Readonly<Record<string, unknown>>;
}

// One token before each turn and one after an answer: a chat costs its words and hardly more.
const chatTemplate =
  "{% for message in messages %}{% if message['role'] not in ['system', 'user', 'assistant'] %}" +
  "{{ raise_exception('A message role is system, user or assistant.') }}{% endif %}" +
  "{{ '<|' + message['role'] + '|>' + message['content'] }}" +
  "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/**
 * Trains a byte-level BPE tokenizer on the domain's own text and gives it in Hugging Face's file format, which transformers.js and
 * transformers open as it is. Every string can be encoded, and decoding gives it back exactly. The result depends on the texts alone,
 * not on their order. Throws a `RangeError` when `vocabularySize` has no room for the special tokens and the 256 bytes.
 */
export function trainByteLevelBpe(texts: Iterable<string>, options: ByteLevelBpeOptions = {}): TokenizerFiles {
  const { vocabularySize = 4096, minimumCount = 2, extraSpecialTokens = [], maximumLength } = options;
  const special = [...Object.values(specialTokens), ...extraSpecialTokens];
  const smallest = special.length + 256;
  if (!Number.isInteger(vocabularySize) || vocabularySize < smallest || vocabularySize > 65_536) {
    throw new RangeError(
      `A vocabulary of ${vocabularySize} tokens is not possible: give a whole number from ${smallest} (the special tokens and the bytes) to 65536.`,
    );
  }
  if (new Set(special).size !== special.length || special.includes('')) {
    throw new RangeError(
      `Special tokens must be different and not empty: ${special.map((token) => JSON.stringify(token)).join(', ')}.`,
    );
  }
  const { tokens, merges } = learnMerges(texts, vocabularySize - special.length, minimumCount);
  const vocabulary = Object.fromEntries([...special, ...tokens].map((token, id) => [token, id]));
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: special.map((content, id) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      post_processor: null,
      decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: vocabulary,
        merges,
      },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: specialTokens.end,
      eos_token: specialTokens.end,
      pad_token: specialTokens.padding,
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      padding_side: 'left',
      ...(maximumLength === undefined ? {} : { model_max_length: maximumLength }),
      chat_template: chatTemplate,
    },
    'special_tokens_map.json': {
      bos_token: specialTokens.end,
      eos_token: specialTokens.end,
      pad_token: specialTokens.padding,
      additional_special_tokens: [specialTokens.system, specialTokens.user, specialTokens.assistant, ...extraSpecialTokens],
    },
  };
}
