import type { Random } from '@user-llm/onnx-autograd';
import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import type { SparseMatrix } from './co-occurrence.js';

/** Directions beyond those that are asked for, which make the last of these sharp. */
const spare = 16;
/** How often the matrix is applied. */
const rounds = 6;

/** Columns of one matrix [V, width], row by row. */
interface Block {
  readonly rows: number;
  readonly width: number;
  readonly data: Float64Array;
}

/**
 * The eigenvectors of the largest eigenvalues of a symmetric matrix, by randomised subspace iteration (Halko, Martinsson and Tropp, SIAM
 * Review 2011, algorithms 4.4 and 5.3). Takes memory for V (count + 16) numbers twice.
 *
 * @returns vectors [V, count] row by row, and values [count], the largest first; of fewer than `count` positive values the rest is 0
 */
export function leadingVectors(
  matrix: SparseMatrix,
  count: number,
  random: Random,
): { vectors: Float64Array; values: Float64Array } {
  const width = Math.min(matrix.size, count + spare);
  let basis: Block = {
    rows: matrix.size,
    width,
    data: Float64Array.from({ length: matrix.size * width }, () => random.next() - 0.5),
  };
  for (let round = 0; round < rounds; round++) basis = orthonormal(applied(matrix, basis));
  // Once more: what was far from orthogonal is so up to rounding now.
  basis = orthonormal(basis);
  const inBasis = new EigenvalueDecomposition(products(basis, applied(matrix, basis)), { assumeSymmetric: true });
  const order = inBasis.realEigenvalues
    .map((value, column) => ({ value, column }))
    .filter(({ value }) => value > 0)
    .sort((a, b) => b.value - a.value)
    .slice(0, count);
  const turn = new Matrix(width, count);
  const values = new Float64Array(count);
  order.forEach(({ value, column }, i) => {
    values[i] = value;
    for (let row = 0; row < width; row++) turn.set(row, i, inBasis.eigenvectorMatrix.get(row, column));
  });
  return { vectors: turned(basis, turn).data, values };
}

/** matrix x block */
function applied({ size, starts, columns, values }: SparseMatrix, { width, data }: Block): Block {
  const result = new Float64Array(size * width);
  for (let row = 0; row < size; row++)
    for (let i = starts[row]; i < starts[row + 1]; i++) {
      const from = columns[i] * width;
      for (let column = 0; column < width; column++) result[row * width + column] += values[i] * data[from + column];
    }
  return { rows: size, width, data: result };
}

/** An orthonormal basis of the block's columns; columns that depend on others become 0. */
function orthonormal(block: Block): Block {
  const { width } = block;
  const decomposition = new EigenvalueDecomposition(products(block, block), { assumeSymmetric: true });
  const { realEigenvalues: values, eigenvectorMatrix: turn } = decomposition;
  const least = 1e-14 * Math.max(...values);
  for (let column = 0; column < width; column++) {
    const factor = values[column] > least ? 1 / Math.sqrt(values[column]) : 0;
    for (let row = 0; row < width; row++) turn.set(row, column, factor * turn.get(row, column));
  }
  return turned(block, turn);
}

/** a^T b, which is symmetric for the blocks here. */
function products({ rows, width, data: a }: Block, { data: b }: Block): Matrix {
  const sums = new Float64Array(width * width);
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < width; i++) {
      const x = a[row * width + i];
      if (x !== 0) for (let j = 0; j <= i; j++) sums[i * width + j] += x * b[row * width + j];
    }
  const result = new Matrix(width, width);
  for (let i = 0; i < width; i++)
    for (let j = 0; j <= i; j++) {
      result.set(i, j, sums[i * width + j]);
      result.set(j, i, sums[i * width + j]);
    }
  return result;
}

/** block x turn */
function turned({ rows, width, data }: Block, turn: Matrix): Block {
  const columns = turn.columns;
  const factors = Float64Array.from(turn.to1DArray());
  const result = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < width; i++) {
      const x = data[row * width + i];
      if (x !== 0) for (let j = 0; j < columns; j++) result[row * columns + j] += x * factors[i * columns + j];
    }
  return { rows, width: columns, data: result };
}
