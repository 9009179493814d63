/**
 * Reads one Python literal (dict, list, tuple, string, number, True, False, None): the Amazon metadata of 2014 is written as
 * `repr` of a dict per line, which is no JSON.
 *
 * @throws SyntaxError with the position.
 */
export function parsePythonLiteral(text: string): unknown {
  const parser = new Parser(text);
  const value = parser.value();
  parser.end();
  return value;
}

const escapes: Record<string, string> = { n: '\n', t: '\t', r: '\r', b: '\b', f: '\f', v: '\v', a: '\x07', '0': '\0', '\n': '' };
const closers: Record<string, string> = { '[': ']', '(': ')' };
const deepest = 64;

class Parser {
  private at = 0;
  private depth = 0;

  constructor(private readonly text: string) {}

  value(): unknown {
    if (++this.depth > deepest) this.fail('nested too deeply');
    this.space();
    const char = this.text[this.at];
    const value = char === '{' ? this.dict() : char === '[' || char === '(' ? this.list() : this.scalar();
    this.depth--;
    return value;
  }

  end(): void {
    this.space();
    if (this.at < this.text.length) this.fail('something follows the value');
  }

  private scalar(): unknown {
    const prefix = /[uUbB]?(?=['"])/y;
    prefix.lastIndex = this.at;
    const match = prefix.exec(this.text);
    if (match) {
      this.at += match[0].length;
      return this.string();
    }
    const word = /[A-Za-z]+|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?/y;
    word.lastIndex = this.at;
    const found = word.exec(this.text)?.[0];
    if (found === undefined) return this.fail('no value');
    this.at += found.length;
    if (found === 'True') return true;
    if (found === 'False') return false;
    if (found === 'None') return null;
    const number = Number(found);
    return Number.isNaN(number) ? this.fail(`unknown word ${found}`) : number;
  }

  private dict(): Record<string, unknown> {
    const entries: [string, unknown][] = [];
    this.at++;
    while (!this.closes('}')) {
      const key = this.value();
      this.expect(':');
      entries.push([String(key), this.value()]);
      if (!this.comma()) {
        this.expect('}');
        break;
      }
    }
    return Object.fromEntries(entries);
  }

  private list(): unknown[] {
    const close = closers[this.text[this.at++]];
    const values: unknown[] = [];
    while (!this.closes(close)) {
      values.push(this.value());
      if (!this.comma()) {
        this.expect(close);
        break;
      }
    }
    return values;
  }

  private string(): string {
    const quote = this.text[this.at++];
    let value = '';
    for (;;) {
      const char = this.text[this.at++];
      if (char === undefined) return this.fail('the string does not end');
      if (char === quote) return value;
      value += char === '\\' ? this.escape() : char;
    }
  }

  private escape(): string {
    const char = this.text[this.at++];
    const digits = { x: 2, u: 4, U: 8 }[char];
    if (digits !== undefined) {
      const hex = this.text.slice(this.at, this.at + digits);
      const code = /^[0-9a-fA-F]+$/.test(hex) && hex.length === digits ? parseInt(hex, 16) : Infinity;
      if (code > 0x10ffff) return this.fail('a broken escape');
      this.at += digits;
      return String.fromCodePoint(code);
    }
    // Python keeps the backslash of an escape that it does not know.
    return escapes[char] ?? (char === '\\' || char === "'" || char === '"' ? char : `\\${char ?? ''}`);
  }

  private closes(close: string): boolean {
    this.space();
    if (this.text[this.at] !== close) return false;
    this.at++;
    return true;
  }

  private comma(): boolean {
    return this.closes(',');
  }

  private expect(char: string): void {
    if (!this.closes(char)) this.fail(`no ${char}`);
  }

  private space(): void {
    while (this.text.charCodeAt(this.at) <= 32) this.at++;
  }

  private fail(problem: string): never {
    throw new SyntaxError(`${problem} at character ${this.at + 1}`);
  }
}
