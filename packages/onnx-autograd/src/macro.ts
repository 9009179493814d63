import type { Bindings } from './dim.js';
import type { AttributeValue, Node } from './graph-builder.js';

/** Operations of this domain are written as several ONNX nodes, once the sizes of a session are known. */
export const macroDomain = '#macro';

export interface MacroContext {
  readonly node: Node;
  /** Names of the values that it reads and makes. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Which outputs are read by something; the others need not be made. */
  readonly read: readonly boolean[];
  readonly bindings: Bindings;
  /** Writes a node with one output and returns that output's name. */
  write(
    operation: string,
    inputs: readonly string[],
    output: string,
    attributes?: Readonly<Record<string, AttributeValue>>,
  ): string;
  int64(name: string, values: readonly number[]): string;
  bool(name: string, value: boolean): string;
  float32(name: string, shape: readonly number[], data: Float32Array): string;
}

export interface Macro {
  /** Products of the first input's rows and width with the second input's rows: what the operation costs. */
  readonly products: number;
  emit(context: MacroContext): void;
}
