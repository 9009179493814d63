/** What a model knows itself of its tokenizer. */
export interface KnownTokens {
  readonly beginToken?: number;
  readonly endTokens: readonly number[];
  readonly paddingToken?: number;
  readonly chatTemplate?: string;
}

type Json = Readonly<Record<string, unknown>>;

/** Stands in for a tokenizer_config.json that is not there: special tokens as `map` (special_tokens_map.json) or else the model names them. */
export function missingSettings(tokenizer: Json, map: Json, known: KnownTokens): Record<string, unknown> {
  const named = {
    bos_token: map.bos_token ?? contentOf(tokenizer, known.beginToken),
    eos_token: map.eos_token ?? contentOf(tokenizer, known.endTokens.at(0)),
    pad_token: map.pad_token ?? contentOf(tokenizer, known.paddingToken),
    chat_template: known.chatTemplate,
  };
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    ...Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined)),
  };
}

/** The token of an id in a tokenizer.json. */
function contentOf({ added_tokens: added, model }: Json, id: number | undefined): string | undefined {
  if (id === undefined) return undefined;
  const found = (Array.isArray(added) ? (added as { id?: unknown; content?: string }[]) : []).find((token) => token?.id === id);
  if (found !== undefined) return found.content;
  const vocabulary = (model as { vocab?: unknown } | undefined)?.vocab;
  if (Array.isArray(vocabulary)) return (vocabulary as [string, number][]).at(id)?.[0];
  return Object.entries(vocabulary ?? {}).find(([, other]) => other === id)?.[0];
}
