import { FIRST_VALUE_ID, takeUsers } from '@user-llm/event-tokenizer';
import { Random } from '@user-llm/onnx-autograd';
import { afterAll, describe, expect, test } from '@jest/globals';
import { coOccurrence, type SparseMatrix } from '../src/co-occurrence.js';
import { EncoderOptionError, nextEvent, sampledSoftmax, UserEncoder } from '../src/index.js';
import { leadingVectors } from '../src/leading-vectors.js';
import { cinema, small } from './support.js';

/** [V][V] */
function dense({ size, starts, columns, values }: SparseMatrix): number[][] {
  const rows = Array.from({ length: size }, () => new Array<number>(size).fill(0));
  for (let row = 0; row < size; row++) for (let i = starts[row]; i < starts[row + 1]; i++) rows[row][columns[i]] += values[i];
  return rows;
}

const sparse = (rows: readonly (readonly number[])[]): SparseMatrix => {
  const starts = [0];
  const columns: number[] = [];
  const values: number[] = [];
  for (const row of rows) {
    row.forEach((value, column) => value !== 0 && (columns.push(column), values.push(value)));
    starts.push(columns.length);
  }
  const arrays = { starts: Float64Array.from(starts), columns: Int32Array.from(columns), values: Float32Array.from(values) };
  return { size: rows.length, ...arrays };
};

describe('how often items stand near each other', () => {
  test('is told against chance, fades with the distance, and leaves out special ids and an item beside itself', () => {
    // Two users; 1 is an unknown item.
    const ids = Int32Array.of(4, 5, 1, 6, 5, 5, 4, 5);
    const found = dense(
      coOccurrence(
        ids,
        [
          { start: 0, end: 5 },
          { start: 5, end: 8 },
        ],
        7,
      ),
    );
    const near = (a: number, b: number): number => {
      const pairs: Record<string, number> = {
        '4,5': 1 + 0.8 ** 3 + (1 + 1), // 4 5 . . 5, then 5 4 and 4 5
        '4,6': 0.8 ** 2,
        '5,6': 0.8 + 1, // 5 . 6 and 6 5
      };
      return pairs[[Math.min(a, b), Math.max(a, b)].join()] ?? 0;
    };
    const items = [4, 5, 6];
    const count = (a: number): number => items.reduce((sum, b) => sum + near(a, b), 0);
    const total = items.reduce((sum, a) => sum + count(a), 0);
    for (let a = 0; a < 7; a++)
      for (let b = 0; b < 7; b++) {
        const chance = a >= FIRST_VALUE_ID && b >= FIRST_VALUE_ID ? ((count(a) + 1) * (count(b) + 1)) / total : 1;
        expect(found[a][b]).toBeCloseTo(Math.max(0, Math.log(near(a, b) / chance)), 5);
      }
    expect(found[4][5]).toBeGreaterThan(0);
  });

  test('is symmetric, and is the same for the same log', async () => {
    const { events } = await cinema({ users: 10, films: 12 });
    const { ids } = events.fields.film as { ids: Int32Array };
    const spans = events.users.map((_, user) => ({ start: events.offsets[user], end: events.offsets[user + 1] }));
    const found = dense(coOccurrence(ids, spans, 16));
    for (let a = 0; a < 16; a++) for (let b = 0; b < 16; b++) expect(found[a][b]).toBe(found[b][a]);
    expect(dense(coOccurrence(ids, spans, 16))).toEqual(found);
  });
});

