import type { FamilyDescription } from './family-description.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { qwen2 } from './qwen2.js';
import { qwen3 } from './qwen3.js';

const families = [llama, mistral, qwen2, qwen3] as const;

export type DecoderFamily = (typeof families)[number]['name'];

/** The families of decoders that can be built. */
export const decoderFamilies: readonly DecoderFamily[] = families.map(({ name }) => name);

/** The description of a family by its name, `model_type` in `config.json`; undefined for one that is not built. */
export const familyNamed = (name: string): FamilyDescription<DecoderFamily> | undefined =>
  families.find((family) => family.name === name);

/** The description of a family that a config names. */
export const familyOf = ({ family }: { readonly family: DecoderFamily }): FamilyDescription<DecoderFamily> =>
  familyNamed(family)!;

/** Names that GGUF files may carry. */
export const ggufArchitectures: readonly string[] = [...new Set(families.flatMap(({ gguf }) => gguf.architectures))];

/** The family of a GGUF file by its `general.architecture` and whether it states a sliding window. */
export function familyOfGguf(architecture: string, windowed: boolean): FamilyDescription<DecoderFamily> | undefined {
  const named = families.filter(({ gguf }) => gguf.architectures.includes(architecture));
  return named.find(({ slidingWindow }) => (slidingWindow === 'all-layers') === windowed) ?? named[0];
}
