/** Settings of transformers.js that a request makes itself, and how a request says what they would. */
const ownWays: ReadonlyMap<string, string> = new Map([
  ...['input_ids', 'inputs', 'attention_mask'].map((name) => [name, 'messages, prompt or promptIds'] as const),
  ...['max_new_tokens', 'max_length'].map((name) => [name, 'maxNewTokens'] as const),
  ['past_key_values', 'prefix'],
  ['blind_length', 'blindTokens'],
  ['user_embeddings', 'user'],
]);

/** Throws a `RangeError` for settings that would be overwritten by what the request says elsewhere. */
export function checkSettings(settings: Readonly<Record<string, unknown>> = {}): void {
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null) continue;
    if (name === 'streamer')
      throw new RangeError('settings.streamer cannot be set: the text comes piece by piece as textStream of the answer.');
    const way = ownWays.get(name);
    if (way !== undefined) throw new RangeError(`settings.${name} cannot be set: give the request ${way} instead.`);
  }
}