describe('leading vectors', () => {
  const random = Random.of(7);
  const size = 40;
  const entries = Array.from({ length: size }, () => Array.from({ length: size }, () => random.next() - 0.3));
  const symmetric = entries.map((row, i) => row.map((value, j) => value + entries[j][i]));

  test('are eigenvectors of the largest eigenvalues, of length one and at right angles', () => {
    const { vectors, values } = leadingVectors(sparse(symmetric), 4, Random.of(1));
    const column = (i: number): number[] => Array.from({ length: size }, (_, row) => vectors[row * 4 + i]);
    const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i], 0);
    for (let i = 0; i < 4; i++) {
      const v = column(i);
      const applied = symmetric.map((row) => dot(row, v));
      // The last ones are the least sharp.
      for (let row = 0; row < size; row++) expect(Math.abs(applied[row] - values[i] * v[row])).toBeLessThan(0.05 * values[0]);
      for (let j = 0; j <= i; j++) expect(dot(v, column(j))).toBeCloseTo(i === j ? 1 : 0, 9);
    }
    expect([...values]).toEqual([...values].sort((a, b) => b - a));
    // Nothing that is at right angles to the first is stretched more than the second.
    const trial = Array.from({ length: size }, () => random.next() - 0.5);
    const rest = trial.map((x, row) => x - dot(trial, column(0)) * column(0)[row]);
    const stretched = dot(
      rest,
      symmetric.map((row) => dot(row, rest)),
    );
    expect(stretched / dot(rest, rest)).toBeLessThan(values[1] * 1.001);
  });

  test('of a matrix of low rank give the matrix back, and nothing beyond its rank', () => {
    const factor = Array.from({ length: size }, () => [random.next(), random.next() - 0.5]);
    const product = factor.map((a) => factor.map((b) => a[0] * b[0] + a[1] * b[1]));
    const { vectors, values } = leadingVectors(sparse(product), 5, Random.of(1));
    for (let a = 0; a < size; a++)
      for (let b = 0; b < size; b++) {
        let sum = 0;
        for (let i = 0; i < 5; i++) sum += values[i] * vectors[a * 5 + i] * vectors[b * 5 + i];
        expect(sum).toBeCloseTo(product[a][b], 4);
      }
    expect([...values].filter((value) => value > 1e-4 * values[0])).toHaveLength(2);
  });

  test('of a matrix of nothing, and of one smaller than what is asked for, are finite', () => {
    const nothing = leadingVectors(sparse(Array.from({ length: 3 }, () => [0, 0, 0])), 2, Random.of(1));
    expect([...nothing.values]).toEqual([0, 0]);
    const few = leadingVectors(
      sparse([
        [0, 2],
        [2, 0],
      ]),
      4,
      Random.of(1),
    );
    expect(few.values[0]).toBeCloseTo(2, 9);
    expect([...few.values.subarray(1)]).toEqual([0, 0, 0]);
    for (const { vectors } of [nothing, few]) expect(vectors.every(Number.isFinite)).toBe(true);
  });
});

const { tokenizer, events } = await cinema({ users: 24, films: 40 });
const encoder = UserEncoder.create(tokenizer, small, { threads: 1 });
afterAll(() => encoder.dispose());

describe('training that starts from them', () => {
  const settings = { steps: 1, batch: 8, learningRate: 1e-30, validation: 'none', threads: 1 } as const;
  const table = ({ weights }: UserEncoder): Float32Array => weights.get('encoder.fields.film')!.data as Float32Array;
  const near = (of: UserEncoder, a: string, b: string): number => {
    const { width } = of.config;
    const [x, y] = [a, b].map((film) => tokenizer.id('film', film)).map((id) => table(of).subarray(id * width, (id + 1) * width));
    const dot = (p: Float32Array, q: Float32Array): number => p.reduce((sum, value, i) => sum + value * q[i], 0);
    return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
  };

  test('has items near each other that stand near each other: the default for an encoder as it was created', async () => {
    const started = await encoder.pretrain(events, settings).result;
    expect(started.training!.itemVectors).toBe('co-occurrence');
    // The next film is the one before plus three.
    expect(near(started, 'film-3', 'film-6')).toBeGreaterThan(near(started, 'film-3', 'film-23') + 0.3);
    const again = await encoder.pretrain(events, settings).result;
    expect(again.hash).toBe(started.hash);
    const further = await started.pretrain(events, settings).result;
    expect(further.training!.itemVectors).toBe('as-they-are');
    expect(table(further)).toEqual(table(started));
  });

  test('can be left out, or be asked for', async () => {
    const left = await encoder.pretrain(events, { ...settings, itemVectors: 'as-they-are' }).result;
    expect(table(left)).toEqual(table(encoder));
    const asked = await left.pretrain(events, { ...settings, itemVectors: 'co-occurrence' }).result;
    expect(table(asked)).toEqual(table(await encoder.pretrain(events, settings).result));
    await expect(encoder.pretrain(events, { itemVectors: 'word2vec' as never }).result).rejects.toThrow(EncoderOptionError);
  });

  test('does not see what is held out', async () => {
    const held = takeUsers(events, [0]);
    const whole = await encoder.pretrain(held, { ...settings, validation: 'last' }).result;
    expect(whole.training!.itemVectors).toBe('co-occurrence');
    expect(table(whole).every(Number.isFinite)).toBe(true);
    const last = (held.fields.film as { ids: Int32Array }).ids[held.offsets[1] - 1];
    const { width } = encoder.config;
    const row = ({ weights }: UserEncoder): Float32Array =>
      (weights.get('encoder.fields.film')!.data as Float32Array).subarray(last * width, (last + 1) * width);
    // Nothing else is known of that film: its vector is as it was.
    expect(row(whole)).toEqual(row(encoder));
  });

  test('goes for item tables of rows as well', async () => {
    const objective = nextEvent({ loss: sampledSoftmax({ negatives: 4 }) });
    const rows = await encoder.pretrain(events, { ...settings, objective, itemTable: 'rows' }).result;
    const whole = await encoder.pretrain(events, { ...settings, objective }).result;
    expect(rows.training!.itemVectors).toBe('co-occurrence');
    expect(table(rows)).toEqual(table(whole));
  });
});
