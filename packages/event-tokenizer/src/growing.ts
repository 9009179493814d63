/** Typed arrays that grow by doubling. Loops call `reserve`, write into `data` and then set `length`: no call per value. */

const START = 64;

function room(length: number, more: number, capacity: number): number {
  let next = Math.max(capacity, START);
  while (next < length + more) next *= 2;
  return next;
}

abstract class List<Values extends Int32Array | Float64Array | Float32Array> {
  length = 0;

  constructor(public data: Values) {}

  protected abstract allocate(capacity: number): Values;

  /** The values, without a copy: valid until more are added. */
  view(): Values {
    return this.data.subarray(0, this.length) as Values;
  }

  reserve(more: number): Values {
    if (this.length + more > this.data.length) {
      const grown = this.allocate(room(this.length, more, this.data.length));
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

export class Int32List extends List<Int32Array> {
  constructor() {
    super(new Int32Array(0));
  }

  protected override allocate(capacity: number): Int32Array {
    return new Int32Array(capacity);
  }
}

export class Float64List extends List<Float64Array> {
  constructor() {
    super(new Float64Array(0));
  }

  protected override allocate(capacity: number): Float64Array {
    return new Float64Array(capacity);
  }
}

export class Float32List extends List<Float32Array> {
  constructor() {
    super(new Float32Array(0));
  }

  protected override allocate(capacity: number): Float32Array {
    return new Float32Array(capacity);
  }
}
