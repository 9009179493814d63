const LINE_FEED = 10;
const RETURN = 13;
const QUOTE = 34;

/**
 * Where records end in delimited text that comes in pieces. A quote counts only at the start of a field; the next one that is not
 * doubled closes the field. Where that one does not stand at the end of a field, the line in which the field starts is wrong, and
 * the next line is a new record. (Whoever takes the records apart does the same.)
 */
export class RecordCut {
  /** How far the record was read that is not yet whole, and where in it a quoted field is open (or -1). */
  private at = 0;
  private open = -1;

  /** The last and the first byte of the delimiter: nearly always the whole of it. */
  private readonly before: number;
  private readonly after: number;

  constructor(private readonly delimiter: Buffer) {
    this.before = delimiter[delimiter.length - 1];
    this.after = delimiter[0];
  }

  /** The end of the last whole record, or 0. What comes after it begins the bytes of the next call. */
  lastEnd(bytes: Buffer): number {
    let { at, open } = this;
    const { length } = bytes;
    const ahead = Math.max(2, this.delimiter.length);
    let end = 0;
    if (open < 0 && !bytes.includes(QUOTE, at)) {
      const feed = bytes.lastIndexOf(LINE_FEED);
      if (feed >= at) end = feed + 1;
      at = length;
    }
    for (; at < length; at++) {
      if (open < 0) {
        for (let code = 0; at < length && (code = bytes[at]) !== QUOTE; at++) if (code === LINE_FEED) end = at + 1;
        if (at < length && this.startsField(bytes, at)) open = at;
        continue;
      }
      while (at < length && bytes[at] !== QUOTE) at++;
      // What comes after the quote decides, and may still be to come.
      if (at + ahead >= length) break;
      if (bytes[at + 1] === QUOTE) at++;
      else if (this.endsField(bytes, at + 1)) open = -1;
      else {
        const feed = bytes.indexOf(LINE_FEED, open);
        if (feed < 0) break;
        at = feed;
        end = feed + 1;
        open = -1;
      }
    }
    this.at = Math.min(at, length) - end;
    this.open = open < 0 ? -1 : open - end;
    return end;
  }

  /** Takes the quote of an open field for a wrong one. False where none is open, or its line does not end. */
  giveUp(bytes: Buffer): boolean {
    const feed = this.open < 0 ? -1 : bytes.indexOf(LINE_FEED, this.open);
    if (feed < 0) return false;
    this.at = feed;
    this.open = -1;
    return true;
  }

  private startsField(bytes: Buffer, at: number): boolean {
    if (at === 0 || bytes[at - 1] === LINE_FEED) return true;
    return bytes[at - 1] === this.before && this.isDelimiter(bytes, at - this.delimiter.length);
  }

  private endsField(bytes: Buffer, at: number): boolean {
    const code = bytes[at];
    if (code === LINE_FEED || (code === RETURN && bytes[at + 1] === LINE_FEED)) return true;
    return code === this.after && this.isDelimiter(bytes, at);
  }

  private isDelimiter(bytes: Buffer, at: number): boolean {
    const { length } = this.delimiter;
    return length === 1 || bytes.subarray(Math.max(0, at), at + length).equals(this.delimiter);
  }
}
