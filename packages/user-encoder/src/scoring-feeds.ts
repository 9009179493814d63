import type { EventColumns } from '@user-llm/event-tokenizer';
import type { HostTensor } from '@user-llm/onnx-autograd';
import type { EncoderConfig } from './config.js';
import { bagSizes, vector } from './event-feeds.js';
import { maskEvent } from './masked-event.js';
import type { Span } from './span.js';
import { windowFeeds } from './window-feeds.js';
import { lengthsInput, type AttentionForm } from './window-inputs.js';

/** Places of the context that scoring takes for itself: a bidirectional encoder reads a masked event where the next one will stand. */
export const scoringRoom = ({ attention }: EncoderConfig): number => (attention === 'bidirectional' ? 1 : 0);

/**
 * Inputs for the scores of what comes after each window.
 *
 * @param length T, which holds the longest window and the room that scoring takes
 */
export function scoringFeeds(
  config: EncoderConfig,
  events: EventColumns,
  windows: readonly Span[],
  length: number,
  form: AttentionForm = 'mask',
): Record<string, HostTensor> {
  const room = scoringRoom(config);
  const { fields } = config;
  const feeds = windowFeeds(config, events, windows, length, bagSizes(fields, events, windows), { form });
  if (room > 0) windows.forEach(({ start, end }, row) => maskEvent(feeds, fields, row * length + end - start));
  return { ...feeds, [lengthsInput]: vector(windows.map(({ start, end }) => end - start + room)) };
}
