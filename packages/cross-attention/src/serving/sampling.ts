import type { Random } from '@user-llm/onnx-autograd';
import { checkCount } from '../check-count.js';
import { BestList } from '../ranking/best-list.js';
import { notFinite } from '../ranking/token-scorer.js';

/** How a token is drawn. Without it the most probable one is taken (greedy). */
export interface SamplingSettings {
  /** The same seed and request give the same text, whatever else runs beside it. */
  readonly seed: number;
  /** Logits are divided by this, above 0. Default 1. */
  readonly temperature?: number;
  /** Draws among the so many most probable tokens. Default: all. */
  readonly topK?: number;
  /** Draws among the fewest tokens whose probabilities add up to this, in (0, 1] (Holtzman et al., arXiv 1904.09751). Default 1. */
  readonly topP?: number;
}

const names: readonly string[] = ['seed', 'temperature', 'topK', 'topP'] satisfies (keyof SamplingSettings)[];

/** Throws a `RangeError` for settings that mean nothing. */
export function checkSampling(sampling: SamplingSettings): void {
  if (typeof sampling !== 'object' || (sampling as object | null) === null)
    throw new RangeError(`sampling must be an object, { seed, temperature, topK, topP }; leave it out to be greedy.`);
  const unknown = Object.keys(sampling).find((name) => !names.includes(name));
  if (unknown !== undefined) throw new RangeError(`sampling.${unknown} is not known. It has ${names.join(', ')}.`);
  const { seed, temperature = 1, topK = 1, topP = 1 } = sampling;
  if (!Number.isFinite(seed)) throw new RangeError(`sampling.seed must be a number, not ${seed}.`);
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new RangeError(`sampling.temperature must be above 0, not ${temperature}; leave sampling out to be greedy.`);
  checkCount('sampling.topK', topK);
  if (!(topP > 0 && topP <= 1)) throw new RangeError(`sampling.topP must lie in (0, 1], not ${topP}.`);
}

/** The most probable token; the first of equal ones. Throws a `RangeError` where none is: the best score is not finite. `[vocabulary]` */
export function greedyToken(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  if (!Number.isFinite(logits[best])) throw notFinite();
  return best;
}

/** Draws a token; throws as `greedyToken` does. `[vocabulary]` */
export function sampleToken(
  logits: Float32Array,
  { temperature = 1, topK = logits.length, topP = 1 }: SamplingSettings,
  random: Random,
): number {
  const weights = weightsOf(logits, temperature);
  const ids = candidates(weights, topK, topP);
  if (ids === undefined) return draw(weights, (i) => i, random);
  return draw(
    Float32Array.from(ids, (id) => weights[id]),
    (i) => ids[i],
    random,
  );
}

/** Makes all tokens impossible but those that `topK` and `topP` leave; throws as `greedyToken` does. `[vocabulary]` */
export function keepLikeliest(logits: Float32Array, { topK, topP }: Required<Pick<SamplingSettings, 'topK' | 'topP'>>): void {
  const kept = new Set(candidates(weightsOf(logits, 1), topK, topP) ?? logits.keys());
  for (let id = 0; id < logits.length; id++) if (!kept.has(id)) logits[id] = -Infinity;
}

/** Probabilities but for a factor: the largest is 1. */
function weightsOf(logits: Float32Array, temperature: number): Float32Array {
  const largest = logits[greedyToken(logits)];
  return logits.map((logit) => Math.exp((logit - largest) / temperature));
}

/** The tokens that may be drawn, the most probable first; undefined for all of them. */
function candidates(weights: Float32Array, topK: number, topP: number): number[] | undefined {
  let kept: number[] | undefined;
  if (topK < weights.length) {
    const best = new BestList(topK);
    for (let id = 0; id < weights.length; id++) if (weights[id] >= best.threshold) best.add(weights[id], id, id);
    kept = best.sorted().map(({ payload }) => payload);
  }
  if (topP === 1) return kept;
  const total = kept === undefined ? sum(weights) : kept.reduce((all, id) => all + weights[id], 0);
  // All tokens below this together are less than what may be left out.
  const least = ((1 - topP) * total) / weights.length;
  kept ??= Array.from(weights.keys())
    .filter((id) => weights[id] >= least)
    .sort((a, b) => weights[b] - weights[a] || a - b);
  let reached = 0;
  const end = kept.findIndex((id) => (reached += weights[id]) >= topP * total);
  return end < 0 ? kept : kept.slice(0, end + 1);
}

function draw(weights: Float32Array, idOf: (place: number) => number, random: Random): number {
  let left = random.next() * sum(weights);
  for (let place = 0; place < weights.length; place++) {
    left -= weights[place];
    if (left < 0) return idOf(place);
  }
  // Rounding may leave a little: the last one that can be drawn.
  return idOf(weights.findLastIndex((weight) => weight > 0));
}

const sum = (values: Float32Array): number => values.reduce((all, value) => all + value, 0);
