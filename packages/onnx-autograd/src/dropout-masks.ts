import { Tensor } from 'onnxruntime-node';
import { bind, type Bindings } from './dim.js';
import type { InputInfo } from './graph-builder.js';
import { elementCount } from './host-tensor.js';
import { Random } from './random.js';

/** Dropout masks of a training run: each depends on the seed, its own name, the step and the part of an accumulated step. */
export class DropoutMasks {
  /** One buffer per mask, as large as the largest so far: sizes may be different in every step. */
  private readonly buffers = new Map<string, Float32Array>();

  constructor(private readonly seed: number) {}

  /** Valid until the next mask of that name. */
  draw({ name, shape, noise }: InputInfo, bindings: Bindings, at: { step: number; part: number }): Tensor {
    const sizes = shape.map((dim) => Number(bind(dim, bindings)));
    const count = elementCount(sizes);
    const known = this.buffers.get(name);
    const buffer = known && known.length >= count ? known : new Float32Array(count);
    this.buffers.set(name, buffer);
    const mask = buffer.subarray(0, count);
    Random.of(this.seed, name, at.step, at.part).fillDropout(mask, noise!.rate);
    return new Tensor('float32', mask, sizes);
  }

  clear(): void {
    this.buffers.clear();
  }
}
