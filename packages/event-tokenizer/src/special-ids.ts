/** The ids below {@link FIRST_VALUE_ID} mean the same in every field; values start at {@link FIRST_VALUE_ID}. */

/** Fills the places of a batch that hold no event. Never produced by encoding. */
export const PADDING_ID = 0;
/** Hides a value from a model that has to predict it. Never produced by encoding. */
export const MASK_ID = 1;
/** A value that was not seen often enough, or at all, when the tokenizer was fitted. */
export const UNKNOWN_ID = 2;
/** The row has no value here. */
export const MISSING_ID = 3;
/** The first id that stands for a value. */
export const FIRST_VALUE_ID = 4;

/** Names of the special ids, index = id. {@link EventTokenizer.vocabulary} starts with them. */
export const SPECIAL_NAMES: readonly string[] = Object.freeze(['[padding]', '[mask]', '[unknown]', '[missing]']);
