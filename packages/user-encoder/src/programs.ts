import { DisposedError, type Program } from '@user-llm/onnx-autograd';

/** Sessions of an encoder, each opened when it is first asked for. */
export class Programs {
  private readonly opened = new Map<string, Promise<Program>>();
  private disposed = false;

  /** The program of that name, made when it is the first time. Throws a DisposedError after `dispose`. */
  async get(name: string, make: () => Promise<Program>): Promise<Program> {
    this.check();
    let program = this.opened.get(name);
    if (!program) this.opened.set(name, (program = make()));
    const opened = await program;
    // Disposed while it was opened.
    this.check();
    return opened;
  }

  /** @throws DisposedError */
  check(): void {
    if (this.disposed) throw new DisposedError('encoder');
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    const programs = [...this.opened.values()];
    this.opened.clear();
    // One that failed to open has nothing to release.
    for (const program of await Promise.allSettled(programs)) if (program.status === 'fulfilled') await program.value.dispose();
  }
}
