/** A number where the text is one; `undefined` where there is none; else the text itself, so that whoever refuses it can quote it. */
export function numberOrRaw(text: string): number | string | undefined {
  if (text === '') return undefined;
  const value = Number(text);
  return Number.isFinite(value) && text.trim() !== '' ? value : text;
}
