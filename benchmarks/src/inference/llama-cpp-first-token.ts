import { spawn } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { llamaCppHome } from './llama-cpp.js';

/** Runs in a process of its own, in the folder where node-llama-cpp is installed: milliseconds to the first token, by prompt length. */
const program = `
import { getLlama } from 'node-llama-cpp';
const { file, lengths, rounds, threads, context } = JSON.parse(process.argv.at(-1));
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads });
const model = await llama.loadModel({ modelPath: file });
const sequence = (await model.createContext({ contextSize: context, threads, batchSize: 2048 })).getSequence();
const tokens = model.tokenize('The Quiet Harbour (1995), rated 5. A Heat of Snow (1982), rated 4. '.repeat(1200));
const first = async (length) => {
  await sequence.clearHistory();
  const begun = performance.now();
  for await (const _ of sequence.evaluate(tokens.slice(0, length), { temperature: 0 })) break;
  return performance.now() - begun;
};
const result = {};
await first(Math.min(...lengths));
for (const length of lengths) {
  result[length] = [];
  for (let round = 0; round < rounds; round++) result[length].push(await first(length));
}
console.log(JSON.stringify(result));
process.exit(0);
`;

export interface LlamaCppPrompts {
  readonly file: string;
  readonly lengths: readonly number[];
  readonly rounds: number;
  readonly threads: number;
  readonly context: number;
}

/** Milliseconds to the first token of each round, by the prompt's length; null when the peer fails. */
export async function firstTokensOfLlamaCpp(prompts: LlamaCppPrompts): Promise<Record<string, number[]> | null> {
  const settings = JSON.stringify({ ...prompts, file: path.resolve(prompts.file) });
  // A file: the library starts itself anew to try its binaries, which a program on the command line would not survive.
  const file = path.join(llamaCppHome, `first-token-${process.pid}.mjs`);
  await writeFile(file, program);
  try {
    return await figuresOf(file, settings);
  } finally {
    await rm(file, { force: true });
  }
}

function figuresOf(file: string, settings: string): Promise<Record<string, number[]> | null> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [file, settings], { cwd: llamaCppHome, stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout.on('data', (piece: Buffer) => (text += piece.toString()));
    child.on('error', () => resolve(null));
    child.on('close', () => {
      const line = text.trim().split('\n').at(-1) ?? '';
      resolve(line.startsWith('{') ? (JSON.parse(line) as Record<string, number[]>) : null);
    });
  });
}
