import { parsePythonLiteral } from './python-literal.js';
import { readBlocks } from './text-file.js';
import type { TextEncoding } from './text-file.js';

export interface JsonRecord {
  /** Empty when there is a problem. */
  value: Record<string, unknown>;
  line: number;
  problem?: string;
}

/** One object per line, in lists; blank lines are passed over. Lines that are Python dicts are read as such. */
export async function* readJsonLines(file: string, encoding: TextEncoding = 'utf-8'): AsyncGenerator<JsonRecord[]> {
  for await (const block of readBlocks(file, encoding)) {
    let line = block.line;
    const records: JsonRecord[] = [];
    for (const text of block.text.split('\n')) {
      const record = text.trim() === '' ? undefined : parseJsonLine(text, line);
      if (record) records.push(record);
      line++;
    }
    yield records;
  }
}

export function parseJsonLine(text: string, line: number): JsonRecord {
  try {
    const value: unknown = /^\s*\{\s*u?'/.test(text)
      ? parsePythonLiteral(text)
      : JSON.parse(exactIntegers(line === 1 ? text.replace(/^\uFEFF/, '') : text));
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return { value: value as Record<string, unknown>, line };
    return { value: {}, line, problem: 'it is JSON but no object' };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    // The engine's message quotes the line, which is a person's: only the kind of problem is passed on.
    return { value: {}, line, problem: 'it is no JSON' };
  }
}

/** Integers that no number holds exactly become texts: as ids they would be taken for one another. */
function exactIntegers(text: string): string {
  if (!/\d{16}/.test(text)) return text;
  return text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g, (part) =>
    /^-?[1-9]\d{15,}$/.test(part) && !Number.isSafeInteger(Number(part)) ? `"${part}"` : part,
  );
}
