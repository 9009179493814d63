import { crc32 } from 'node:zlib';
import type { Band, EncoderConfig } from './config.js';
import { EncoderOptionError, StateFormatError, StateMismatchError } from './errors.js';
import { fromHalf, toHalf } from './half.js';
import { ownerBytes } from './state-owner.js';

/** How a state's numbers are held. */
export type StateDtype = 'float32' | 'float16' | 'int8';

/**
 * What an encoder keeps of a user so as to read the next event alone: rings of the last W events. The event at a position lies in slot
 * `position mod W` of every ring.
 */
export interface UserState {
  /** Events read so far. */
  count: number;
  /** Position of the next event. Positions only tell distances: they may have begun anywhere. */
  position: number;
  /** Of the last event, Unix seconds; NaN where unknown or there is none. */
  time: number;
  /** Of the last event whose time is known, 0 where there is none. */
  knownTime: number;
  /** Keys and values of every layer, [2 L, H, W, D / H]. */
  readonly cache: Float32Array;
  /** States of the last layer, [W, D]: what the resampler reads. */
  readonly recent: Float32Array;
  /** Of the events in the ring, [W], where attention reads times. */
  readonly times: Float64Array | null;
}

//  Little-endian; sizes in bytes.
//    0  4  magic                        32  float64  count
//    4  uint16  version                 40  float64  position
//    6  uint8   dtype                   48  float64  time
//    7  uint8   position kind           56  float64  time of the last event that has one
//    8  uint32  CRC-32 of the rest      64  32  encoder's hash
//   12  uint32  bytes in all            96  32  tokenizer's hash
//   16  uint32 x 4  L, H, W, D         128  16  whose it is; zeros where that is not known
//                                      144  times, scales, cache, recent
// Version 1 does not say whose it is: all from 144 on stands at 128.
const magic = 0x53554c55;
const version = 2;
const ownerAt = 128;
const headerBytes = ownerAt + ownerBytes;
const unowned = '00'.repeat(ownerBytes);
const dtypes = ['float32', 'float16', 'int8'] as const satisfies readonly StateDtype[];
const kinds = ['rotary', 'relative-time', 'rotary-time'] as const satisfies readonly Band['position'][];
const elementBytes: Readonly<Record<StateDtype, number>> = { float32: 4, float16: 2, int8: 1 };

/** Over all bytes but those that hold it. */
const checksum = (bytes: Uint8Array): number => crc32(bytes.subarray(12), crc32(bytes.subarray(0, 8)));

/** Where the parts of a state lie. */
interface Layout {
  readonly times: number;
  readonly scales: number;
  readonly cache: number;
  readonly recent: number;
  readonly bytes: number;
}

/** A state that was read: its numbers, and bytes of its own that `patch` brings up to date. */
export interface OpenedState {
  readonly state: UserState;
  readonly dtype: StateDtype;
  readonly bytes: Uint8Array;
  /** See {@link ownerOf}; null where the bytes do not say it. */
  readonly owner: string | null;
}

/** Reads and writes the states of one encoder. */
export class StateCodec {
  private readonly layers: number;
  private readonly heads: number;
  private readonly window: number;
  private readonly width: number;
  private readonly layouts: Readonly<Record<StateDtype, Layout>>;

  constructor(
    config: Pick<EncoderConfig, 'layers' | 'heads' | 'width'>,
    private readonly band: Band,
    private readonly encoder: string,
    private readonly tokenizer: string,
  ) {
    ({ layers: this.layers, heads: this.heads, width: this.width } = config);
    this.window = band.window;
    this.layouts = { float32: this.layout('float32'), float16: this.layout('float16'), int8: this.layout('int8') };
  }

  /** Bytes of one user's state. @throws EncoderOptionError for a dtype that there is not */
  bytes(dtype: StateDtype): number {
    if (!dtypes.includes(dtype))
      throw new EncoderOptionError('state', `there is no dtype '${String(dtype)}'; there are float32, float16 and int8`);
    return this.layouts[dtype].bytes;
  }

  /** The state of a user without events. */
  empty(): UserState {
    const { layers, window, width } = this;
    return {
      count: 0,
      position: 0,
      time: NaN,
      knownTime: 0,
      cache: new Float32Array(2 * layers * window * width),
      recent: new Float32Array(window * width),
      times: this.band.position === 'relative-time' ? new Float64Array(window).fill(NaN) : null,
    };
  }

