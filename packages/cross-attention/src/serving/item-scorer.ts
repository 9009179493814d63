import * as ort from 'onnxruntime-node';
import type { Candidate } from '../items/item-tokens.js';

/** The item tokens of a served model: `items.onnx`, opened when it is first asked. */
export class ItemScorer {
  #model: Uint8Array | undefined;
  #session: Promise<ort.InferenceSession> | undefined;

  constructor(
    readonly items: readonly Candidate[],
    model: Uint8Array,
    private readonly options: ort.InferenceSession.SessionOptions,
  ) {
    this.#model = model;
  }

  /** A logit for every item, `[items]`, after the token with this state `[hidden]`. */
  async logits(state: Float32Array): Promise<Float32Array> {
    if (this.#session === undefined) {
      const model = this.#model!;
      this.#model = undefined;
      this.#session = ort.InferenceSession.create(model, this.options);
    }
    const session = await this.#session;
    const outputs = await session.run({ last_hidden_state: new ort.Tensor('float32', state, [1, state.length]) });
    return outputs.item_logits.data as Float32Array;
  }

  async dispose(): Promise<void> {
    await (await this.#session)?.release();
  }
}
