import { expect, test } from '@jest/globals';
import { addCosts, decoderFlops, machineDescription, matmulFlops, measureScaling, processorOf } from '../src/index.js';
import { generationOf, widestOf } from '../src/machine.js';

test('scaling: one row per length, medians of what the requests report, sides interleaved, the first round not counted', async () => {
  const calls: string[] = [];
  const rows = await measureScaling({
    events: [50, 100, 200],
    users: ['ann', 'bob'],
    repeats: 3,
    textPrompt: (user, events) => {
      calls.push(`text ${user} ${events}`);
      const warmUp = calls.filter((call) => call === calls.at(-1)).length === 1;
      return { tokens: events * 14, ms: warmUp ? 1e6 : events };
    },
    userLlm: (user, events) => {
      calls.push(`llm ${user} ${events}`);
      return { tokens: 12, ms: 5 };
    },
  });
  expect(rows.map(({ events, ratio }) => [events, ratio])).toEqual([
    [50, 10],
    [100, 20],
    [200, 40],
  ]);
  expect(rows[2]).toMatchObject({
    textPrompt: { tokens: 2800, p50Ms: 200 },
    userLlm: { tokens: 12, p50Ms: 5 },
    users: 2,
    repeats: 3,
  });
  expect(calls).toHaveLength(2 * 2 * 3 * 4);
  const first = calls.filter((_, i) => i % 2 === 0).map((call) => call.split(' ')[0]);
  expect(first.filter((side) => side === 'text').length).toBe(first.length / 2);
});

test('scaling: the side that goes first alternates from round to round, whoever watches', async () => {
  const sides: string[] = [];
  const ask = (side: string) => () => {
    sides.push(side);
    return { tokens: 12 };
  };
  await measureScaling({
    events: [50],
    users: ['ann'],
    repeats: 2,
    textPrompt: ask('text'),
    userLlm: ask('llm'),
    onProgress: () => undefined,
  });
  expect(sides).toEqual(['text', 'llm', 'llm', 'text', 'text', 'llm']);
});

test('scaling: a prompt that does not fit is null, not slow', async () => {
  const [row] = await measureScaling({
    events: [200],
    users: ['ann'],
    repeats: 1,
    textPrompt: () => null,
    userLlm: () => ({ tokens: 12 }),
  });
  expect(row.textPrompt).toEqual({ tokens: null, p50Ms: null, p95Ms: null });
  expect(row.ratio).toBeNull();
  expect(row.userLlm.p50Ms).toBeGreaterThanOrEqual(0);
});

test('scaling: no user with that many events is an error that says so', async () => {
  const nobody = measureScaling({ events: [1000], users: () => [], textPrompt: () => null, userLlm: () => null });
  await expect(nobody).rejects.toThrow('users: there is no user with 1000 events');
});

test('FLOPs are 2mnk over the products that run', () => {
  expect(matmulFlops(2, 3, 5)).toBe(60);
  expect(addCosts({ tokens: 3, flops: 10 }, { tokens: 0, flops: 5 })).toEqual({ tokens: 3, flops: 15 });
  const sizes = { layers: 2, width: 8, heads: 2, keyValueHeads: 1, headWidth: 4, feedForward: 16, vocabulary: 100 };
  // per layer, 3 tokens on 2 cached: q 384, k and v 384, scores and values 480, output 384, network 2304; logits of one position 1600
  expect(decoderFlops(sizes, { tokens: 3, past: 2 })).toBe(2 * (384 + 384 + 480 + 384 + 2304) + 1600);
});

test('the machine is described, not named', () => {
  const machine = machineDescription();
  expect(machine.cores).toBeGreaterThan(0);
  expect(machine.node).toBe(process.version);
  expect(Object.keys(machine)).not.toContain('hostname');
  const epyc = { ...machine, cpu: 'AMD EPYC', vectors: 'AVX2', cores: 2 } as const;
  expect(processorOf({ ...epyc, generation: 'Zen 3' })).toBe('AMD EPYC (Zen 3), AVX2, 2 cores');
  expect(processorOf({ ...epyc, generation: undefined })).toBe('AMD EPYC, AVX2, 2 cores');
});

test("the processor's widest vectors are known from its flags", () => {
  const info = (flags: string) => `processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu ${flags}\nbugs\t\t: avx512f\n`;
  expect(widestOf(info('avx avx2 avx512f avx512bw'))).toBe('AVX-512');
  expect(widestOf(info('avx avx2'))).toBe('AVX2');
  expect(widestOf(info('avx'))).toBe('AVX');
  expect(widestOf(info('sse2'))).toBeUndefined();
  expect(widestOf('processor : 0')).toBeUndefined();
});

test.each([
  ['AuthenticAMD', 23, 1, 'Zen 1'],
  ['AuthenticAMD', 23, 49, 'Zen 2'],
  ['AuthenticAMD', 25, 1, 'Zen 3'],
  ['AuthenticAMD', 25, 17, 'Zen 4'],
  ['AuthenticAMD', 25, 33, 'Zen 3'],
  ['AuthenticAMD', 25, 97, 'Zen 4'],
  ['AuthenticAMD', 25, 160, 'Zen 4'],
  ['AuthenticAMD', 26, 2, 'Zen 5'],
  ['AuthenticAMD', 26, 68, 'Zen 5'],
  ['AuthenticAMD', 26, 80, undefined],
  ['GenuineIntel', 6, 143, undefined],
])('a processor of %s, family %d, model %d is %s', (vendor, family, model, generation) => {
  const info = `processor\t: 0\nvendor_id\t: ${vendor}\ncpu family\t: ${family}\nmodel\t\t: ${model}\nmodel name\t: some\n`;
  expect(generationOf(info)).toBe(generation);
  expect(generationOf(`${info}\n${info.replace(String(family), '6')}`)).toBe(generation);
});
