import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { NewUserEmbedding } from '../src/index.js';

export const encoder = 'e'.repeat(64);
export const tokenizer = 't'.repeat(64);

/** An embedding whose numbers follow from its user and sequence, so that a mix-up shows. */
export function embedding(user: string, changes: Partial<NewUserEmbedding> = {}): NewUserEmbedding {
  const sequence = changes.sequence ?? 1;
  const seed = [...user].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)!) % 65521, sequence);
  return {
    user,
    encoder,
    tokenizer,
    sequence,
    watermark: { time: 1_700_000_000 + sequence, count: 50 + sequence },
    dtype: 'float32',
    shape: [4, 8],
    data: Float32Array.from({ length: 32 }, (_, index) => Math.fround(seed + index / 64)),
    ...changes,
  };
}

export function temporaryFolder(inside = tmpdir()): string {
  return mkdtempSync(path.join(inside, 'embedding-store-'));
}

const built = path.join(import.meta.dirname, '../dist/index.js');

/** Starts `body` as a module of a process of its own, where `openStore`, `make` (a small embedding) and `say` (a line out) exist. */
export function startProcess(body: string, { before = 'exec' } = {}): ChildProcess {
  if (!existsSync(built)) throw new Error('These tests start processes that run the built package: build it first (tsc -b).');
  const code = `
    import { writeSync } from 'node:fs';
    import { openStore } from ${JSON.stringify(pathToFileURL(built).href)};
    const say = (line) => writeSync(1, line + '\\n');
    const make = (user, sequence = 1, size = 32) => ({ user, encoder: ${JSON.stringify(encoder)}, tokenizer: ${JSON.stringify(tokenizer)}, sequence,
      watermark: { time: 1, count: 1 }, dtype: 'float32', shape: [1, size], data: new Float32Array(size).fill(sequence) });
    ${body}`;
  const command = `${before} "$0" --input-type=module -e "$1"`;
  return spawn('bash', ['-c', command, process.execPath, code], { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Waits for the process to end. */
export function finished(
  child: ChildProcess,
): Promise<{ code: number | null; signal: string | null; lines: string[]; errors: string }> {
  return new Promise((resolve) => {
    let out = '';
    let errors = '';
    child.stdout!.on('data', (piece: Buffer) => (out += piece));
    child.stderr!.on('data', (piece: Buffer) => (errors += piece));
    child.on('close', (code, signal) => resolve({ code, signal, lines: out.split('\n').filter(Boolean), errors }));
  });
}

/** Resolves once the process has said `count` lines. */
export function said(child: ChildProcess, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let lines = 0;
    child.stdout!.on('data', (piece: Buffer) => {
      lines += piece.toString().split('\n').length - 1;
      if (lines >= count) resolve();
    });
    child.on('close', (code) => reject(new Error(`the process ended (${code}) after ${lines} lines`)));
  });
}
