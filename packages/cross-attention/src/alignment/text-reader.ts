import type { HostTensor, Trainer } from '@user-llm/onnx-autograd';
import { textKey } from './alignment-example.js';

/** Numbers that are kept of texts: a gigabyte at most. */
const mostNumbers = 2 ** 28;

/**
 * What the frozen decoder of an alignment's graph makes of texts, each read once: its weights do not change, so a step that meets a text
 * again costs nothing of the decoder. Texts are read one by one, so that what is made of one does not depend on its company, nor on
 * where a resumed run began.
 *
 * States of a decoder have much in common whatever the text, and a few numbers far larger than all others; both would drown what is
 * compared. So each number is given relative to its mean and deviation over the first texts.
 */
export class TextReader {
  readonly #read = new Map<string, Float32Array>();
  #standard: { readonly mean: Float64Array; readonly deviation: Float64Array } | undefined;

  constructor(
    private readonly trainer: Trainer,
    private readonly hidden: number,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** Takes mean and deviation from these texts. */
  async standardise(texts: readonly (readonly number[])[]): Promise<void> {
    const { hidden } = this;
    const distinct = [...new Map(texts.map((ids) => [textKey(ids), ids])).values()];
    const states = await this.#states(distinct);
    const mean = new Float64Array(hidden);
    const deviation = new Float64Array(hidden);
    for (const state of states) for (let i = 0; i < hidden; i++) mean[i] += state[i] / states.length;
    for (const state of states) for (let i = 0; i < hidden; i++) deviation[i] += (state[i] - mean[i]) ** 2 / states.length;
    // A number that never changes stays 0.
    for (let i = 0; i < hidden; i++) deviation[i] = Math.sqrt(deviation[i]) || Infinity;
    this.#standard = { mean, deviation };
  }

  /** `[texts, hidden]`, standardised. */
  async read(texts: readonly (readonly number[])[]): Promise<HostTensor> {
    const { hidden } = this;
    if (this.#standard === undefined) throw new Error('internal: texts are read before they are standardised');
    const { mean, deviation } = this.#standard;
    const data = new Float32Array(texts.length * hidden);
    (await this.#states(texts)).forEach((state, row) => {
      for (let i = 0; i < hidden; i++) data[row * hidden + i] = (state[i] - mean[i]) / deviation[i];
    });
    return { dtype: 'float32', shape: [texts.length, hidden], data };
  }

  async #states(texts: readonly (readonly number[])[]): Promise<Float32Array[]> {
    const states: Float32Array[] = [];
    for (const ids of texts) {
      const key = textKey(ids);
      let state = this.#read.get(key);
      if (state === undefined) {
        const text = { dtype: 'int32', data: Int32Array.from(ids), shape: [1, ids.length] } as const;
        const { reading } = await this.trainer.evaluate({ text_ids: text }, ['reading']);
        state = (reading.data as Float32Array).slice();
        this.#keep(key, state);
        // A run of the decoder blocks the event loop, and with it the signal.
        await new Promise<void>((resolve) => setImmediate(resolve));
        this.signal?.throwIfAborted();
      }
      states.push(state);
    }
    return states;
  }

  /** The oldest goes where there is no room. */
  #keep(key: string, state: Float32Array): void {
    if ((this.#read.size + 1) * this.hidden > mostNumbers) this.#read.delete(this.#read.keys().next().value!);
    this.#read.set(key, state);
  }
}
