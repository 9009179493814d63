import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const repository = path.dirname(path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url)))));
const python = process.env.USER_LLM_PYTHON ?? 'python3';

/** Where the peers' scripts lie: USER_LLM_PEERS, or beside the repository. */
const folder = process.env.USER_LLM_PEERS ?? path.join(repository, '../shared/peers');

export interface PeerFigures {
  readonly peer: string;
  readonly median_ms: number;
  readonly min_ms: number;
}

function output(args: readonly string[]): Promise<string | null> {
  return new Promise((resolve) => {
    const child = spawn(python, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout.on('data', (piece: Buffer) => (text += piece.toString()));
    child.on('error', () => resolve(null));
    child.on('close', (code) => resolve(code === 0 ? text : null));
  });
}

/** Why a peer cannot run, and what to do; null when it can. */
export async function missingPeer(script: string, modules: readonly string[]): Promise<string | null> {
  if (!existsSync(path.join(folder, script))) return `there is no ${script}; set USER_LLM_PEERS to the folder that holds it`;
  if ((await output(['-c', modules.map((name) => `import ${name}`).join('\n')])) !== null) return null;
  return `python cannot import ${modules.join(' and ')}; install with \`pip install torch==2.11.0 transformers==4.57.1\`, or set USER_LLM_PYTHON to a python that has them`;
}

/** Runs the peer once; its last line is one JSON object. */
export async function runPeer(script: string, args: readonly string[]): Promise<PeerFigures | null> {
  const text = await output([path.join(folder, script), ...args]);
  const line = text?.trim().split('\n').at(-1);
  return line ? (JSON.parse(line) as PeerFigures) : null;
}
