import { setImmediate } from 'node:timers/promises';

/** Records that are read before the event loop has its next turn: about a millisecond's work. */
export const recordsPerTurn = 64;
/** Bytes of records before it has, where they are large. */
export const bytesPerTurn = 1024 * 1024;
/** Keys that are passed before it has, where no record is read. */
export const keysPerTurn = 1024;

/**
 * Gives the event loop back in the midst of long work, so that timers, sockets and other requests have their turn.
 * @throws the signal's reason, where one of those aborted it
 */
export async function nextTurn(signal?: AbortSignal): Promise<void> {
  await setImmediate();
  signal?.throwIfAborted();
}
