import type { InferenceSession } from 'onnxruntime-node';
import type { Outputs } from './definition.js';
import type { Bindings } from './dim.js';
import type { Weights } from './initializers.js';
import { toOnnx } from './onnx-model.js';
import { bucketKey, openSession, type SessionOptions } from './session.js';

export interface OpenedSession {
  readonly session: InferenceSession;
  /** Names of the inputs that it reads. */
  readonly inputs: readonly string[];
}

/** Sessions on the graphs of one model, opened when first needed and kept: one per graph and set of sizes. */
export class SessionPool {
  private readonly opened = new Map<string, Promise<OpenedSession>>();

  constructor(private readonly options: SessionOptions) {}

  /**
   * @param graph tells graphs apart
   * @param bindings sizes to compile for; null is a session for all sizes
   * @param packed weights to store inside
   */
  async get(graph: string, outputs: Outputs, bindings: Bindings | null, packed: Weights = new Map()): Promise<OpenedSession> {
    const key = `${graph}|${bucketKey(bindings ?? {})}`;
    let opened = this.opened.get(key);
    if (!opened) {
      opened = this.open(outputs, bindings, packed);
      this.opened.set(key, opened);
      // What could not be opened is tried again when it is next asked for.
      opened.catch(() => this.opened.delete(key));
    }
    return opened;
  }

  private async open(outputs: Outputs, bindings: Bindings | null, packed: Weights): Promise<OpenedSession> {
    const model = toOnnx({ outputs, bindings: bindings ?? {}, weights: packed });
    return {
      session: await openSession(model.bytes, { ...this.options, memoryPattern: bindings !== null }),
      inputs: model.inputs,
    };
  }

  async release(): Promise<void> {
    const sessions = [...this.opened.values()];
    this.opened.clear();
    // One that failed to open has nothing to release.
    for (const opened of await Promise.allSettled(sessions))
      if (opened.status === 'fulfilled') await opened.value.session.release();
  }
}
