import type { TextTokenizer } from '../text/text-tokenizer.js';

/** Turns tokens into text as soon as it is certain: a character whose bytes are not all there yet waits. Without a tokenizer there is none. */
export class TextPieces {
  readonly ids: number[] = [];
  #written = '';

  constructor(
    private readonly tokenizer: TextTokenizer,
    private readonly onText: (piece: string) => void,
  ) {}

  push(...ids: readonly number[]): void {
    this.ids.push(...ids);
    if (!this.tokenizer.isPresent) return;
    const text = this.tokenizer.decode(this.ids);
    if (!text.endsWith('\ufffd') && text.startsWith(this.#written)) this.#write(text);
  }

  /** Gives what waited, after the last token. */
  end(): void {
    if (!this.tokenizer.isPresent) return;
    const text = this.tokenizer.decode(this.ids);
    if (text.startsWith(this.#written)) this.#write(text);
  }

  #write(text: string): void {
    if (text.length > this.#written.length) this.onText(text.slice(this.#written.length));
    this.#written = text;
  }
}
