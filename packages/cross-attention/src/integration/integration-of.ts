import { combined } from './combined.js';
import { gatedCrossAttention } from './gated-cross-attention.js';
import type { Integration } from './integration.js';
import { softPrompt } from './soft-prompt.js';

/** An integration as a manifest names it: by kind and settings, and where several are combined these of each. */
export interface NamedIntegration {
  readonly kind: string;
  readonly settings: Readonly<Record<string, number>>;
  readonly parts?: readonly Omit<NamedIntegration, 'parts'>[];
}

/** What `integrationOf` makes it from again. */
export function nameOf(integration: Integration): NamedIntegration {
  const name = ({ kind, settings }: Integration) => ({ kind, settings });
  return { ...name(integration), ...(integration.parts && { parts: integration.parts.map(name) }) };
}

/** The integration that a manifest names, or undefined when there is no such kind or its settings are not its own. */
export function integrationOf({ kind, settings, parts = [] }: NamedIntegration): Integration | undefined {
  if (kind === 'combined') {
    const known = parts.map((part) => integrationOf(part)).filter((part) => part !== undefined);
    const kinds = new Set(known.map((part) => part.kind));
    return parts.length > 1 && kinds.size === parts.length ? combined(known) : undefined;
  }
  if (kind === 'soft-prompt') return softPrompt();
  const { every, heads, gate } = settings as Partial<Record<string, number>>;
  if (kind !== 'cross-attention' || every === undefined || gate === undefined) return undefined;
  return gatedCrossAttention({ every, gate, ...(heads === undefined ? {} : { heads }) });
}
