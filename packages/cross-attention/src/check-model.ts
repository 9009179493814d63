import { ggufFileOf, readGguf } from './gguf/gguf-model.js';
import { hubNameOf } from './hub/hub-name.js';
import { checkWeightFiles, readAllButWeights } from './folder/hugging-face.js';
import { isSavedModel } from './saved-model.js';

/** What `checkModel` found out. */
export interface CheckedModel {
  /** False where the model takes and gives token ids alone. */
  readonly hasTokenizer: boolean;
}

/**
 * Finds out in a moment whether `LanguageModel.load` will find a model at a place, before something long begins: everything but the
 * values of the weights is read, their headers included, so that a file that was cut short is refused too. A name on a hub is taken as
 * it is, and gives undefined, as does a folder that `save` wrote. Throws as `LanguageModel.load` does.
 */
export async function checkModel(place: string): Promise<CheckedModel | undefined> {
  if ((await hubNameOf(place)) !== undefined || (await isSavedModel(place))) return undefined;
  const gguf = await ggufFileOf(place);
  if (gguf !== undefined) return { hasTokenizer: (await readGguf(gguf)).tokenizer.isPresent };
  const { config, weightFiles, tokenizer } = await readAllButWeights(place);
  await checkWeightFiles(place, config, weightFiles);
  return { hasTokenizer: tokenizer.isPresent };
}
