import type { AskedModel } from '../ranking/catalogue-ranker.js';
import type { TokenScorer } from '../ranking/token-scorer.js';
import type { BranchingScorer, BranchingTexts } from './branching-scorer.js';
import type { ItemScorer } from './item-scorer.js';

/** A prompt as rankers see it: it runs once, whatever they ask. */
export class AskedPrompt implements AskedModel<BranchingTexts> {
  #begun: Promise<BranchingTexts> | undefined;
  #itemLogits: Promise<Float32Array> | undefined;

  constructor(
    private readonly scorer: BranchingScorer,
    private readonly items: ItemScorer | undefined,
  ) {}

  texts(): Promise<TokenScorer<BranchingTexts>> {
    const { scorer } = this;
    return Promise.resolve({
      start: () => this.#start(),
      step: (state, parents, tokens) => scorer.step(state, parents, tokens),
      logits: (state) => scorer.logits(state),
    });
  }

  itemLogits(): Promise<Float32Array> {
    this.#itemLogits ??= this.#scoreItems();
    return this.#itemLogits;
  }

  /** Whether `itemLogits` was asked for. */
  get hasScoredItems(): boolean {
    return this.#itemLogits !== undefined;
  }

  async #scoreItems(): Promise<Float32Array> {
    if (this.items === undefined)
      throw new RangeError('This model has no item tokens; make some with withItemTokens and train it, or rank by title.');
    await this.#start();
    return this.items.logits(this.scorer.promptState);
  }

  #start(): Promise<BranchingTexts> {
    this.#begun ??= this.scorer.start();
    return this.#begun;
  }
}
