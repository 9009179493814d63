/** Ids may leave out so many: a model's unused rows lie between its words and tokens that were added later. */
const mostUnused = 2 ** 20;

/** What is wrong with the ids in a tokenizer.json, whose reader makes a list as long as the largest; undefined where nothing is. */
export function problemOfIds(json: Readonly<Record<string, unknown>>): string | undefined {
  const { model, added_tokens: addedTokens } = json as { model?: { vocab?: unknown } | null; added_tokens?: unknown };
  const vocabulary = model?.vocab;
  // Where it is a list, a word's id is its place.
  const words =
    typeof vocabulary === 'object' && vocabulary !== null && !Array.isArray(vocabulary) ? Object.entries(vocabulary) : [];
  const added = Array.isArray(addedTokens)
    ? addedTokens.map((token: { id?: unknown; content?: unknown } | null) => [String(token?.content), token?.id] as const)
    : [];
  const count = (Array.isArray(vocabulary) ? vocabulary.length : words.length) + added.length;
  for (const entries of [words, added])
    for (const [token, id] of entries) {
      if (typeof id !== 'number' || !Number.isInteger(id) || id < 0)
        return `the id of ${JSON.stringify(token)} is ${JSON.stringify(id)}, not a whole number`;
      if (id >= count + mostUnused) return `the id ${id} of ${JSON.stringify(token)} is far beyond the ${count} tokens`;
    }
  return undefined;
}
