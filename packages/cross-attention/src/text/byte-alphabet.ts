/**
 * How byte-level BPE writes bytes and cuts text, as GPT-2 fixed it: every byte is one printable character, so that a vocabulary can be
 * stored as strings; and words are cut with their leading space, so that merges never cross a word.
 */

/** Cuts text into words; every character of the text is in exactly one of them. */
export const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

const isPrintable = (byte: number) =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);

/** The character that stands for each byte: itself where it is printable in Latin-1, otherwise the next free one from U+0100. */
export const characterOfByte: readonly string[] = (() => {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
})();
