import type { Macro } from './macro.js';
import { linearCrossEntropyMacro } from './ops/fused-cross-entropy.js';

/** How each operation that is several in ONNX is written. */
export const macros: Readonly<Record<string, Macro>> = { LinearCrossEntropy: linearCrossEntropyMacro };