  /** @param owner whose it is, null where that is not known @throws EncoderOptionError for a dtype that there is not */
  encode(state: UserState, dtype: StateDtype, owner: string | null): Uint8Array {
    const { layers, heads, window, width } = this;
    const bytes = new Uint8Array(this.bytes(dtype));
    const view = new DataView(bytes.buffer);
    view.setUint32(0, magic, true);
    view.setUint8(6, dtypes.indexOf(dtype));
    view.setUint8(7, kinds.indexOf(this.band.position));
    [layers, heads, window, width].forEach((size, i) => view.setUint32(16 + 4 * i, size, true));
    bytes.set(Buffer.from(this.encoder, 'hex'), 64);
    bytes.set(Buffer.from(this.tokenizer, 'hex'), 96);
    if (dtype === 'float32') {
      new Float32Array(bytes.buffer, this.layouts.float32.cache, state.cache.length).set(state.cache);
      new Float32Array(bytes.buffer, this.layouts.float32.recent, state.recent.length).set(state.recent);
    }
    if (state.times) this.viewTimes(bytes, dtype)!.set(state.times);
    this.patch({ state, dtype, bytes }, Math.min(window, state.count), owner);
    return bytes;
  }

  /**
   * Reads a state without changing its bytes.
   *
   * @throws StateFormatError, StateMismatchError
   */
  open(given: Uint8Array | undefined): OpenedState {
    if (given === undefined)
      throw new StateFormatError('it is absent (an embedding has a state only where it was encoded with one)');
    const dtype = this.check(given);
    // A copy of its own, so that views are aligned and can be written.
    const bytes = new Uint8Array(this.layouts[dtype].bytes);
    bytes.set(given.subarray(0, ownerAt));
    bytes.set(given.subarray(ownerAt), ownerAt + bytes.length - given.length);
    const view = new DataView(bytes.buffer);
    const [count, position, time, knownTime] = [32, 40, 48, 56].map((at) => view.getFloat64(at, true));
    const { cache, recent } = this.numbers(bytes, dtype);
    const times = this.viewTimes(bytes, dtype);
    const owner = Buffer.from(bytes.subarray(ownerAt, headerBytes)).toString('hex');
    return {
      state: { count, position, time, knownTime, cache, recent, times },
      dtype,
      bytes,
      owner: owner === unowned ? null : owner,
    };
  }

  /** Writes the last `fresh` events of the state into its bytes, and whose it is; all others are there already. */
  patch({ state, dtype, bytes }: Omit<OpenedState, 'owner'>, fresh: number, owner: string | null): void {
    const view = new DataView(bytes.buffer);
    view.setUint16(4, version, true);
    view.setUint32(12, bytes.length, true);
    bytes.set(Buffer.from(owner ?? unowned, 'hex'), ownerAt);
    view.setFloat64(32, state.count, true);
    view.setFloat64(40, state.position, true);
    view.setFloat64(48, state.time, true);
    view.setFloat64(56, state.knownTime, true);
    if (dtype !== 'float32')
      for (let back = 1; back <= Math.min(fresh, this.window); back++)
        this.writeEvent(state, dtype, bytes, (state.position - back) % this.window);
    view.setUint32(8, checksum(bytes), true);
  }

