/** Settings of transformers.js that a request makes itself, and how a request says what they would. */
const ownWays: ReadonlyMap<string, string> = new Map([
  ...['input_ids', 'inputs', 'attention_mask'].map((name) => [name, 'messages, prompt or promptIds'] as const),
  ...['max_new_tokens', 'max_length'].map((name) => [name, 'maxNewTokens'] as const),
  ['past_key_values', 'prefix'],
  ['blind_length', 'blindTokens'],
  ['user_embeddings', 'user'],
]);

/** The settings by which `generate` of this transformers.js makes one text another; it knows more names, and does nothing for them. */
const effective: readonly string[] = [
  ...['do_sample', 'temperature', 'top_k', 'top_p', 'repetition_penalty', 'no_repeat_ngram_size', 'min_length', 'min_new_tokens'],
  ...['bad_words_ids', 'suppress_tokens', 'begin_suppress_tokens', 'forced_bos_token_id', 'forced_eos_token_id'],
  ...['bos_token_id', 'eos_token_id', 'pad_token_id', 'logits_processor', 'stopping_criteria'],
];

/** What has an effect on answers that are drawn alone. */
const drawing: readonly string[] = ['temperature', 'top_k', 'top_p'];

/** Numbers that transformers.js takes as they come, and draws by whatever they make of the logits. */
const numbers: Readonly<Record<string, readonly [holds: (value: number) => boolean, rule: string]>> = {
  temperature: [(value) => value >= 0 && value < Infinity, 'be a number of at least 0'],
  top_k: [Number.isInteger, 'be a whole number'],
  top_p: [(value) => value > 0 && value <= 1, 'lie in (0, 1]'],
  repetition_penalty: [(value) => value > 0 && value < Infinity, 'be a number above 0'],
};

/**
 * Throws a `RangeError` for settings that would be overwritten by what the request says elsewhere, for those that would do nothing or are not known, and for a
 * temperature, `top_k`, `top_p` or `repetition_penalty` that is none.
 */
export function checkSettings(settings: Readonly<Record<string, unknown>> = {}): void {
  if (typeof settings !== 'object' || (settings as object | null) === null)
    throw new RangeError(
      `settings must be an object, such as { do_sample: true }, not ${settings === null ? 'null' : `a ${typeof settings}`}.`,
    );
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null) continue;
    if (name === 'streamer')
      throw new RangeError('settings.streamer cannot be set: the text comes piece by piece as textStream of the answer.');
    const way = ownWays.get(name);
    if (way !== undefined) throw new RangeError(`settings.${name} cannot be set: give the request ${way} instead.`);
    if (!effective.includes(name))
      throw new RangeError(`settings.${name} cannot be set. These can, and have an effect: ${effective.join(', ')}.`);
    if (drawing.includes(name) && !settings.do_sample)
      throw new RangeError(`settings.${name} is about drawing, and the answer is greedy: give do_sample: true with it.`);
    const [holds, rule] = numbers[name] ?? [];
    if (holds !== undefined && !(typeof value === 'number' && holds(value)))
      throw new RangeError(`settings.${name} must ${rule}, not ${typeof value === 'number' ? value : JSON.stringify(value)}.`);
  }
}
