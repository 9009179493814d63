import type { Feeds } from '@user-llm/onnx-autograd';
import { AdaptationError } from '../errors.js';
import { takesBlindLength } from '../integration/integration.js';
import type { NamedKind } from '../items/item-tokens.js';
import { totalWeight } from './choices.js';
import { ShuffledBatches } from './examples.js';
import type { AdaptationExample, ExampleSource } from './examples.js';
import { rowsOf } from './joint-model.js';
import type { JointModel } from './joint-model.js';
import { ofKinds } from './named-choices.js';
import type { OfKinds } from './named-choices.js';
import { longestOf, lossFeeds, placeholdersOf, textFeeds, textRow } from './text-rows.js';
import type { TextRow } from './text-rows.js';
import { tokensThatFit } from './tokens-per-part.js';
import { withScope } from './trainable-encoder.js';
import type { Batch } from './train.js';
import type { TrainingOptions, ValidationOptions } from './training-options.js';
import { trainingDefaults } from './training-settings.js';
import type { RankedItem, ValidationBatch } from './validation.js';

export interface Prepared<History> {
  readonly row: TextRow;
  readonly history: History | undefined;
}

/** Batches that are looked through for somebody's history. */
export const searchedBatches = 64;

/** Turns examples into what the joint graph is fed. */
export class Feeder<History> {
  readonly batchSize: number;
  /** Stands in for rows without a user, which read nothing. */
  #anyHistory: History | undefined;

  constructor(
    private readonly model: JointModel<History>,
    private readonly options: Pick<TrainingOptions<History>, 'batchSize' | 'tokensPerPart' | 'seed'>,
  ) {
    this.batchSize = options.batchSize ?? trainingDefaults.batchSize;
  }

  /** Numbers of the model's item and label tokens. */
  get #named(): OfKinds<number> {
    return ofKinds((kind) => rowsOf(this.model, kind)?.shape[0] ?? 0);
  }

  /** Whether rows without a user can be fed. */
  get hasHistory(): boolean {
    return this.model.user === undefined || this.#anyHistory !== undefined;
  }

  /** Looks for a history that can stand in: in some examples, and in the first steps of their source. Where none is found, `inputs` says so. */
  async findHistory(
    examples: readonly AdaptationExample<History>[],
    source: Extract<ExampleSource<History>, (step: number) => unknown>,
  ): Promise<void> {
    const look = (among: readonly AdaptationExample<History>[]) =>
      (this.#anyHistory ??= among.find(({ history }) => history !== undefined)?.history);
    look(examples);
    for (let step = 1; !this.hasHistory && step <= searchedBatches; step++) look((await source(step)) ?? []);
  }

  rows(examples: readonly AdaptationExample<History>[], where: string): Prepared<History>[] {
    if (examples.length === 0) throw new AdaptationError('examples', 'there are none');
    const { decoder, user } = this.model;
    const shape = {
      ...decoder.config,
      placeholders: placeholdersOf(decoder.config, user),
      named: this.#named,
      ...(user?.blindPrefix === undefined ? {} : { blindPrefix: user.blindPrefix }),
    };
    return examples.map((example, i) => {
      const history = user === undefined ? undefined : example.history;
      this.#anyHistory ??= history;
      return { row: textRow({ ...example, history }, shape, `${where} ${i}`), history };
    });
  }

  epochs(examples: readonly AdaptationExample<History>[]): ShuffledBatches<Prepared<History>> {
    const prepared = this.rows(examples, 'example');
    return new ShuffledBatches(
      prepared,
      ({ row }) => row.input.length,
      Math.min(this.batchSize, prepared.length),
      this.options.seed ?? trainingDefaults.seed,
    );
  }

  /** A batch, in parts that fit. */
  batch(rows: readonly Prepared<History>[]): Batch {
    const longest = longestOf(rows.map(({ row }) => row));
    const tokens = this.options.tokensPerPart ?? tokensThatFit(this.model.decoder.config, longest);
    const fitting = Math.max(1, Math.floor(tokens / longest));
    const cut = inParts(rows, Math.ceil(rows.length / fitting));
    const weight = weightOf(rows);
    if (!(weight > 0)) throw new AdaptationError('examples', 'no token of a whole batch carries weight; look at answerWeights');
    // The trainer averages the parts' gradients, and so the losses; their sum is wanted.
    const normalizer = weight / cut.length;
    const parts = cut.map((part) => this.#feeds(part, normalizer));
    return { parts, examples: rows.length, tokens: rows.reduce((sum, { row }) => sum + row.input.length, 0) };
  }

  /** The feeds of some rows whose loss is divided by `normalizer`. */
  #feeds(rows: readonly Prepared<History>[], normalizer: number): Feeds {
    const loss = lossFeeds(
      rows.map(({ row }) => row),
      { normalizer, vocabularySize: this.model.decoder.config.vocabularySize, named: this.#named },
    );
    return { ...this.inputs(rows), ...loss };
  }

  /** What the encoder and the decoder read of some rows. */
  inputs(rows: readonly Prepared<History>[]): Feeds {
    const { user } = this.model;
    const text = textFeeds(
      rows.map(({ row }) => row),
      rows.map(({ history }) => history !== undefined),
      user !== undefined && takesBlindLength(user.integration, user.blindPrefix),
    );
    if (user === undefined) {
      const { user_present: _, ...rest } = text;
      return rest;
    }
    const stand = this.#anyHistory;
    if (stand === undefined)
      throw new AdaptationError('examples', 'none has a history; give some, or adapt the base model without user embeddings');
    const histories = rows.map(({ history }) => history ?? stand);
    return { ...text, ...Object.fromEntries(withScope(Object.entries(user.encoder.feeds(histories)))) };
  }

  /** Validation batches: sorted by length, so that little is padding. */
  validation({ examples, by = 'loss' }: ValidationOptions<History>): ValidationBatch[] {
    const rows = this.rows(examples, 'validation example').sort((a, b) => a.row.input.length - b.row.input.length);
    const unranked = rows.findIndex(({ row }) => !row.named.item.some(({ distribution }) => distribution === undefined));
    if (by === 'ranking' && unranked >= 0)
      throw new AdaptationError('validation', 'by ranking needs an item in each example, and one names none by its token');
    const batches: ValidationBatch[] = [];
    for (let start = 0; start < rows.length; start += this.batchSize) {
      const part = rows.slice(start, start + this.batchSize);
      const batch = this.batch(part);
      const ranked =
        by === 'ranking' ? { ranked: inParts(part, batch.parts.length).map((rows) => rankedChoices('item', rows)) } : {};
      batches.push({ batch, weight: weightOf(part), ...ranked });
    }
    return batches;
  }
}

const weightOf = (rows: readonly { readonly row: TextRow }[]): number =>
  rows.reduce(
    (sum, { row: { tokens, named } }) => sum + totalWeight(tokens) + totalWeight(named.item) + totalWeight(named.label),
    0,
  );

/** Rows in parts of one size, `count` of them or fewer. */
function inParts<T>(rows: readonly T[], count: number): T[][] {
  const size = Math.ceil(rows.length / count);
  return Array.from({ length: Math.ceil(rows.length / size) }, (_, i) => rows.slice(i * size, (i + 1) * size));
}

/** The items, or labels, that are right, in the order of the graph's `item_logits`, or `label_logits`. */
export const rankedChoices = (kind: NamedKind, rows: readonly { readonly row: TextRow }[]): RankedItem[] =>
  rows.flatMap(({ row }) =>
    row.named[kind]
      .filter(({ distribution }) => distribution === undefined)
      .map(({ target, excluded = [] }) => ({ item: target, excluded })),
  );
