import { AutogradError } from './errors.js';

/**
 * One axis of a shape: a number, or an expression of named axes known when the graph runs. An expression is a sum of
 * products, kept in one canonical spelling ('2*batch*events+1'), so that two equal axes are equal strings.
 */
export type Dim = number | string;

/** Sizes of the named axes. */
export type Bindings = Readonly<Record<string, number>>;

type Polynomial = Map<string, number>; // product of names, sorted and joined by '*' ('' for a constant) -> coefficient

const parsed = new Map<string, Polynomial>();

function parse(dim: Dim): Polynomial {
  if (typeof dim === 'number') return new Map(dim === 0 ? [] : [['', dim]]);
  const known = parsed.get(dim);
  if (known) return known;
  const result: Polynomial = new Map();
  for (const term of dim.replace(/\s/g, '').replace(/-/g, '+-').split('+')) {
    if (term === '') continue;
    let coefficient = 1;
    const names: string[] = [];
    for (const factor of term.split('*')) {
      const negative = factor.startsWith('-');
      const body = negative ? factor.slice(1) : factor;
      if (negative) coefficient = -coefficient;
      if (/^\d+$/.test(body)) coefficient *= Number(body);
      else if (/^[A-Za-z_]\w*$/.test(body)) names.push(body);
      else
        throw new AutogradError(`'${dim}' is not an axis: use a number, a name, or a sum of products such as '2*batch*events'`);
    }
    const key = names.sort().join('*');
    result.set(key, (result.get(key) ?? 0) + coefficient);
  }
  for (const [key, coefficient] of result) if (coefficient === 0) result.delete(key);
  parsed.set(dim, result);
  return result;
}

function format(polynomial: Polynomial): Dim {
  const terms = [...polynomial].filter(([, coefficient]) => coefficient !== 0);
  if (terms.length === 0) return 0;
  if (terms.length === 1 && terms[0][0] === '') return terms[0][1];
  terms.sort(([a], [b]) => (a === '' ? 1 : b === '' ? -1 : a < b ? -1 : 1));
  return terms
    .map(([key, coefficient]) =>
      key === '' ? `${coefficient}` : coefficient === 1 ? key : coefficient === -1 ? `-${key}` : `${coefficient}*${key}`,
    )
    .join('+')
    .replaceAll('+-', '-');
}

/** The canonical spelling of an axis. */
export const canonical = (dim: Dim): Dim => (typeof dim === 'number' ? dim : format(parse(dim)));

export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  const sum: Polynomial = new Map(parse(a));
  for (const [key, coefficient] of parse(b)) sum.set(key, (sum.get(key) ?? 0) + coefficient);
  return format(sum);
}

export function multiplyDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a * b;
  const product: Polynomial = new Map();
  for (const [left, x] of parse(a))
    for (const [right, y] of parse(b)) {
      const key = [...left.split('*'), ...right.split('*')].filter(Boolean).sort().join('*');
      product.set(key, (product.get(key) ?? 0) + x * y);
    }
  return format(product);
}

export const subtractDims = (a: Dim, b: Dim): Dim => addDims(a, multiplyDims(-1, b));

/** a / b when b is one product that divides every term of a, otherwise undefined. */
export function divideDims(a: Dim, b: Dim): Dim | undefined {
  if (a === b) return 1;
  const divisor = [...parse(b)];
  if (divisor.length !== 1) return undefined;
  const [names, coefficient] = divisor[0];
  const quotient: Polynomial = new Map();
  for (const [key, value] of parse(a)) {
    if (value % coefficient !== 0) return undefined;
    const left = key.split('*').filter(Boolean);
    for (const name of names.split('*').filter(Boolean)) {
      const at = left.indexOf(name);
      if (at < 0) return undefined;
      left.splice(at, 1);
    }
    quotient.set(left.join('*'), value / coefficient);
  }
  return format(quotient);
}

/** The product of all axes: the number of elements. */
export const sizeOf = (shape: readonly Dim[]): Dim => shape.reduce(multiplyDims, 1);

/** Products of an axis as [coefficient, names], for computing it while a graph runs. */
export const termsOf = (dim: Dim): { coefficient: number; names: string[] }[] =>
  [...parse(dim)].map(([key, coefficient]) => ({ coefficient, names: key.split('*').filter(Boolean) }));

/** The names that an axis is made of. */
export const namesOf = (dim: Dim): string[] =>
  typeof dim === 'number' ? [] : [...new Set(termsOf(dim).flatMap((term) => term.names))];

/** The axis with known names replaced by their sizes; a number when all are known. */
export function bind(dim: Dim, bindings: Bindings): Dim {
  if (typeof dim === 'number') return dim;
  let result: Dim = 0;
  for (const { coefficient, names } of termsOf(dim)) {
    let product: Dim = coefficient;
    for (const name of names) product = multiplyDims(product, Object.hasOwn(bindings, name) ? bindings[name] : name);
    result = addDims(result, product);
  }
  return result;
}

export const formatShape = (shape: readonly Dim[]): string => `[${shape.join(', ')}]`;

export const sameShape = (a: readonly Dim[], b: readonly Dim[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);
