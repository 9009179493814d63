import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { PreTrainedTokenizer } from '@huggingface/transformers';
import { wordPattern } from './byte-alphabet.js';
import type { TokenizerFiles } from './byte-level-bpe.js';
import { checkMessages } from './check-messages.js';
import { missingSettings } from './missing-settings.js';
import type { KnownTokens } from './missing-settings.js';
import { problemOfIds } from './token-ids.js';

/** Most words whose ids are remembered: a few tens of megabytes at the worst. */
const maximumWords = 100_000;

const marker = Symbol.for('@user-llm/cross-attention/TokenizerError');

/** A tokenizer could not be read or used. `file` says which file is at fault, where one is. */
export class TokenizerError extends Error {
  readonly file?: string;
  readonly [marker] = true;

  constructor(message: string, options: { file?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TokenizerError';
    this.file = options.file;
  }

  static isInstance(error: unknown): error is TokenizerError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
  }
}

/** One turn of a conversation. */
export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export interface ChatOptions {
  /** Ends the prompt where the assistant's answer begins. Default true. */
  readonly addGenerationPrompt?: boolean;
}

export interface EncodeOptions {
  /**
   * `text` (the default): a special token spelled out in the text is encoded as ordinary characters, so that titles and questions
   * cannot start a turn or end an answer. `parse`: it becomes the special token, for text that was rendered by a template.
   */
  readonly specialTokens?: 'text' | 'parse';
}

/**
 * A language model's tokenizer: text to token ids and back. It reads Hugging Face's files from a local folder, never the network, and
 * encodes with transformers.js, so the ids are those that the model was trained on.
 */
export class TextTokenizer {
  /** Number of token ids: the largest id plus one. A model's embedding table needs at least that many rows. */
  readonly size: number;
  /** The token that begins a text, where the tokenizer has one. */
  readonly bos: number | undefined;
  readonly #eos: number | undefined;
  readonly #pad: number | undefined;
  /** Whether `chat` follows a template of the tokenizer; otherwise messages are joined by line breaks. */
  readonly hasChatTemplate: boolean;
  readonly #files: TokenizerFiles | undefined;
  readonly #known: PreTrainedTokenizer | undefined;
  readonly #special: RegExp | undefined;
  /** The ids of words seen before, where a tokenizer treats each word by itself. */
  readonly #words: Map<string, readonly number[]> | undefined;

  private constructor(
    files: TokenizerFiles | undefined,
    private readonly source: string,
    private readonly absence = '',
  ) {
    this.#files = files;
    this.size = 0;
    this.hasChatTemplate = false;
    if (files === undefined) return;
    const problem = problemOfIds(files['tokenizer.json']);
    if (problem !== undefined) throw new TokenizerError(`${source}: ${problem}.`, { file: source });
    let tokenizer: PreTrainedTokenizer;
    try {
      tokenizer = new PreTrainedTokenizer(files['tokenizer.json'], withPlainTokens(files['tokenizer_config.json']));
    } catch (error) {
      throw new TokenizerError(
        `${source}: tokenizer.json is not a tokenizer that transformers.js can read (${(error as Error).message}).`,
        {
          file: source,
          cause: error,
        },
      );
    }
    const eos = tokenId(tokenizer.eos_token_id);
    if (eos === undefined) {
      throw new TokenizerError(`${source}: the tokenizer names no end token. Set eos_token in tokenizer_config.json.`, {
        file: source,
      });
    }
    this.#known = tokenizer;
    this.#words = isPlainByteLevel(files['tokenizer.json']) ? new Map() : undefined;
    this.#eos = eos;
    this.bos = tokenId(tokenizer.bos_token_id);
    this.#pad = tokenId(tokenizer.pad_token_id) ?? eos;
    this.hasChatTemplate = tokenizer.chat_template != null;
    let largest = -1;
    for (const id of tokenizer.get_vocab().values()) largest = Math.max(largest, id);
    this.size = largest + 1;
    const special = tokenizer.all_special_tokens.filter((token) => token.length > 1);
    // A lookahead finds every place where one begins, overlapping ones too.
    if (special.length > 0)
      this.#special = new RegExp(`(?=${special.map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')})`, 'g');
  }

