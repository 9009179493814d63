import { crc32 } from 'node:zlib';
import type { EmbeddingData, EmbeddingDtype, NewUserEmbedding, UserEmbedding } from './embedding.js';

// One record, little-endian:
//    0  4 bytes  magic "ULEM"                 40  float64  written at (unix seconds)
//    4  uint16   format version               48  float64  expires at (NaN: never)
//    6  uint16   flags: 1 = has state         56  uint16 x 4  lengths of tenant, user, encoder, tokenizer
//    8  uint32   bytes of the whole record    64  uint32   K
//   12  uint32   CRC32 of all other bytes     68  uint32   D
//   16  float64  sequence                     72  uint32   bytes of state
//   24  float64  watermark time               76  uint8    dtype, then three zero bytes
//   32  float64  watermark count              80  the four strings (UTF-8), the data, the state

const magic = 0x4d454c55;
/** Version of the record layout that this package writes, and the only one it reads. */
export const recordVersion = 1;
const headerBytes = 80;
const hasState = 1;
const dtypes: readonly EmbeddingDtype[] = ['float32', 'float16', 'int8'];
const itemBytes = { float32: 4, float16: 2, int8: 1 } as const;

/** A record read back: whole, or why it is not. */
export type DecodedRecord = { ok: true; embedding: UserEmbedding } | { ok: false; reason: string };

function bytesOf(array: EmbeddingData | Uint8Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function checksum(record: Buffer): number {
  return crc32(record.subarray(16), crc32(record.subarray(0, 12)));
}

/** Writes a checked embedding as one record. */
export function encodeRecord(embedding: NewUserEmbedding, writtenAt: number): Buffer {
  const names = [embedding.tenant ?? '', embedding.user, embedding.encoder, embedding.tokenizer].map((name) =>
    Buffer.from(name, 'utf8'),
  );
  const data = bytesOf(embedding.data);
  const total = headerBytes + names.reduce((sum, name) => sum + name.length, 0) + data.length + (embedding.state?.length ?? 0);
  const record = Buffer.allocUnsafeSlow(total);
  record.writeUInt32LE(magic, 0);
  record.writeUInt16LE(recordVersion, 4);
  record.writeUInt16LE(embedding.state ? hasState : 0, 6);
  record.writeUInt32LE(total, 8);
  record.writeDoubleLE(embedding.sequence, 16);
  record.writeDoubleLE(embedding.watermark.time, 24);
  record.writeDoubleLE(embedding.watermark.count, 32);
  record.writeDoubleLE(writtenAt, 40);
  record.writeDoubleLE(embedding.expiresAt ?? NaN, 48);
  names.forEach((name, index) => record.writeUInt16LE(name.length, 56 + 2 * index));
  record.writeUInt32LE(embedding.shape[0], 64);
  record.writeUInt32LE(embedding.shape[1], 68);
  record.writeUInt32LE(embedding.state?.length ?? 0, 72);
  record.writeUInt32LE(dtypes.indexOf(embedding.dtype), 76);
  let offset = headerBytes;
  for (const part of [...names, data, embedding.state ?? new Uint8Array(0)]) {
    record.set(part, offset);
    offset += part.length;
  }
  record.writeUInt32LE(checksum(record), 12);
  return record;
}

/** Why the bytes are no whole record, or undefined when they are. */
function damage(record: Buffer): string | undefined {
  if (record.length < headerBytes) return `it has ${record.length} bytes, fewer than a header`;
  if (record.readUInt32LE(0) !== magic) return 'it does not start as a record';
  if (record.readUInt16LE(4) !== recordVersion)
    return `its format version is ${record.readUInt16LE(4)}; this package reads ${recordVersion}`;
  if (record.readUInt32LE(8) !== record.length) return `it has ${record.length} bytes of ${record.readUInt32LE(8)}`;
  if (record.readUInt32LE(12) !== checksum(record)) return 'its checksum does not match';
  const names = [56, 58, 60, 62].reduce((sum, at) => sum + record.readUInt16LE(at), 0);
  const dtype = dtypes[record.readUInt8(76)];
  const data = dtype ? record.readUInt32LE(64) * record.readUInt32LE(68) * itemBytes[dtype] : -1;
  if (headerBytes + names + data + record.readUInt32LE(72) !== record.length) return 'its lengths do not add up';
  return undefined;
}

/** Bytes of the whole record that starts here, as its header says; undefined where there is no header. */
export function recordLength(start: Buffer): number | undefined {
  return start.length >= headerBytes && start.readUInt32LE(0) === magic ? start.readUInt32LE(8) : undefined;
}

/** Sequence of a record that can be served; undefined when it is damaged or past its time, so that such a one never stands in the way of another. */
export function recordSequence(record: Buffer, now: number): number | undefined {
  return damage(record) === undefined && !pastItsTime(record, now) ? record.readDoubleLE(16) : undefined;
}

/** Whether a record is past its time; false when it is damaged, as its time is then not known. */
export function recordExpired(record: Buffer, now: number): boolean {
  return damage(record) === undefined && pastItsTime(record, now);
}

function pastItsTime(record: Buffer, now: number): boolean {
  return record.readDoubleLE(48) <= now;
}

/** Reads a record and checks it; the arrays are copies of their own. */
export function decodeRecord(record: Buffer): DecodedRecord {
  const reason = damage(record);
  if (reason !== undefined) return { ok: false, reason };
  let offset = headerBytes;
  const [tenant, user, encoder, tokenizer] = [56, 58, 60, 62].map((at) => {
    const length = record.readUInt16LE(at);
    offset += length;
    return record.toString('utf8', offset - length, offset);
  });
  const shape: [number, number] = [record.readUInt32LE(64), record.readUInt32LE(68)];
  const dtype = dtypes[record.readUInt8(76)];
  const count = shape[0] * shape[1];
  const data =
    dtype === 'float32' ? new Float32Array(count) : dtype === 'float16' ? new Uint16Array(count) : new Int8Array(count);
  bytesOf(data).set(record.subarray(offset, offset + data.byteLength));
  offset += data.byteLength;
  const expiresAt = record.readDoubleLE(48);
  return {
    ok: true,
    embedding: {
      tenant,
      user,
      encoder,
      tokenizer,
      sequence: record.readDoubleLE(16),
      watermark: { time: record.readDoubleLE(24), count: record.readDoubleLE(32) },
      writtenAt: record.readDoubleLE(40),
      dtype,
      shape,
      data,
      ...(record.readUInt16LE(6) & hasState ? { state: new Uint8Array(record.subarray(offset)) } : {}),
      ...(Number.isNaN(expiresAt) ? {} : { expiresAt }),
    },
  };
}
