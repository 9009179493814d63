import { createHash } from 'node:crypto';

// A key is the byte 1, then tenant, user and encoder, each behind its length. Lengths make it injective whatever the
// ids contain, and every record of a tenant, and of a user, lies in one range.

const recordKind = 1;
const hashed = 0xff;
/** Ids up to this many UTF-8 bytes stand in the key as they are; longer ones as their SHA-256. LMDB's limit is 1,978 for the whole key. */
export const longestPlainId = 200;

function part(id: string): Buffer {
  const bytes = Buffer.from(id, 'utf8');
  if (bytes.length <= longestPlainId) return Buffer.concat([Buffer.of(bytes.length), bytes]);
  return Buffer.concat([Buffer.of(hashed), createHash('sha256').update(bytes).digest()]);
}

/** Start of the keys of every tenant. */
export function allPrefix(): Buffer {
  return Buffer.of(recordKind);
}

/** Start of the keys of one tenant's users. */
export function tenantPrefix(tenant: string): Buffer {
  return Buffer.concat([allPrefix(), part(tenant)]);
}

/** Start of the keys of one user's records, one per encoder. */
export function userPrefix(tenant: string, user: string): Buffer {
  return Buffer.concat([allPrefix(), part(tenant), part(user)]);
}

/** Whether a prefix is that of one user: a tenant's holds one part, that of all none. */
export function isUserPrefix(prefix: Uint8Array): boolean {
  let parts = 0;
  for (let start = 1; start < prefix.length; parts++) start += 1 + (prefix[start] === hashed ? 32 : prefix[start]);
  return parts === 2;
}

/** Key of one record. */
export function recordKey(tenant: string, user: string, encoder: string): Buffer {
  return Buffer.concat([allPrefix(), part(tenant), part(user), part(encoder)]);
}

/** How the keys of one encoder end. */
export function encoderSuffix(encoder: string): Buffer {
  return part(encoder);
}

/** The encoder part of a key, to compare with `encoderSuffix`. */
export function encoderPart(key: Uint8Array): Uint8Array {
  let start = 1;
  for (let skipped = 0; skipped < 2; skipped++) start += 1 + (key[start] === hashed ? 32 : key[start]);
  return key.subarray(start);
}

/** What a key names: where an id is longer than a key holds, it is left out. */
export interface KeyNames {
  tenant?: string;
  user?: string;
  encoder?: string;
}

/** The names in a key. */
export function keyNames(key: Buffer): KeyNames {
  const names: KeyNames = {};
  let start = 1;
  for (const name of ['tenant', 'user', 'encoder'] as const) {
    const length = key[start] === hashed ? 32 : key[start];
    if (key[start] !== hashed) names[name] = key.toString('utf8', start + 1, start + 1 + length);
    start += 1 + length;
  }
  return names;
}

/** The first key after every key that starts with `prefix`. */
export function afterPrefix(prefix: Uint8Array): Buffer {
  const end = Buffer.from(prefix);
  for (let last = end.length - 1; last >= 0; last--) {
    if (end[last] < 0xff) {
      end[last]++;
      return end.subarray(0, last + 1);
    }
  }
  throw new Error('internal: a key prefix starts with the record kind, which is below 255');
}
