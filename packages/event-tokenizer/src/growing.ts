/** Typed arrays that grow by doubling. Loops call `reserve`, write into `data` and then set `length`: no call per value. */

const START = 64;

function room(length: number, more: number, capacity: number): number {
  let next = Math.max(capacity, START);
  while (next < length + more) next *= 2;
  return next;
}

export class Int32List {
  data = new Int32Array(0);
  length = 0;

  reserve(more: number): Int32Array {
    if (this.length + more > this.data.length) {
      const grown = new Int32Array(room(this.length, more, this.data.length));
      grown.set(this.data.subarray(0, this.length));
      this.data = grown;
    }
    return this.data;
  }

  push(value: number): void {
    if (this.length === this.data.length) this.reserve(1);
    this.data[this.length++] = value;
  }

  /** Of the values from `start` on, keeps those whose flag is 0. */
  dropFlagged(start: number, flags: Uint8Array): void {
    const { data, length } = this;
    let to = start;
    for (let from = start; from < length; from++) if (flags[from - start] === 0) data[to++] = data[from];
    this.length = to;
  }
}

export class Float64List {
  data = new Float64Array(0);
  length = 0;

  reserve(more: number): Float64Array {
    if (this.length + more > this.data.length) {
      const grown = new Float64Array(room(this.length, more, this.data.length));
      grown.set(this.data.subarray(0, this.length));
      this.data = grown;
    }
    return this.data;
  }

  push(value: number): void {
    if (this.length === this.data.length) this.reserve(1);
    this.data[this.length++] = value;
  }

  dropFlagged(start: number, flags: Uint8Array): void {
    const { data, length } = this;
    let to = start;
    for (let from = start; from < length; from++) if (flags[from - start] === 0) data[to++] = data[from];
    this.length = to;
  }
}

export class Float32List {
  data = new Float32Array(0);
  length = 0;

  reserve(more: number): Float32Array {
    if (this.length + more > this.data.length) {
      const grown = new Float32Array(room(this.length, more, this.data.length));
      grown.set(this.data.subarray(0, this.length));
      this.data = grown;
    }
    return this.data;
  }

  dropFlagged(start: number, flags: Uint8Array): void {
    const { data, length } = this;
    let to = start;
    for (let from = start; from < length; from++) if (flags[from - start] === 0) data[to++] = data[from];
    this.length = to;
  }
}