  /** A tokenizer from its files' contents; `source` names them in errors. */
  static fromFiles(files: TokenizerFiles, source = 'tokenizer.json'): TextTokenizer {
    return new TextTokenizer(files, source);
  }

  /**
   * Stands for the tokenizer that a model came without, or with one that cannot be read: all that needs one throws a `TokenizerError` which
   * begins with the place and `why`.
   */
  static absent(place: string, why = 'came without a tokenizer'): TextTokenizer {
    return new TextTokenizer(undefined, place, why);
  }

  /** False for a model that came without one; it takes and gives token ids alone. */
  get isPresent(): boolean {
    return this.#known !== undefined;
  }

  /** Throws a `TokenizerError` for a model that came without one. */
  assertPresent(): void {
    this.#present(this.#known);
  }

  get #tokenizer(): PreTrainedTokenizer {
    return this.#present(this.#known);
  }

  /** The token that ends an answer. Ranking appends it to each title, so that a title which begins another one has its own end. */
  get eos(): number {
    return this.#present(this.#eos);
  }

  /** The token that fills short rows of a batch; `eos` where the tokenizer names none. */
  get pad(): number {
    return this.#present(this.#pad);
  }

  /** What the tokenizer was made from, for writing it beside a model. */
  get files(): TokenizerFiles {
    return this.#present(this.#files);
  }

  #present<T>(part: T | undefined): T {
    if (part !== undefined) return part;
    throw new TokenizerError(
      `${this.source} ${this.absence}, so text cannot be made into tokens, nor tokens into text. Put the model's tokenizer.json and tokenizer_config.json there and load it again, or give and take token ids (promptIds, tokenIds).`,
      { file: this.source },
    );
  }

  /**
   * Reads `tokenizer.json`, `tokenizer_config.json` and, where they are there, `special_tokens_map.json` and `chat_template.jinja`. A
   * `tokenizer_config.json` may be missing where the tokenizer's model is `known`, whose special tokens it then has.
   */
  static async load(folder: string, known?: KnownTokens): Promise<TextTokenizer> {
    const file = path.join(folder, 'tokenizer.json');
    const json = (await readJson(file, true))!;
    const map = await readJson(path.join(folder, 'special_tokens_map.json'), false);
    const stated = await readJson(path.join(folder, 'tokenizer_config.json'), known === undefined);
    const config = stated ?? missingSettings(json, map ?? {}, known!);
    const template = await readText(path.join(folder, 'chat_template.jinja'), false);
    return new TextTokenizer(
      {
        'tokenizer.json': json,
        'tokenizer_config.json': template === undefined ? config : { ...config, chat_template: template },
        ...(map === undefined || Object.keys(map).length === 0 ? {} : { 'special_tokens_map.json': map }),
      },
      file,
    );
  }

  /** As `load`; of a folder without a tokenizer.json it is absent. */
  static async loadIfPresent(folder: string, known?: KnownTokens): Promise<TextTokenizer> {
    const found = await stat(path.join(folder, 'tokenizer.json')).catch(() => undefined);
    return found === undefined ? TextTokenizer.absent(folder) : TextTokenizer.load(folder, known);
  }

  /** The ids of a text, without any token before or after it. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    if (options.specialTokens === 'parse') return this.#tokenizer.encode(text, { add_special_tokens: false });
    const parts = this.#special === undefined ? [text] : cutInside(text, this.#special);
    return parts.flatMap((part) => this.#encodePart(part));
  }

  #encodePart(text: string): number[] {
    const encode = (part: string) => this.#tokenizer.encode(part, { add_special_tokens: false });
    const known = this.#words;
    if (known === undefined) return encode(text);
    const ids: number[] = [];
    for (const word of text.match(wordPattern) ?? []) {
      let found = known.get(word);
      if (found === undefined) {
        found = encode(word);
        if (known.size < maximumWords) known.set(word, found);
      }
      for (const id of found) ids.push(id);
    }
    return ids;
  }

  /** The text of some ids. Special tokens are left out unless `specialTokens` is true. */
  decode(ids: ArrayLike<number>, options: { specialTokens?: boolean } = {}): string {
    if (ids.length === 0) return '';
    return this.#tokenizer.decode(Array.from(ids), {
      skip_special_tokens: !(options.specialTokens ?? false),
      clean_up_tokenization_spaces: false,
    });
  }

  /**
   * A conversation as the text that the model reads: by the tokenizer's chat template, or joined by line breaks where it has none. Throws a
   * `RangeError` for a role other than `system`, `user` and `assistant`, and for a content that is no string.
   */
  renderChat(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    this.assertPresent();
    checkMessages(messages);
    const addGenerationPrompt = options.addGenerationPrompt ?? true;
    // A special token spelled out in a message is broken by a space: it must not start a turn of its own.
    const safe = messages.map(({ role, content }) => ({
      role,
      content: this.#special === undefined ? content : cutInside(content, this.#special).join(' '),
    }));
    if (!this.hasChatTemplate) return safe.map(({ content }) => content).join('\n') + (addGenerationPrompt ? '\n' : '');
    try {
      return this.#tokenizer.apply_chat_template(safe, { add_generation_prompt: addGenerationPrompt, tokenize: false }) as string;
    } catch (error) {
      throw new TokenizerError(`The tokenizer's chat template refused the messages: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  /** A conversation as token ids, ready for the model. */
  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): number[] {
    const text = this.renderChat(messages, options);
    // A template writes its own first token; without one the tokenizer's rule (a beginning token or none) holds.
    return this.#tokenizer.encode(text, { add_special_tokens: !this.hasChatTemplate });
  }
}

/** Cuts the text after the first character of every place that the pattern finds; the pieces joined are the text. */
function cutInside(text: string, pattern: RegExp): string[] {
  const pieces: string[] = [];
  let start = 0;
  for (const { index } of text.matchAll(pattern)) {
    pieces.push(text.slice(start, index + 1));
    start = index + 1;
  }
  pieces.push(text.slice(start));
  return pieces;
}

/** Older files give special tokens as objects with a `content`; transformers.js wants the text. */
function withPlainTokens(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const plain: Record<string, unknown> = { ...config };
  for (const key of ['bos_token', 'eos_token', 'pad_token', 'unk_token', 'sep_token', 'cls_token', 'mask_token']) {
    const value = plain[key];
    if (typeof value === 'object' && value !== null && 'content' in value) plain[key] = value.content;
  }
  return plain;
}

/** Byte-level BPE with GPT-2's words and nothing else, as it is trained here: then a text's ids are those of its words in a row. */
function isPlainByteLevel(json: Readonly<Record<string, unknown>>): boolean {
  const {
    normalizer,
    pre_tokenizer: words,
    model,
    added_tokens: added,
  } = json as {
    normalizer?: unknown;
    pre_tokenizer?: { type?: string; add_prefix_space?: boolean; use_regex?: boolean } | null;
    model?: { type?: string; continuing_subword_prefix?: unknown; end_of_word_suffix?: unknown };
    added_tokens?: { special?: boolean }[];
  };
  return (
    normalizer == null &&
    words?.type === 'ByteLevel' &&
    words.add_prefix_space === false &&
    words.use_regex !== false &&
    model?.type === 'BPE' &&
    !model.continuing_subword_prefix &&
    !model.end_of_word_suffix &&
    (added ?? []).every(({ special }) => special === true)
  );
}

function tokenId(id: unknown): number | undefined {
  return typeof id === 'number' && id >= 0 ? id : undefined;
}

async function readText(file: string, required: boolean): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (!required && (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new TokenizerError(
      `${file} could not be read (${(error as Error).message}). A model folder needs the tokenizer's files.`,
      {
        file,
        cause: error,
      },
    );
  }
}

async function readJson(file: string, required: boolean): Promise<Record<string, unknown> | undefined> {
  const text = await readText(file, required);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new TokenizerError(`${file} is not JSON (${(error as Error).message}).`, { file, cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TokenizerError(`${file} is not a JSON object.`, { file });
  return value as Record<string, unknown>;
}
