// What runs wherever JavaScript does: no module of Node is reached from here.
export { ColumnTokenizer as EventTokenizer } from './column-tokenizer.js';
export type { FieldInfo, LoadOptions } from './column-tokenizer.js';
export { categorical, categories, eventSchema, item, number, text, time } from './schema.js';
export type {
  CategoricalSpec,
  CategoriesSpec,
  EventSchema,
  FieldSpec,
  NumberSpec,
  TextSpec,
  TimeSpec,
  TimeUnit,
} from './schema.js';
export { hashedNgrams } from './text-embedder.js';
export type { HashedNgramOptions, TextEmbedder } from './text-embedder.js';
export type {
  CategoricalColumn,
  CategoriesColumn,
  Column,
  EncodeCounts,
  EncodedEvents,
  EventColumns,
  NumberColumn,
  Rejection,
  RejectionKind,
  Row,
  TextColumn,
  TimeColumn,
} from './columns.js';
export { malformedRow, RowColumns, sourceLine } from './row-columns.js';
export type { RowColumnsInit } from './row-columns.js';
export type { RowEntry, Rows, RowSource } from './row-source.js';
export type { EncodeOptions } from './collect.js';
export type { FitOptions, FittedField, RowProgress } from './fit.js';
export type { RowPolicies } from './row-checks.js';
export { concatEvents, dropLast, sliceUsers, takeLast, takeUsers, userIndex } from './select.js';
export { FIRST_VALUE_ID, MASK_ID, MISSING_ID, PADDING_ID, SPECIAL_NAMES, UNKNOWN_ID } from './special-ids.js';
export { FORMAT_VERSION } from './tokenizer-json.js';
export type { TokenizerJson } from './tokenizer-json.js';
export {
  EmptyLogError,
  EmptyVocabularyError,
  MissingColumnError,
  RowError,
  SchemaError,
  TextEmbedderError,
  TokenizerFormatError,
  TokenizerHashError,
  TokenizerMismatchError,
  TokenizerVersionError,
  UnknownFieldError,
  UnknownUserError,
} from './errors.js';
