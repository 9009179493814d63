import { describe, expect, it } from '@jest/globals';
import { UsageError } from '../src/errors.js';
import {
  batchOf,
  chooseSystems,
  defaultSystems,
  optionsOf,
  strategyOf,
  suiteOf,
  userSystems,
  type SystemSpec,
} from '../src/system-specs.js';

const names = (systems: readonly SystemSpec[]): string[] => systems.map(({ name }) => name);

describe('the suites', () => {
  it.each(['scratch', 'pretrained'] as const)('hold the default systems, and names once, on a base %s', (base) => {
    const full = names(suiteOf('full', base));
    expect(names(suiteOf('default', base))).toEqual(names(defaultSystems));
    expect(full).toEqual(expect.arrayContaining(names(defaultSystems)));
    expect(new Set(full).size).toBe(full.length);
  });

  it.each([
    ['scratch', 'full'],
    ['pretrained', 'encoder'],
  ] as const)('train both ways in by each strategy once, on a base %s where %s is the usual one', (base, usual) => {
    const full = suiteOf('full', base);
    for (const way of ['user-llm/cross-attention', 'user-llm/soft-prompt']) {
      const ways = full.filter(({ name, blindPrefix }) => !blindPrefix && (name === way || name.startsWith(`${way}@`)));
      expect(ways.map((spec) => strategyOf(base, spec)).sort()).toEqual(['encoder', 'full', 'lora', 'projection']);
      expect(
        strategyOf(
          base,
          ways.find(({ name }) => name === way)!,
        ),
      ).toBe(usual);
      for (const { name, strategy } of ways) if (strategy) expect(name).toBe(`${way}@${strategy}`);
    }
  });

  it('train text prompts whole on a base from scratch, and by LoRA on a given one', () => {
    for (const spec of suiteOf('full', 'pretrained').filter(({ reading }) => !reading.embedding)) {
      expect(strategyOf('pretrained', spec)).toBe('lora');
      expect(strategyOf('scratch', spec)).toBe('full');
    }
  });
});

describe('a system on a given model', () => {
  it('makes as many steps of as many examples as every other one', () => {
    const sizes = suiteOf('full', 'pretrained').map((spec) => batchOf('pretrained', spec));
    expect(new Set(sizes.map(({ users, moments }) => users * moments))).toEqual(new Set([8]));
  });

  it.each([
    [2, 1],
    [6, 1],
    [30, 7],
  ])('of %i layers reads users in front of %i of them or more', (layers, least) => {
    for (const { integration } of suiteOf('full', 'pretrained')) {
      const { every } = integration?.('pretrained', layers).settings ?? {};
      if (every !== undefined) expect(Math.floor(layers / every)).toBeGreaterThanOrEqual(least);
    }
  });
});

describe('alignment', () => {
  it.each(['scratch', 'pretrained'] as const)(
    'stands beside every reader of users with its usual strategy, on a base %s',
    (base) => {
      const plain = chooseSystems(base, { suite: 'full' });
      const both = chooseSystems(base, { suite: 'full', align: true });
      const aligned = both.filter(({ aligned }) => aligned);
      expect(both.filter((spec) => !spec.aligned)).toEqual(plain);
      expect(names(aligned)).toEqual(names(userSystems).map((name) => `${name}@aligned`));
      for (const spec of aligned) {
        const other = both[both.indexOf(spec) - 1];
        expect(spec).toEqual({ ...other, name: spec.name, title: spec.title, aligned: true });
      }
    },
  );

  it('can be asked for by name', () => {
    const [spec] = chooseSystems('pretrained', { systems: ['user-llm/soft-prompt@aligned'] });
    expect(spec.aligned).toBe(true);
    expect(() => chooseSystems('scratch', { systems: ['text-prompt-10@aligned'] })).toThrow(UsageError);
  });
});

describe('systems by name', () => {
  it('come in the order given, each once', () => {
    const systems = ['text-summary', 'user-llm/soft-prompt@projection', 'text-summary'];
    expect(names(chooseSystems('pretrained', { systems }))).toEqual(['text-summary', 'user-llm/soft-prompt@projection']);
  });

  it('that there are none of are refused with those that there are', () => {
    expect(() => chooseSystems('pretrained', { systems: ['text-prompt-51'] })).toThrow(UsageError);
    // The usual strategy has no name of its own.
    expect(() => chooseSystems('pretrained', { systems: ['user-llm/soft-prompt@encoder'] })).toThrow(
      /no system 'user-llm\/soft-prompt@encoder'.*user-llm\/soft-prompt@full/,
    );
  });
});

it('a choice is typed again as it was', () => {
  expect(optionsOf({})).toBe('');
  expect(optionsOf({ suite: 'full', align: true })).toBe(' --suite full --align');
  expect(optionsOf({ systems: ['text-prompt-10', 'text-summary'] })).toBe(' --systems text-prompt-10,text-summary');
});
