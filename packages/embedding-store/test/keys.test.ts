import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  afterPrefix,
  allPrefix,
  encoderPart,
  encoderSuffix,
  isUserPrefix,
  keyNames,
  longestPlainId,
  recordKey,
  tenantPrefix,
  userPrefix,
} from '../src/keys.js';

// Ids that look like separators, prefixes of each other, or are too long to stand in a key as they are.
const id = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('', 'a', 'ab', 'a/b', 'a\0b', '\0', '\u00ff', ':', 'user:1'),
  fc.string({ minLength: 190, maxLength: 220 }),
  fc.integer({ min: 199, max: 300 }).map((length) => 'x'.repeat(length)),
);
const triple = fc.tuple(id, id, id);

test('two records have one key only if tenant, user and encoder are the same', () => {
  fc.assert(
    fc.property(triple, triple, (a, b) => {
      expect(recordKey(...a).equals(recordKey(...b))).toBe(a.every((part, index) => part === b[index]));
    }),
    { numRuns: 2000, seed: 1 },
  );
});

test('moving characters from one part to the next gives another key', () => {
  fc.assert(
    fc.property(id, id, id, fc.nat({ max: 5 }), (tenant, user, encoder, moved) => {
      const joined = tenant + user;
      const cut = Math.min(moved, joined.length);
      fc.pre(joined.slice(0, cut) !== tenant);
      expect(recordKey(joined.slice(0, cut), joined.slice(cut), encoder).equals(recordKey(tenant, user, encoder))).toBe(false);
    }),
    { seed: 2 },
  );
});

test('a key tells its names, but for those that are too long to stand in it', () => {
  const plain = (name: string) => (Buffer.byteLength(name) <= longestPlainId ? Buffer.from(name).toString() : undefined);
  fc.assert(
    fc.property(triple, ([tenant, user, encoder]) => {
      const { tenant: a, user: b, encoder: c } = keyNames(recordKey(tenant, user, encoder));
      expect([a, b, c]).toEqual([tenant, user, encoder].map(plain));
    }),
    { seed: 4 },
  );
});

test("a user's prefix is told from that of a tenant, and of all", () => {
  fc.assert(
    fc.property(id, id, (tenant, user) => {
      expect([userPrefix(tenant, user), tenantPrefix(tenant), allPrefix()].map(isUserPrefix)).toEqual([true, false, false]);
    }),
    { seed: 5 },
  );
});

test('a user lies in its own range and in its tenant, and in no other', () => {
  fc.assert(
    fc.property(triple, triple, ([tenant, user, encoder], [tenant2, user2]) => {
      const key = recordKey(tenant, user, encoder);
      const within = (prefix: Buffer): boolean =>
        Buffer.compare(key, prefix) >= 0 && Buffer.compare(key, afterPrefix(prefix)) < 0;
      expect(within(userPrefix(tenant, user))).toBe(true);
      expect(within(tenantPrefix(tenant))).toBe(true);
      expect(within(userPrefix(tenant2, user2))).toBe(tenant === tenant2 && user === user2);
      expect(within(tenantPrefix(tenant2))).toBe(tenant === tenant2);
      expect(Buffer.compare(encoderPart(key), encoderSuffix(encoder))).toBe(0);
      expect(key.length).toBeLessThanOrEqual(604);
    }),
    { numRuns: 1000, seed: 3 },
  );
});