  private check(bytes: Uint8Array): StateDtype {
    // Not instanceof: an array of another realm is the same thing.
    if (!ArrayBuffer.isView(bytes) || bytes.BYTES_PER_ELEMENT !== 1) throw new StateFormatError('it is no Uint8Array');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < headerBytes || view.getUint32(0, true) !== magic) throw new StateFormatError('it does not begin as one');
    const found = view.getUint16(4, true);
    if (found > version)
      throw new StateFormatError(
        `it has version ${found}, and this release reads up to ${version}; update @user-llm/user-encoder`,
      );
    if (view.getUint32(12, true) !== bytes.length)
      throw new StateFormatError(`it has ${bytes.length} bytes and should have ${view.getUint32(12, true)}; it was cut`);
    if (view.getUint32(8, true) !== checksum(bytes)) throw new StateFormatError('it was damaged: its CRC-32 differs');
    const hash = (at: number): string => Buffer.from(bytes.subarray(at, at + 32)).toString('hex');
    if (hash(64) !== this.encoder) throw new StateMismatchError('encoder', this.encoder, hash(64));
    if (hash(96) !== this.tokenizer) throw new StateMismatchError('tokenizer', this.tokenizer, hash(96));
    const dtype = dtypes[view.getUint8(6)];
    // The encoder's hash covers its sizes, so this is a state that no release wrote.
    const sizes = [0, 1, 2, 3].map((i) => view.getUint32(16 + 4 * i, true));
    if (
      !dtype ||
      bytes.length !== this.layouts[dtype].bytes - (found === 1 ? ownerBytes : 0) ||
      sizes.join() !== `${[this.layers, this.heads, this.window, this.width]}`
    )
      throw new StateFormatError('its sizes are not those of its encoder');
    return dtype;
  }

  private layout(dtype: StateDtype): Layout {
    const { layers, window, width } = this;
    const times = headerBytes;
    const scales = times + (this.band.position === 'relative-time' ? 8 * window : 0);
    const cache = scales + (dtype === 'int8' ? 4 * (2 * layers + 1) * window : 0);
    const recent = cache + elementBytes[dtype] * 2 * layers * window * width;
    return { times, scales, cache, recent, bytes: recent + elementBytes[dtype] * window * width };
  }

  private viewTimes(bytes: Uint8Array, dtype: StateDtype): Float64Array | null {
    if (this.band.position !== 'relative-time') return null;
    return new Float64Array(bytes.buffer, this.layouts[dtype].times, this.window);
  }

  /** [2 L + 1, W]: a factor for the numbers of one event in one ring. */
  private viewScales(bytes: Uint8Array): Float32Array {
    return new Float32Array(bytes.buffer, this.layouts.int8.scales, (2 * this.layers + 1) * this.window);
  }

  private numbers(bytes: Uint8Array, dtype: StateDtype): { cache: Float32Array; recent: Float32Array } {
    const { layers, heads, window, width } = this;
    const at = this.layouts[dtype];
    const length = 2 * layers * window * width;
    if (dtype === 'float32')
      return {
        cache: new Float32Array(bytes.buffer, at.cache, length),
        recent: new Float32Array(bytes.buffer, at.recent, window * width),
      };
    const cache = new Float32Array(length);
    const recent = new Float32Array(window * width);
    if (dtype === 'float16') {
      fromHalf(new Uint16Array(bytes.buffer, at.cache, length), cache);
      fromHalf(new Uint16Array(bytes.buffer, at.recent, recent.length), recent);
      return { cache, recent };
    }
    const scales = this.viewScales(bytes);
    const rows = new Int8Array(bytes.buffer, at.cache, length);
    const head = width / heads;
    for (let ring = 0, i = 0; ring < 2 * layers; ring++)
      for (let h = 0; h < heads; h++)
        for (let slot = 0; slot < window; slot++) {
          const scale = scales[ring * window + slot];
          for (const end = i + head; i < end; i++) cache[i] = rows[i] * scale;
        }
    const last = new Int8Array(bytes.buffer, at.recent, recent.length);
    for (let slot = 0, i = 0; slot < window; slot++) {
      const scale = scales[2 * layers * window + slot];
      for (const end = i + width; i < end; i++) recent[i] = last[i] * scale;
    }
    return { cache, recent };
  }

  /** One event's numbers in 16 or 8 bits. */
  private writeEvent(state: UserState, dtype: 'float16' | 'int8', bytes: Uint8Array, slot: number): void {
    const { layers, heads, window, width } = this;
    const head = width / heads;
    const at = this.layouts[dtype];
    for (let ring = 0; ring <= 2 * layers; ring++) {
      const isCache = ring < 2 * layers;
      const source = isCache ? state.cache : state.recent;
      // In the caches an event's numbers lie apart, head by head.
      const pieces = isCache ? heads : 1;
      const size = isCache ? head : width;
      const place = (piece: number): number => (isCache ? ((ring * heads + piece) * window + slot) * head : slot * width);
      const begin = isCache ? at.cache : at.recent;
      if (dtype === 'float16') {
        const into = new Uint16Array(bytes.buffer, begin, source.length);
        for (let piece = 0; piece < pieces; piece++)
          for (let i = place(piece), end = i + size; i < end; i++) into[i] = toHalf(source[i]);
        continue;
      }
      let most = 0;
      for (let piece = 0; piece < pieces; piece++)
        for (let i = place(piece), end = i + size; i < end; i++) most = Math.max(most, Math.abs(source[i]));
      const scale = Math.fround(most / 127);
      this.viewScales(bytes)[ring * window + slot] = scale;
      const into = new Int8Array(bytes.buffer, begin, source.length);
      for (let piece = 0; piece < pieces; piece++)
        for (let i = place(piece), end = i + size; i < end; i++) into[i] = scale === 0 ? 0 : Math.round(source[i] / scale);
    }
  }
}
