import { bind } from '../dim.js';
import type { GraphBuilder } from '../graph-builder.js';
import { macroDomain, type Macro, type MacroContext } from '../macro.js';
import type { Tensor } from '../tensor.js';

/** Probabilities of one chunk of rows, 16 MB: few enough for a cache, enough rows for products at full speed (4 MB and 32 MB are slower). */
const chunkElements = 1 << 22;

/** A chunk of fewer rows would read the table too often to pay. */
const fewestRows = 256;

export interface FusedCrossEntropy {
  /** softmax(x table^T)[i, target_i], [N, 1] */
  readonly picked: Tensor;
  /** softmax(x table^T) table, [N, D] */
  readonly expected: Tensor;
  /** softmax(x table^T)^T weighted, [V, D] */
  readonly transposed: Tensor;
}

/**
 * What the mean of `linearCrossEntropy` and its gradients need of the probabilities [N, V], in one operation that is written
 * as chunks of rows: the probabilities of a chunk are made, read three times while they are in cache, and forgotten. They
 * would otherwise be the largest tensor of a next-item model by far, written and read from memory four times.
 */
export function fusedCrossEntropy(x: Tensor, table: Tensor, targets: Tensor, weighted: Tensor): FusedCrossEntropy {
  const [rows, width] = x.shape;
  const [classes] = table.shape;
  const [picked, expected, transposed] = x.graph.operator(
    'LinearCrossEntropy',
    [x, table, targets.reshape([rows, 1]), weighted],
    {
      domain: macroDomain,
      outputs: [
        { dtype: x.dtype, shape: [rows, 1] },
        { dtype: x.dtype, shape: [rows, width] },
        { dtype: x.dtype, shape: [classes, width] },
      ],
    },
  );
  return { picked, expected, transposed };
}

/** Rows of every chunk but the last; all of them where chunks do not pay or the number of rows or classes is not known yet. */
function chunkRows(rows: number | undefined, classes: number): number {
  if (rows === undefined) return Infinity;
  const fitting = Math.floor(chunkElements / classes / 16) * 16;
  return fitting < fewestRows || rows < 2 * fitting ? Infinity : fitting;
}

export const linearCrossEntropyMacro: Macro = {
  products: 3,

  emit({
    node,
    inputs: [x, table, targets, weighted],
    outputs: [picked, expected, transposed],
    read,
    bindings,
    write,
    int64,
    bool,
    float32,
  }: MacroContext) {
    const [wantsExpected, wantsTransposed] = [read[1], read[2]];
    const bound = bind(node.inputs[0]!.shape[0], bindings);
    const rows = typeof bound === 'number' ? bound : undefined;
    const classes = bind(node.inputs[1]!.shape[0], bindings);
    const size = chunkRows(rows, typeof classes === 'number' ? classes : Infinity);
    const count = rows === undefined || size === Infinity ? 1 : Math.ceil(rows / size);
    const prefix = `#${node.id}`;
    const yes = wantsTransposed ? bool(`${prefix}.true`, true) : '';
    const axis = count === 1 ? '' : int64(`${prefix}.rows`, [0]);
    const corner = wantsTransposed
      ? [int64(`${prefix}.zero`, [0, 0]), int64(`${prefix}.one`, [1, 1]), int64(`${prefix}.both`, [0, 1])]
      : [];
    const parts: { picked: string[]; expected: string[] } = { picked: [], expected: [] };
    // The table's columns, once. By a product with the unit matrix: onnxruntime would move a Transpose into every chunk's product.
    const width = Number(node.inputs[1]!.shape[1]);
    const unit = float32(`${prefix}.unit`, [width, width], unitMatrix(width));
    const columns = write('Gemm', [unit, table], `${prefix}.columns`, { transB: 1 });
    // weighted^T probabilities, [D, V]: a product reads a transposed operand slowly, and of the two this is the narrow one.
    let sum = '';
    const addUp = (weights: string, probabilities: string, name: string): string =>
      write('Gemm', [weights, probabilities, ...(sum ? [sum] : [])], name, { transA: 1 });
    for (let chunk = 0; chunk < count; chunk++) {
      const name = (part: string): string => `${prefix}.${part}.${chunk}`;
      const from = count === 1 ? '' : int64(name('from'), [chunk * size]);
      const to = count === 1 ? '' : int64(name('to'), [Math.min(rows!, (chunk + 1) * size)]);
      const sliced = (source: string, part: string): string =>
        count === 1 ? source : write('Slice', [source, from, to, axis], name(part));
      /** The first value, made no earlier than the second: keeps a chunk's operations together in the order that they run in. */
      const after = (value: string, earlier: string, part: string): string => write('Where', [yes, value, earlier], name(part));

      const logits = write('MatMul', [sliced(x, 'x'), columns], name('logits'));
      const probabilities = write('Softmax', [logits], name('probabilities'), { axis: -1 });
      let pick = write('GatherElements', [probabilities, sliced(targets, 'targets')], name('picked'), { axis: 1 });
      let mark = '';
      if (wantsExpected) {
        let product = write('MatMul', [probabilities, table], name('expected'));
        if (wantsTransposed) {
          const operand = after(after(sliced(weighted, 'weighted'), product, 'after'), pick, 'afterwards');
          sum = addUp(operand, probabilities, name('sum'));
          mark = write('Slice', [sum, ...corner], name('mark'));
          product = after(product, mark, 'expected.late');
        }
        parts.expected.push(product);
      } else if (wantsTransposed) {
        sum = addUp(after(sliced(weighted, 'weighted'), pick, 'after'), probabilities, name('sum'));
        mark = write('Slice', [sum, ...corner], name('mark'));
      }
      if (mark && wantsTransposed) pick = after(pick, mark, 'picked.late');
      parts.picked.push(pick);
    }
    write('Concat', parts.picked, picked, { axis: 0 });
    if (wantsExpected) write('Concat', parts.expected, expected, { axis: 0 });
    if (wantsTransposed) write('Gemm', [sum, unit], transposed, { transA: 1 });
  },
};

function unitMatrix(width: number): Float32Array {
  const unit = new Float32Array(width * width);
  for (let i = 0; i < width; i++) unit[i * width + i] = 1;
  return unit;
}

/** Whether the fused form is worth building: a graph that is differentiated. */
export const fuses = (graph: GraphBuilder): boolean => graph.training;
