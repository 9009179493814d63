import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LanguageModel, trainByteLevelBpe } from '@user-llm/cross-attention';

/** Resident memory in bytes. */
export interface Resident {
  /** The most there was until the model was open. */
  readonly peak: number;
  /** After a request of 8 tokens. */
  readonly after: number;
}

/** The most resident memory so far, where the system tells. */
function peakSoFar(): number {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    if (kilobytes !== undefined) return Number(kilobytes) * 1024;
  } catch {
    // Elsewhere than on Linux: what getrusage says, in kilobytes too.
  }
  return process.resourceUsage().maxRSS * 1024;
}

const request = { promptIds: [5, 6, 7, 8, 9, 10, 11, 12], maxNewTokens: 1, settings: { min_new_tokens: 1 } };

/** Opens a model, a tiny one from scratch where none is named, and answers one request. */
async function child(file: string, threads: number, int8: boolean): Promise<Resident> {
  const model =
    file === ''
      ? LanguageModel.create({ width: 32, layers: 1, heads: 1, context: 64 }, trainByteLevelBpe(['a trivial text']), 1)
      : await LanguageModel.load(file);
  const served = await model.serve({ threads, int8 });
  const peak = peakSoFar();
  await served.generate(request).tokenIds;
  return { peak, after: process.memoryUsage.rss() };
}

/** Memory of a process of its own that opens the model in `file`, or a trivial one for ''. */
export function measureMemory(file: string, threads: number, int8 = false): Promise<Resident> {
  return new Promise((resolve, reject) => {
    const process_ = spawn(process.execPath, [fileURLToPath(import.meta.url), 'child', file, String(threads), String(int8)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    process_.stdout.on('data', (piece: Buffer) => (text += piece.toString()));
    process_.on('error', reject);
    process_.on('close', (code) => {
      if (code === 0) resolve(JSON.parse(text) as Resident);
      else reject(new Error(`the process that measures memory ended with ${code}`));
    });
  });
}

if (process.argv[2] === 'child')
  child(process.argv[3], Number(process.argv[4]), process.argv[5] === 'true').then(
    (resident) => process.stdout.write(JSON.stringify(resident)),
    (error: unknown) => {
      console.error(error);
      process.exitCode = 1;
    },
  );
