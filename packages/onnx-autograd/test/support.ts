import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Random } from '../src/index.js';
import { graph, Program, type Dim, type DType, type HostTensor, type Tensor, type TypedArray } from '../src/index.js';

/** Reference outputs of other implementations lie beside the repository, where a developer has them. */
const root = path.dirname(path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url)))));
export const fixtures = path.join(process.env.USER_LLM_SHARED ?? path.join(root, '../shared'), 'fixtures/training');
export const haveFixtures = existsSync(fixtures);
if (!haveFixtures)
  console.warn(
    `skipping the comparison with PyTorch: there is no ${path.relative(root, fixtures)}; set USER_LLM_SHARED to the folder that holds it`,
  );

export const f32 = (data: readonly number[] | Float32Array, shape: readonly number[] = [data.length]): HostTensor => ({
  dtype: 'float32',
  data: Float32Array.from(data),
  shape,
});
export const i32 = (data: readonly number[] | Int32Array, shape: readonly number[] = [data.length]): HostTensor => ({
  dtype: 'int32',
  data: Int32Array.from(data),
  shape,
});
export const numbers = (tensor: HostTensor): number[] => Array.from(tensor.data as Float32Array, Number);

export function randomTensor(random: Random, shape: readonly number[], low = -1.5, high = 1.5): HostTensor {
  return f32(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => low + (high - low) * random.next()),
    shape,
  );
}

/** The largest difference, relative to the largest reference value (or 1). */
export function difference(actual: HostTensor, expected: { data: TypedArray; shape: readonly number[] }): number {
  if (actual.shape.join() !== expected.shape.join()) throw new Error(`shape [${actual.shape}] instead of [${expected.shape}]`);
  const a = actual.data as Float32Array;
  const e = expected.data as Float32Array;
  const scale = e.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  let worst = 0;
  for (let i = 0; i < e.length; i++) worst = Math.max(worst, Number.isFinite(a[i]) ? Math.abs(a[i] - e[i]) / scale : Infinity);
  return worst;
}

/** Builds and runs a function on tensors once, without axes bound: named axes are found while it runs. */
export async function compute(
  inputs: Record<string, { tensor: HostTensor; shape?: readonly Dim[]; dtype?: DType }>,
  body: (tensors: Record<string, Tensor>) => Record<string, Tensor>,
): Promise<Record<string, HostTensor>> {
  const definition = graph(({ input }) =>
    body(
      Object.fromEntries(
        Object.entries(inputs).map(([name, { tensor, shape, dtype }]) => [
          name,
          input(name, shape ?? tensor.shape, dtype ?? tensor.dtype),
        ]),
      ),
    ),
  );
  const program = await Program.create(definition, { weights: new Map(), threads: 1 });
  try {
    return await program.run(Object.fromEntries(Object.entries(inputs).map(([name, { tensor }]) => [name, tensor])));
  } finally {
    await program.dispose();
  }
}
