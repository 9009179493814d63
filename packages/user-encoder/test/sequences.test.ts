import { describe, expect, test } from '@jest/globals';
import { Random } from '@user-llm/onnx-autograd';
import { EncoderOptionError } from '../src/index.js';
import { checkAugmentation, part, Sequences, type Augmentation } from '../src/sequences.js';
import { cinema } from './support.js';

const { events } = await cinema({ users: 6, events: 20 });
// The last event of every user is held out.
const spans = events.users.map((_, user) => ({ start: events.offsets[user], end: events.offsets[user + 1] - 1 }));
const sequences = (augmentation: Augmentation): Sequences => new Sequences(events, spans, augmentation);
const window = { start: spans[1].start, end: spans[1].end };
const whole = Array.from({ length: window.end - window.start }, (_, i) => window.start + i);
const many = Array.from({ length: 400 }, (_, i) => Random.of('sequences', i));
const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

describe('augmentation', () => {
  test('none leaves a window as it is', () => {
    const found = sequences({}).of(window, Random.of(1));
    expect([...found.events]).toEqual(whole);
    expect([...found.read]).toEqual(whole);
    expect(found.unknown.some((flag) => flag !== 0)).toBe(false);
    expect(found.first).toBe(true);
    expect(sequences({}).of({ start: window.start + 1, end: window.end }, Random.of(1)).first).toBe(false);
  });

  test('is the same for the same stream of random numbers', () => {
    const all = sequences({ crop: 0.5, drop: 0.2, swap: 0.2, corrupt: 0.2, unknown: 0.2 });
    expect(all.of(window, Random.of(7))).toEqual(all.of(window, Random.of(7)));
    expect(all.of(window, Random.of(7))).not.toEqual(all.of(window, Random.of(8)));
  });

  test('crop keeps a run of half the events or more', () => {
    const found = many.map((random) => sequences({ crop: 0.5 }).of(window, random));
    for (const { events: kept, first } of found) {
      expect(kept.length).toBeGreaterThanOrEqual(Math.ceil(whole.length / 2));
      kept.forEach((event, i) => expect(event).toBe(kept[0] + i));
      expect(first).toBe(kept[0] === window.start);
    }
    const cut = found.filter(({ events: kept }) => kept.length < whole.length).length / found.length;
    // One crop in nine or so keeps everything.
    expect(cut).toBeGreaterThan(0.36);
    expect(cut).toBeLessThan(0.54);
  });

  test('drop leaves events out, never more than all but two', () => {
    const sizes = many.map((random) => sequences({ drop: 0.3 }).of(window, random).events.length);
    expect(Math.abs(mean(sizes) / whole.length - 0.7)).toBeLessThan(0.03);
    for (const random of many)
      expect(sequences({ drop: 0.95 }).of({ start: 0, end: 4 }, random).events.length).toBeGreaterThanOrEqual(2);
  });

  test('swap moves events by one place at most and loses none', () => {
    const found = many.map((random) => sequences({ swap: 0.2 }).of(window, random).events);
    for (const kept of found) {
      expect([...kept].sort((a, b) => a - b)).toEqual(whole);
      kept.forEach((event, i) => expect(Math.abs(event - whole[i])).toBeLessThanOrEqual(1));
    }
    expect(found.filter((kept) => kept.some((event, i) => event !== whole[i])).length).toBeGreaterThan(350);
  });

  test('corrupt changes what is read and not what is predicted, and never reads what is held out', () => {
    const held = new Set(spans.map(({ end }) => end));
    const found = many.map((random) => sequences({ corrupt: 0.25 }).of(window, random));
    for (const { events: happened, read } of found) {
      expect([...happened]).toEqual(whole);
      for (const event of read) expect(held.has(event)).toBe(false);
    }
    const changed = mean(found.map(({ read }) => read.filter((event, i) => event !== whole[i]).length / whole.length));
    expect(Math.abs(changed - 0.25)).toBeLessThan(0.03);
  });

  test('unknown hides so many items', () => {
    const share = mean(many.map((random) => mean([...sequences({ unknown: 0.4 }).of(window, random).unknown])));
    expect(Math.abs(share - 0.4)).toBeLessThan(0.03);
  });

  test('what is no probability is refused', () => {
    expect(() => checkAugmentation({ drop: 1 })).toThrow(EncoderOptionError);
    expect(() => checkAugmentation({ crop: -0.1 })).toThrow("option 'augmentation.crop': -0.1 is outside [0, 1)");
    expect(() => checkAugmentation({ shuffle: 0.1 } as Augmentation)).toThrow('there are crop, drop, swap, corrupt, unknown');
  });
});

test('a part of a sequence', () => {
  const found = part(sequences({}).of(window, Random.of(1)), 2, 5);
  expect([...found.events]).toEqual(whole.slice(2, 5));
  expect(found.first).toBe(false);
});
