import { ggufFileOf, readGguf } from './gguf/gguf-model.js';
import { hubNameOf } from './hub/hub-name.js';
import { readAllButWeights } from './folder/hugging-face.js';
import { isSavedModel } from './saved-model.js';

/**
 * Finds out in a moment whether `LanguageModel.load` will find a model at a place, before something long begins: everything but the
 * values of the weights is read. A name on a hub is taken as it is. Throws as `LanguageModel.load` does.
 */
export async function checkModel(place: string): Promise<void> {
  if ((await hubNameOf(place)) !== undefined || (await isSavedModel(place))) return;
  const gguf = await ggufFileOf(place);
  await (gguf === undefined ? readAllButWeights(place) : readGguf(gguf));
}
