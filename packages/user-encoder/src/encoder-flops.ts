import { matrixFlops } from '@user-llm/onnx-autograd';
import { bandOf, type EncoderConfig } from './config.js';
import type { InferenceOutput } from './inference.js';
import { outputDefinition } from './model.js';
import type { ItemHead } from './objectives/objective.js';
import { receptiveField } from './relative-position.js';

/** Floating-point operations of the matrix products (2 m n k) with which an encoder gives an output of one user with so many events. */
export function encoderFlops(config: EncoderConfig, head: ItemHead, output: InferenceOutput, events: number): number {
  const band = bandOf(config);
  const read = Math.max(1, Math.min(events, band ? receptiveField(config, band) : config.context));
  const inBlocks = band !== undefined && read > 2 * band.window;
  const blocks = inBlocks ? Math.ceil(read / band.window) : 1;
  const { outputs } = outputDefinition(config, head, output, inBlocks ? 'blocks' : 'mask').build({ training: false });
  return matrixFlops([outputs[output]], { windows: 1, blocks, events: inBlocks ? blocks * band.window : read });
}
