import type { TextTokenizer } from '../text/text-tokenizer.js';

/** Most tokens that are decoded again with the next one; then those before the last `context` are let go. */
const most = 32;
const context = 16;

/** So much text holds more bytes than a character may lack, or may have before the place where tokens are let go. */
const certain = 4;

/**
 * Turns tokens into text as soon as it is certain: a character whose bytes are not all there yet waits. Without a tokenizer there is none.
 * Each token costs the decoding of a few alone, however long the answer is.
 */
export class TextPieces {
  readonly ids: number[] = [];
  /** The first token that is still decoded. */
  #start = 0;
  /** Text of the tokens before that one which is not written yet. */
  #waiting = '';
  /** What is written of the text from that token on. */
  #written = '';

  constructor(
    private readonly tokenizer: TextTokenizer,
    private readonly onText: (piece: string) => void,
  ) {}

  push(...ids: readonly number[]): void {
    this.ids.push(...ids);
    if (!this.tokenizer.isPresent) return;
    const text = this.#decode(this.#start);
    if (!text.endsWith('\ufffd') && text.startsWith(this.#written)) this.#write(text);
    if (this.ids.length - this.#start > most) this.#letGo(text);
  }

  /** Gives what waited, after the last token. */
  end(): void {
    if (!this.tokenizer.isPresent) return;
    const text = this.#decode(this.#start);
    if (text.startsWith(this.#written)) this.#write(text);
  }

  #write(text: string): void {
    const piece = this.#waiting + text.slice(this.#written.length);
    if (piece.length > 0) this.onText(piece);
    this.#waiting = '';
    this.#written = text;
  }

  /**
   * Decodes the last tokens alone from here on, where they by themselves give the end of the text: not within a character, nor where
   * a token reads otherwise at the beginning of a text. Otherwise the next token may be a better place.
   */
  #letGo(text: string): void {
    const start = this.ids.length - context;
    const end = this.#decode(start);
    if (end.length < certain || !text.endsWith(end) || !text.startsWith(this.#written)) return;
    const gone = text.length - end.length;
    this.#waiting += text.slice(this.#written.length, gone);
    this.#written = this.#written.slice(gone);
    this.#start = start;
  }

  #decode(start: number): string {
    return this.tokenizer.decode(this.ids.slice(start));
  }
}
