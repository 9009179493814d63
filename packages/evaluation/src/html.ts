/** Markup that is safe to put into a page as it is. */
export class Html {
  constructor(readonly text: string) {}

  /** Text that is markup already and is not escaped. */
  static raw(text: string): Html {
    return new Html(text);
  }
}

type Part = Html | string | number | null | undefined | false | readonly Part[];

/** A template whose values are escaped, unless they are {@link Html} themselves; null, undefined and false leave nothing. */
export function markup(strings: TemplateStringsArray, ...values: readonly Part[]): Html {
  return new Html(strings.reduce((text, string, i) => text + string + (i < values.length ? render(values[i]) : ''), ''));
}

function render(part: Part): string {
  if (part === null || part === undefined || part === false) return '';
  if (part instanceof Html) return part.text;
  if (typeof part === 'object') return part.map(render).join('');
  return String(part).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** A table that scrolls sideways on a narrow screen; the first column stays in view. */
export function table(
  head: readonly (string | Html)[],
  rows: readonly (readonly (string | number | Html | null | undefined)[])[],
  caption?: string,
): Html {
  return markup`<div class="scroll" tabindex="0"><table>${caption && markup`<caption>${caption}</caption>`}<thead><tr>${head.map((cell) => markup`<th scope="col">${cell}</th>`)}</tr></thead>
<tbody>${rows.map((row) => markup`<tr>${row.map((cell, i) => (i === 0 ? markup`<th scope="row">${cell}</th>` : markup`<td>${cell ?? markup`<span class="none">–</span>`}</td>`))}</tr>\n`)}</tbody></table></div>`;
}
