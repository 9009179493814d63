import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const repository = path.dirname(path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url)))));
const peers = process.env.USER_LLM_PEERS ?? path.join(repository, '../shared/peers');
const script = path.join(peers, 'llama_cpp_speed.mjs');

export interface LlamaCppFigures {
  readonly prefill: Readonly<Record<string, { readonly ms: number; readonly tokensPerSecond: number }>>;
  readonly decodeTokensPerSecond: number;
}

/** The folder in which node-llama-cpp is installed: USER_LLM_LLAMA_CPP, or where the peer's script lies. */
export const llamaCppHome = process.env.USER_LLM_LLAMA_CPP ?? peers;

/** Why the peer cannot run, and what to do; null when it can. */
export function missingLlamaCpp(): string | null {
  if (!existsSync(script)) return 'there is no llama_cpp_speed.mjs; set USER_LLM_PEERS to the folder that holds it';
  const lookup = createRequire(path.join(llamaCppHome, 'package.json')).resolve.paths('node-llama-cpp') ?? [];
  if (lookup.some((folder) => existsSync(path.join(folder, 'node-llama-cpp')))) return null;
  return 'install it with `npm install --ignore-scripts node-llama-cpp`, and set USER_LLM_LLAMA_CPP to that folder';
}

/** Which node-llama-cpp is installed. */
export async function llamaCppVersion(): Promise<string | null> {
  for (const folder of createRequire(path.join(llamaCppHome, 'package.json')).resolve.paths('node-llama-cpp') ?? []) {
    const file = path.join(folder, 'node-llama-cpp', 'package.json');
    if (existsSync(file)) return (JSON.parse(await readFile(file, 'utf8')) as { version: string }).version;
  }
  return null;
}

/** Runs the peer on a model file; null when it fails. A script finds modules from where it lies, so it is copied to them. */
export async function runLlamaCpp(file: string): Promise<LlamaCppFigures | null> {
  const copy = llamaCppHome === peers ? script : path.join(llamaCppHome, `llama_cpp_speed-${process.pid}.mjs`);
  if (copy !== script) await copyFile(script, copy);
  try {
    return await figuresOf(copy, path.resolve(file));
  } finally {
    if (copy !== script) await rm(copy, { force: true });
  }
}

function figuresOf(peer: string, file: string): Promise<LlamaCppFigures | null> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [peer, file], { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout.on('data', (piece: Buffer) => (text += piece.toString()));
    child.on('error', () => resolve(null));
    child.on('close', () => {
      const line = text.trim().split('\n').at(-1) ?? '';
      resolve(line.startsWith('{') ? (JSON.parse(line) as LlamaCppFigures) : null);
    });
  });
}
