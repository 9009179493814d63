import { bandOf, type EncoderConfig } from './config.js';
import type { InferenceOutput } from './inference.js';
import { receptiveField } from './relative-position.js';
import { scoringRoom } from './scoring-feeds.js';

/** Places of a window that an output takes for itself. */
export const roomOf = (config: EncoderConfig, output: InferenceOutput): number => (output === 'scores' ? scoringRoom(config) : 0);

/** The most events of a history that change an output: all that are read. */
export function reachOf(config: EncoderConfig, output: InferenceOutput): number {
  const band = bandOf(config);
  return band ? receptiveField(config, band) : config.context - roomOf(config, output);
}
