import * as ort from 'onnxruntime-node';
import type { Candidate, NamedKind } from '../items/item-tokens.js';
import type { NamingParts } from '../items/saved-items.js';
import { OpenedOnce } from './opened-once.js';

/** The item tokens of a served model, or those of its labels: `items.onnx` or `labels.onnx`, opened when it is first asked. */
export class NamedScorer {
  readonly items: readonly Candidate[];
  readonly #session: OpenedOnce<ort.InferenceSession>;

  constructor(
    readonly kind: NamedKind,
    { items, model }: NamingParts,
    options: ort.InferenceSession.SessionOptions,
  ) {
    this.items = items;
    this.#session = new OpenedOnce(() => ort.InferenceSession.create(model, options));
  }

  /** A logit for every item, `[items]`, after the token with this state `[hidden]`. */
  async logits(state: Float32Array): Promise<Float32Array> {
    const session = await this.#session.get();
    const outputs = await session.run({ last_hidden_state: new ort.Tensor('float32', state, [1, state.length]) });
    return outputs[`${this.kind}_logits`].data as Float32Array;
  }

  async dispose(): Promise<void> {
    await (await this.#session.opened())?.release();
  }
}
