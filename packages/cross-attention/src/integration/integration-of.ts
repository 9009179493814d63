import { gatedCrossAttention } from './gated-cross-attention.js';
import type { Integration } from './integration.js';
import { softPrompt } from './soft-prompt.js';

/** The integration that a manifest names, or undefined when there is no such kind or its settings are not numbers. */
export function integrationOf(kind: unknown, settings: unknown): Integration | undefined {
  if (kind === 'soft-prompt') return softPrompt();
  if (kind !== 'cross-attention' || typeof settings !== 'object' || settings === null) return undefined;
  const { every, heads, gate } = settings as Record<string, unknown>;
  if (typeof every !== 'number' || typeof gate !== 'number' || (heads !== undefined && typeof heads !== 'number'))
    return undefined;
  return gatedCrossAttention({ every, gate, ...(heads === undefined ? {} : { heads }) });
}
