/**
 * A prefix tree over tokenised titles, in typed arrays. Nodes are numbered level by level, and the children of a node are consecutive
 * and sorted by token, so `firstChild` alone says where they are. Every title ends with the end token: a title that begins another
 * one has a leaf of its own, and only leaves hold items. Titles that are spelled alike share a leaf.
 */
export class PrefixTrie {
  /** Number of titles; items are their indices. */
  readonly items: number;
  readonly nodes: number;
  /** Most tokens of a title, its end token included: the number of levels below the root. */
  readonly depth: number;
  /** The largest token id of any title. */
  readonly largestToken: number;
  /** The token that leads to each node; -1 for the root, node 0. `[nodes]` */
  readonly token: Int32Array;
  /** `[nodes]`; -1 for the root. */
  readonly parent: Int32Array;
  /** Node `n` has the children `firstChild[n]` up to, not including, `firstChild[n + 1]`. `[nodes + 1]` */
  readonly firstChild: Int32Array;
  /** Number of items at or below each node. `[nodes]` */
  readonly itemsBelow: Int32Array;
  /** The leaf of each item. `[items]` */
  readonly leafOfItem: Int32Array;
  readonly #isCertain: Uint8Array;
  // Items in order of their titles' tokens, then of the file; those below one node are consecutive.
  readonly #order: Int32Array;
  readonly #firstInOrder: Int32Array;

  private constructor(titles: readonly (readonly number[])[], endToken: number) {
    const tokenAt = (item: number, depth: number) => (depth < titles[item].length ? titles[item][depth] : endToken);
    const order = Int32Array.from(titles.keys()).sort((a, b) => compareTitles(titles[a], titles[b], endToken) || a - b);
    const token = [-1];
    const parent = [-1];
    const from = [0];
    const to = [titles.length];
    const firstChild: number[] = [];
    const leafOfItem = new Int32Array(titles.length);
    let depth = 0;
    // One level after the other; `node` runs over the nodes while its children are appended behind.
    for (let level = 0, node = 0; node < token.length; level++) {
      for (const levelEnd = token.length; node < levelEnd; node++) {
        firstChild.push(token.length);
        if (node !== 0 && token[node] === endToken) {
          for (let i = from[node]; i < to[node]; i++) leafOfItem[order[i]] = node;
          continue;
        }
        for (let start = from[node]; start < to[node];) {
          const next = tokenAt(order[start], level);
          let end = start + 1;
          while (end < to[node] && tokenAt(order[end], level) === next) end++;
          token.push(next);
          parent.push(node);
          from.push(start);
          to.push(end);
          start = end;
          depth = level + 1;
        }
      }
    }
    firstChild.push(token.length);
    this.items = titles.length;
    this.nodes = token.length;
    this.depth = depth;
    this.token = Int32Array.from(token);
    this.largestToken = this.token.reduce((largest, id) => Math.max(largest, id), -1);
    this.parent = Int32Array.from(parent);
    this.firstChild = Int32Array.from(firstChild);
    this.itemsBelow = Int32Array.from(to, (end, node) => end - from[node]);
    this.leafOfItem = leafOfItem;
    this.#isCertain = new Uint8Array(this.nodes);
    for (let node = this.nodes - 1; node >= 0; node--) {
      const children = this.firstChild[node + 1] - this.firstChild[node];
      this.#isCertain[node] = Number(children === 0 || (children === 1 && this.#isCertain[this.firstChild[node]] === 1));
    }
    this.#order = order;
    this.#firstInOrder = Int32Array.from(from);
  }

  /**
   * Builds the trie of `titles`: token ids without the end token, the position in the list being the item. Throws a `RangeError` when
   * a title holds the end token itself.
   */
  static build(titles: readonly (readonly number[])[], endToken: number): PrefixTrie {
    titles.forEach((title, item) => {
      if (title.includes(endToken))
        throw new RangeError(`Title ${item} holds the end token ${endToken}; encode titles without special tokens.`);
    });
    return new PrefixTrie(titles, endToken);
  }

  /** Whether a title ends at the node. */
  isLeaf(node: number): boolean {
    return this.firstChild[node] === this.firstChild[node + 1];
  }

  /** Whether no choice is left at the node: one title is all that it can become, or has become. */
  isCertain(node: number): boolean {
    return this.#isCertain[node] === 1;
  }

  /** The items at or below a node; in file order for a leaf. */
  itemsOf(node: number): Int32Array {
    return this.#order.subarray(this.#firstInOrder[node], this.#firstInOrder[node] + this.itemsBelow[node]);
  }
}

function compareTitles(a: readonly number[], b: readonly number[], endToken: number): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return (a[length] ?? endToken) - (b[length] ?? endToken);
}

/** The child of a node that a token leads to. */
export function childOf({ firstChild, token }: PrefixTrie, node: number, wanted: number): number | undefined {
  // Children are sorted by token.
  let low = firstChild[node];
  let high = firstChild[node + 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (token[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low < firstChild[node + 1] && token[low] === wanted ? low : undefined;
}

/** The tokens of an item's title, without the end token. */
export function titleOf({ token, parent, leafOfItem }: PrefixTrie, item: number): number[] {
  const title: number[] = [];
  for (let node = parent[leafOfItem[item]]; node > 0; node = parent[node]) title.push(token[node]);
  return title.reverse();
}
