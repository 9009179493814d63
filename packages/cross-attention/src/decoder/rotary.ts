import type { DecoderConfig } from '../folder/decoder-config.js';

/** Inverse rotary frequencies `[headSize / 2]`, stretched as the config says (Su et al. 2021; Llama 3.1's scaling by wavelength). */
export function rotaryFrequencies({ headSize, rotary: { theta, scaling } }: DecoderConfig): Float32Array {
  return Float32Array.from({ length: headSize / 2 }, (_, i) => {
    const frequency = theta ** ((-2 * i) / headSize);
    if (scaling === undefined) return frequency;
    if (scaling.kind === 'linear') return frequency / scaling.factor;
    if (scaling.kind === 'factors') return frequency / scaling.factors[i];
    const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContextLength: original } = scaling;
    // Turns within the original context: many are kept as they are, few are stretched, in between it is mixed.
    const turns = (original * frequency) / (2 * Math.PI);
    if (turns > high) return frequency;
    if (turns < low) return frequency / factor;
    const smooth = (turns - low) / (high - low);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

/** Cosines and sines of every position, each `[context, headSize / 2]`, as `GroupQueryAttention` reads them. */
export function rotaryCaches(config: DecoderConfig): { cosine: Float32Array; sine: Float32Array } {
  const frequencies = rotaryFrequencies(config);
  const half = frequencies.length;
  const cosine = new Float32Array(config.contextLength * half);
  const sine = new Float32Array(config.contextLength * half);
  for (let position = 0, at = 0; position < config.contextLength; position++) {
    for (let i = 0; i < half; i++, at++) {
      const angle = Math.fround(position * frequencies[i]);
      cosine[at] = Math.cos(angle);
      sine[at] = Math.sin(angle);
    }
  }
  return { cosine, sine };
}
