import { explain } from '../explain.js';

/**
 * Whoever reads what a command says may leave before its end (`user-llm eval | head`): the command goes on, and what it writes is
 * written. Output that cannot be written for another reason, such as into a file on a full disk, ends it.
 */
export function outliveReaders(): void {
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return;
    const { message, exitCode } = explain(Object.assign(error, { path: 'standard output' }));
    process.stderr.write(`user-llm: ${message}\n`);
    process.exit(exitCode);
  });
}
