import type { NamedKind } from '../items/item-tokens.js';
import type { AskedModel } from '../ranking/catalogue-ranker.js';
import type { TokenScorer } from '../ranking/token-scorer.js';
import type { BranchingScorer, BranchingTexts } from './branching-scorer.js';
import type { NamedScorer } from './named-scorer.js';

/** What a model has that is named by one token each. */
export type NamedScorers = Readonly<Partial<Record<NamedKind, NamedScorer>>>;

const missing: Record<NamedKind, string> = {
  item: 'This model has no item tokens; make some with withItemTokens and train it, or rank by title.',
  label: 'This model has no label tokens; make some with withLabelTokens and train it, or rank the labels by title.',
};

/** A prompt as rankers see it: it runs once, whatever they ask. */
export class AskedPrompt implements AskedModel<BranchingTexts> {
  #begun: Promise<BranchingTexts> | undefined;
  readonly #logits = new Map<NamedKind, Promise<Float32Array>>();

  constructor(
    private readonly scorer: BranchingScorer,
    private readonly named: NamedScorers,
  ) {}

  texts(): Promise<TokenScorer<BranchingTexts>> {
    const { scorer } = this;
    return Promise.resolve({
      start: () => this.#start(),
      step: (state, parents, tokens) => scorer.step(state, parents, tokens),
      logits: (state) => scorer.logits(state),
    });
  }

  namedLogits(kind: NamedKind): Promise<Float32Array> {
    let logits = this.#logits.get(kind);
    if (logits === undefined) this.#logits.set(kind, (logits = this.#score(kind)));
    return logits;
  }

  /** How many items and labels were scored. */
  get scored(): number {
    return Array.from(this.#logits.keys(), (kind) => this.named[kind]?.items.length ?? 0).reduce((a, b) => a + b, 0);
  }

  async #score(kind: NamedKind): Promise<Float32Array> {
    const named = this.named[kind];
    if (named === undefined) throw new RangeError(missing[kind]);
    await this.#start();
    return named.logits(this.scorer.promptState);
  }

  #start(): Promise<BranchingTexts> {
    this.#begun ??= this.scorer.start();
    return this.#begun;
  }
}
