import type { ChatMessage } from './text-tokenizer.js';

/** Who may speak. A chat template lays other names out as they are given, special tokens and line breaks included. */
const roles: readonly ChatMessage['role'][] = ['system', 'user', 'assistant'];

/** Throws a `RangeError` for what is no conversation: a role could otherwise start a turn of its own, such as the system's. */
export function checkMessages(messages: unknown): asserts messages is readonly ChatMessage[] {
  if (!Array.isArray(messages))
    throw new RangeError(`messages must be a list of { role, content }, not ${kindOf(messages)}; one text alone is a prompt.`);
  messages.forEach((message: unknown, place) => {
    const { role, content } = (message ?? {}) as Partial<Record<keyof ChatMessage, unknown>>;
    if (!roles.some((known) => known === role))
      throw new RangeError(
        `The role of messages[${place}] must be system, user or assistant, not ${typeof role === 'string' ? JSON.stringify(role.slice(0, 40)) : kindOf(role)}.`,
      );
    if (typeof content !== 'string')
      throw new RangeError(
        `The content of messages[${place}] must be a text, not ${kindOf(content)}; where it comes in parts, join their texts.`,
      );
  });
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return Array.isArray(value) ? 'a list' : `a value of type ${typeof value}`;
}
