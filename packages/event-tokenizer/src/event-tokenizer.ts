import { ColumnTokenizer, fitTokenizer } from './column-tokenizer.js';
import type { LoadOptions } from './column-tokenizer.js';
import { EncodedChunks } from './encode-chunks.js';
import type { EncodeChunksOptions } from './encode-chunks.js';
import type { FitOptions } from './fit.js';
import type { Rows } from './row-source.js';
import type { EventSchema } from './schema.js';
import { readTokenizerFile, writeAtomically } from './tokenizer-file.js';
import { parseTokenizer } from './tokenizer-json.js';

/** A {@link ColumnTokenizer} in Node: it also reads and writes files. */
export class EventTokenizer extends ColumnTokenizer {
  /**
   * Learns vocabularies (the most frequent value first, ties by first appearance) and quantile buckets in one pass over the rows.
   * Malformed rows are left out, as encoding does.
   *
   * @throws EmptyLogError, MissingColumnError, EmptyVocabularyError, SchemaError; RowError with `strict`
   */
  static override async fit(schema: EventSchema, rows: Rows, options: FitOptions = {}): Promise<EventTokenizer> {
    return new EventTokenizer(await fitTokenizer(schema, rows, options));
  }

  /**
   * Reads a file that `save` wrote.
   *
   * @throws TokenizerFormatError, TokenizerVersionError (a newer release's file), TokenizerHashError (changed or damaged), TextEmbedderError
   */
  static async load(file: string, { embedders = {} }: LoadOptions = {}): Promise<EventTokenizer> {
    return new EventTokenizer(parseTokenizer(await readTokenizerFile(file), embedders, file));
  }

  /** The tokenizer of what `toJSON` gave. Throws as `load` does. */
  static override fromJSON(saved: unknown, { embedders = {} }: LoadOptions = {}): EventTokenizer {
    return new EventTokenizer(parseTokenizer(saved, embedders, 'The object'));
  }

  /**
   * The events that `encode` gives, in the same order, as chunks of consecutive users: for logs that do not fit in memory. Rows may come in
   * any order. All of them are read and put on disk, in a scratch file, before the first chunk comes; memory is about
   * eight times the bytes of `eventsPerChunk` events, the vocabularies, and 250 bytes per user. Iterate once; `summary` then has the counts.
   *
   * @throws as `encode` does, while iterating; a duplicate that the policy throws on is found only at the end
   */
  encodeChunks(rows: Rows, options: EncodeChunksOptions = {}): EncodedChunks {
    return new EncodedChunks(this.encoder(), rows, options);
  }

  /** Writes the tokenizer as JSON; a reader sees the old file or the new one, never a part. */
  async save(file: string): Promise<void> {
    await writeAtomically(file, `${JSON.stringify(this.toJSON())}\n`);
  }
}
