import * as ort from 'onnxruntime-node';
import type { Candidate, NamedKind } from '../items/item-tokens.js';
import type { NamingParts } from '../items/saved-items.js';

/** The item tokens of a served model, or those of its labels: `items.onnx` or `labels.onnx`, opened when it is first asked. */
export class NamedScorer {
  readonly items: readonly Candidate[];
  #model: Uint8Array | undefined;
  #session: Promise<ort.InferenceSession> | undefined;

  constructor(
    readonly kind: NamedKind,
    { items, model }: NamingParts,
    private readonly options: ort.InferenceSession.SessionOptions,
  ) {
    this.items = items;
    this.#model = model;
  }

  /** A logit for every item, `[items]`, after the token with this state `[hidden]`. */
  async logits(state: Float32Array): Promise<Float32Array> {
    const session = await this.#open();
    const outputs = await session.run({ last_hidden_state: new ort.Tensor('float32', state, [1, state.length]) });
    return outputs[`${this.kind}_logits`].data as Float32Array;
  }

  #open(): Promise<ort.InferenceSession> {
    this.#session ??= ort.InferenceSession.create(this.#model!, this.options).then(
      (session) => {
        this.#model = undefined;
        return session;
      },
      (error: unknown) => {
        this.#session = undefined;
        throw error;
      },
    );
    return this.#session;
  }

  async dispose(): Promise<void> {
    await (await this.#session)?.release();
  }
}
