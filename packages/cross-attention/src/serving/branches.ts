/** The tokens that one step appended to texts, with their keys and values. Steps are linked: a text is a path through them. */
export class Branches {
  /** Where each token lies in the buffers, counted from the end of the prompt; -1 where it does not. `[rows]` */
  readonly slots: Int32Array;
  /** Of each of the cache's tensors, `[key/value heads, rows, head size]`. */
  readonly values = new Map<string, Float32Array>();

  constructor(
    /** What they continue; undefined for the first ones, which continue the prompt. */
    readonly previous: Branches | undefined,
    /** Which token of `previous` each one continues. `[rows]` */
    readonly parents: Int32Array,
  ) {
    this.slots = new Int32Array(parents.length).fill(-1);
  }

  get rows(): number {
    return this.parents.length;
  }
}

/** Some tokens of one step, ascending. */
export interface Segment {
  readonly branches: Branches;
  readonly rows: Int32Array;
}

/** The tokens that the texts ending in some rows consist of, each once; the last step's come first. */
export function ancestors(last: Branches | undefined, ends: Int32Array): Segment[] {
  const segments: Segment[] = [];
  let rows = ends;
  for (let branches = last; branches !== undefined; branches = branches.previous) {
    const { parents } = branches;
    const distinct = Int32Array.from(new Set(rows)).sort();
    segments.push({ branches, rows: distinct });
    rows = distinct.map((row) => parents[row]);
  }
  return segments;
}

/** Far below any real score, and still finite. */
const hidden = -1e9;

/**
 * Which positions each text reads: `[ends, total]` zeros there, far below elsewhere. The first `prompt` positions are everybody's, behind
 * them are the slots; the last ones are the new tokens, one per text, which reads its own. With a `window`, only the text's last so many
 * positions are read, the new one included.
 */
export function visibility(
  last: Branches | undefined,
  ends: Int32Array,
  { prompt, total, window = Infinity }: { readonly prompt: number; readonly total: number; readonly window?: number },
): Float32Array {
  const visible = new Float32Array(ends.length * total).fill(hidden);
  let length = 0;
  for (let branches = last; branches !== undefined; branches = branches.previous) length++;
  for (let text = 0; text < ends.length; text++) {
    const start = text * total;
    visible.fill(0, start + Math.max(0, Math.min(prompt, prompt + length + 1 - window)), start + prompt);
    visible[start + total - ends.length + text] = 0;
    let row = ends[text];
    let left = window - 1;
    for (let branches = last; branches !== undefined && left > 0; branches = branches.previous, left--) {
      visible[start + prompt + branches.slots[row]] = 0;
      row = branches.parents[row];
    }
  }
  return visible;
}
