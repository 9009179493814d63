import { TestEnvironment } from 'jest-environment-node';

// Jest runs tests in a realm of its own, whose typed arrays onnxruntime's native binding does not recognise.
// The outer realm's constructors are the ones it was compiled against.
const shared = [
  ArrayBuffer,
  SharedArrayBuffer,
  DataView,
  Uint8Array,
  Int8Array,
  Uint8ClampedArray,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  BigInt64Array,
  BigUint64Array,
  Float32Array,
  Float64Array,
];

export default class OnnxEnvironment extends TestEnvironment {
  async setup() {
    await super.setup();
    for (const constructor of shared) this.global[constructor.name] = constructor;
    if (globalThis.Float16Array) this.global.Float16Array = globalThis.Float16Array;
  }
}
