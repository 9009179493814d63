/** How strongly a coefficient is held at zero, next to the mean variance of an input. */
const strength = 0.1;

/**
 * A linear function from rows of `inputs` to rows of `outputs`, both `[rows, width]`: least squares with an intercept and a penalty on
 * the coefficients (Hoerl and Kennedy, Technometrics 1970). Without rows it is zero.
 */
export function fitRidge(inputs: Float32Array, outputs: Float32Array, width: number): (input: ArrayLike<number>) => Float64Array {
  const rows = inputs.length / width;
  const inputMean = columnMeans(inputs, width);
  const outputMean = columnMeans(outputs, width);
  const gram = new Float64Array(width * width);
  const moments = new Float64Array(width * width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) {
      const x = inputs[row * width + i] - inputMean[i];
      for (let j = 0; j <= i; j++) gram[i * width + j] += x * (inputs[row * width + j] - inputMean[j]);
      for (let j = 0; j < width; j++) moments[i * width + j] += x * (outputs[row * width + j] - outputMean[j]);
    }
  }
  let trace = 0;
  for (let i = 0; i < width; i++) trace += gram[i * width + i];
  const coefficients =
    trace > 0 ? solve(gram, moments, width, width, (strength * trace) / width) : new Float64Array(width * width);
  return (input) => {
    const output = Float64Array.from(outputMean);
    for (let i = 0; i < width; i++) {
      const x = input[i] - inputMean[i];
      for (let j = 0; j < width; j++) output[j] += x * coefficients[i * width + j];
    }
    return output;
  };
}

function columnMeans(values: Float32Array, width: number): Float64Array {
  const means = new Float64Array(width);
  const rows = values.length / width;
  for (let i = 0; i < values.length; i++) means[i % width] += values[i] / rows;
  return means;
}

/**
 * Solves (A + ridge I) X = B, A `[size, size]` and positive semidefinite, B `[size, columns]`, by Cholesky's decomposition; of A the lower
 * half is read, and overwritten. Returns X in B's place.
 */
export function solve(a: Float64Array, b: Float64Array, size: number, columns: number, ridge: number): Float64Array {
  for (let i = 0; i < size; i++) {
    a[i * size + i] += ridge;
    for (let j = 0; j <= i; j++) {
      let sum = a[i * size + j];
      for (let k = 0; k < j; k++) sum -= a[i * size + k] * a[j * size + k];
      a[i * size + j] = i === j ? Math.sqrt(sum) : sum / a[j * size + j];
    }
  }
  const substitute = (row: number, from: number, factor: number) => {
    for (let column = 0; column < columns; column++) b[row * columns + column] -= factor * b[from * columns + column];
  };
  const divide = (row: number) => {
    for (let column = 0; column < columns; column++) b[row * columns + column] /= a[row * size + row];
  };
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < i; k++) substitute(i, k, a[i * size + k]);
    divide(i);
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++) substitute(i, k, a[k * size + i]);
    divide(i);
  }
  return b;
}
