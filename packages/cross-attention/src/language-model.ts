import { AdaptableModel } from './adaptable-model.js';
import type { AnyEncoder } from './adaptable-model.js';
import { adaptJointModel } from './adaptation/adapt.js';
import type { AdaptOptions } from './adaptation/adapt.js';
import type { AdaptationExample, ExampleSource } from './adaptation/examples.js';
import { fitLabelRows } from './adaptation/fit-rows.js';
import type { FitRowsOptions, FittedRows, ScoredBatches } from './adaptation/fit-rows.js';
import { mergeLora } from './adaptation/lora.js';
import type { LoraAdapter } from './adaptation/lora-adapter.js';
import { pretrainDecoder } from './adaptation/pretrain.js';
import type { PretrainOptions } from './adaptation/pretrain.js';
import type { TrainingProgress, TrainingRecord } from './adaptation/training-options.js';
import { decoderConfig, initialDecoderWeights } from './decoder/decoder.js';
import type { DecoderSizes } from './decoder/decoder.js';
import type { Precision } from './decoder/packable-matrix.js';
import { AdaptationError } from './errors.js';
import type { DecoderConfig } from './folder/decoder-config.js';
import { readHuggingFaceFolder } from './folder/hugging-face.js';
import type { DecoderWeights } from './folder/hugging-face.js';
import { ggufFileOf, readGguf } from './gguf/gguf-model.js';
import { localPlace } from './hub/local-place.js';
import type { LoadOptions } from './hub/local-place.js';
import { problemOfBlindPrefix } from './integration/blind-prefix.js';
import type { BlindPrefix } from './integration/blind-prefix.js';
import { withNamed, withRows } from './items/item-tokens.js';
import type { Candidate, ItemTokens, NamedKind } from './items/item-tokens.js';
import { combined } from './integration/combined.js';
import type { Integration } from './integration/integration.js';
import { readingWeights } from './integration/reading-weights.js';
import { PrefixTrie } from './ranking/prefix-trie.js';
import { planRanking } from './ranking/rank-candidates.js';
import type { CandidateRanking } from './ranking/rank-candidates.js';
import { Run } from './run.js';
import type { ModelContents, UserReading } from './model-contents.js';
import { isSavedModel, openSavedModel, readSavedModel, saveModel } from './saved-model.js';
import { serveModel } from './serve-model.js';
import type { ServedModel } from './serving/served-model.js';
import type { GenerateRequest, PrefixRequest, Prompt, Ranking, RequestOptions } from './serving/request.js';
import type { IntegerOption, ServeModelOptions, ServeOptions } from './serving/engine.js';
import type { Generation } from './serving/generation.js';
import { checkOpenOptions } from './serving/check-options.js';
import { OpenedOnce } from './serving/opened-once.js';
import type { Prefix } from './serving/prefix.js';
import { TextTokenizer } from './text/text-tokenizer.js';
import { WorkerModel } from './worker/worker-model.js';
import type { WorkerOptions } from './worker/worker-model.js';
import type { ChatMessage } from './text/text-tokenizer.js';
import type { TokenizerFiles } from './text/byte-level-bpe.js';

export type RankCandidatesRequest = Prompt & RequestOptions & CandidateRanking & { readonly top: number };

export interface RankedCandidates extends Omit<Ranking, 'items' | 'scores'> {
  /** The most probable first; `score` is the natural logarithm of the probability that `RankedItems.scores` tells. */
  readonly items: readonly { readonly id: string; readonly score: number }[];
}

/**
 * An example in words; `LanguageModel.example` turns it into token ids. `item` and `label` are the ids of an item or a label that is to be
 * named by its token.
 */
export type WordedExample<History> = ({ readonly messages: readonly ChatMessage[] } | { readonly prompt: string }) &
  (
    | { readonly answer: string; readonly item?: string; readonly label?: string }
    | { readonly answer?: undefined; readonly item: string; readonly label?: string }
    | { readonly answer?: undefined; readonly item?: undefined; readonly label: string }
  ) & {
    readonly history?: History;
    readonly promptWeight?: number;
    readonly blindTokens?: number;
  };

/**
 * A decoder language model with its tokenizer and, once it was adapted, the way it reads user embeddings. Immutable: training gives new
 * models. `generate` and `rank` open it for inference when they are first called; `dispose` closes that.
 */
export class LanguageModel {
  #served = new OpenedOnce(() => this.serve());

  private constructor(private readonly contents: ModelContents) {}

  /** A Llama to be trained from scratch, with seeded weights and a vocabulary of the tokenizer's size. */
  static create(
    sizes: Omit<DecoderSizes, 'vocabularySize' | 'beginToken' | 'endTokens' | 'paddingToken'>,
    tokenizer: TextTokenizer | TokenizerFiles,
    seed: number,
  ): LanguageModel {
    const text = tokenizer instanceof TextTokenizer ? tokenizer : TextTokenizer.fromFiles(tokenizer);
    const config = decoderConfig({
      ...sizes,
      vocabularySize: text.size,
      ...(text.bos === undefined ? {} : { beginToken: text.bos }),
      endTokens: [text.eos],
      paddingToken: text.pad,
    });
    return new LanguageModel({
      config,
      weights: initialDecoderWeights(config, seed),
      tokenizer: text,
      base: `from scratch, seed ${seed}`,
    });
  }

  /**
   * Loads a model: a folder in Hugging Face layout, one that `save` wrote, a GGUF file (or a folder that holds one and no safetensors),
   * or `owner/model` of a Hugging Face hub, which is fetched into the cache once. What is there on the disk comes before a hub's name.
   * The weights of a GGUF file stay in it until they are used. Errors are `ModelFolderError`, `GgufError`, `TokenizerError` and `HubError`.
   */
  static async load(place: string, options: LoadOptions = {}): Promise<LanguageModel> {
    const { local, name } = await localPlace(place, options);
    if (await isSavedModel(local)) return new LanguageModel(await readSavedModel(local));
    const gguf = await ggufFileOf(local);
    const { config, weights, tokenizer } = gguf === undefined ? await readHuggingFaceFolder(local) : await readGguf(gguf);
    return new LanguageModel({ config, weights, tokenizer, base: name });
  }

  /** Opens a model that `save` wrote, in a folder or on a hub, for inference alone, without its weights as tensors. */
  static async open(place: string, options: ServeOptions & IntegerOption & LoadOptions = {}): Promise<ServedModel> {
    checkOpenOptions(options, { inWorkers: false });
    return openSavedModel((await localPlace(place, options)).local, options);
  }

  /** Opens a model that `save` wrote, found as `open` does, in worker threads, which leave this thread's event loop free. */
  static async openInWorkers(place: string, options: WorkerOptions & LoadOptions = {}): Promise<WorkerModel> {
    checkOpenOptions(options, { inWorkers: true });
    return WorkerModel.open((await localPlace(place, options)).local, options);
  }

  get config(): DecoderConfig {
    return this.contents.config;
  }

  get weights(): DecoderWeights {
    return this.contents.weights;
  }

  get tokenizer(): TextTokenizer {
    return this.contents.tokenizer;
  }

  /** How it reads users; undefined for a model that reads none. */
  get user(): UserReading | undefined {
    return this.contents.user;
  }

  /** The items that it names by one token each; see `withItemTokens`. */
  get itemTokens(): ItemTokens | undefined {
    return this.contents.items;
  }

  /**
   * The model with a token for each of these items, besides those that it has. The token of an item starts from its title, and learns
   * when the model is adapted on examples with `items`; items that are added to a trained model start where training took titles like
   * theirs. Throws a `RangeError` for an item that has a token already.
   */
  withItemTokens(items: readonly Candidate[]): LanguageModel {
    return this.#with({ items: this.#withNamed('item', this.contents.items, items) });
  }

  /** The labels that it names by one token each; see `withLabelTokens`. */
  get labelTokens(): ItemTokens | undefined {
    return this.contents.labels;
  }

  /**
   * The model with a token for each of these labels, besides those that it has: answers to questions about the user, such as genres. They
   * are to it what items are, in a list of their own; examples with `labels` teach them, `fitLabelTokens` finds their rows in closed form, and
   * `rank` by `label-tokens` asks for them. Throws a `RangeError` for a label that has a token already.
   */
  withLabelTokens(labels: readonly Candidate[]): LanguageModel {
    return this.#with({ labels: this.#withNamed('label', this.contents.labels, labels) });
  }

  #withNamed(kind: NamedKind, known: ItemTokens | undefined, added: readonly Candidate[]): ItemTokens {
    return withNamed(kind, this.contents, known, added, (text) => this.tokenizer.encode(text));
  }

  /** The model with label tokens fitted to scored prompts, without users; see `AdaptableModel.fitLabelTokens`. */
  async fitLabelTokens(
    examples: ScoredBatches<never>,
    options: FitRowsOptions<never> = {},
  ): Promise<{ model: LanguageModel } & Omit<FittedRows, 'rows'>> {
    const { rows, ...found } = await fitLabelRows<never>(
      { decoder: this.contents, labelRows: this.labelTokens?.rows },
      examples,
      options,
    );
    return { model: this.withRows('label', rows), ...found };
  }

  /**
   * Trains on texts (or their token ids), next token by next token: the base of a model from scratch. Texts stand in rows one after the other,
   * with the end token between them, and read each other there; see `pretrainDecoder`.
   */
  pretrain(
    texts: Iterable<string | readonly number[]>,
    options: PretrainOptions,
  ): Run<TrainingProgress, { model: LanguageModel; record: TrainingRecord }> {
    return new Run(async (emit) => {
      const ids = Array.from(texts, (text) => (typeof text === 'string' ? this.tokenizer.encode(text) : text));
      const run = pretrainDecoder(this.contents, ids, options);
      for await (const progress of run) emit(progress);
      const { decoder, record } = await run.result;
      return { model: this.#with({ weights: decoder.weights, training: record }), record };
    });
  }

  /** Trains the model without users, on prompts and answers: for example a baseline that has the history in its prompt. */
  adapt(
    examples: ExampleSource<never>,
    options: AdaptOptions<never>,
  ): Run<TrainingProgress, { model: LanguageModel; record: TrainingRecord; lora?: LoraAdapter }> {
    return new Run(async (emit) => {
      const { items, labels } = this.contents;
      const joint = { decoder: this.contents, itemRows: items?.rows, labelRows: labels?.rows };
      const run = adaptJointModel<never>(joint, examples, options);
      for await (const progress of run) emit(progress);
      const { decoder, itemRows, labelRows, record, lora } = await run.result;
      const named = { items: withRows(items, itemRows), labels: withRows(labels, labelRows) };
      return {
        model: this.#with({ weights: decoder.weights, ...named, training: record }),
        record,
        ...(lora && { lora }),
      };
    });
  }

  /** The model with a LoRA adapter merged into its weights. Throws an `AdaptationError` for one of another model. */
  withLora(adapter: LoraAdapter): LanguageModel {
    return this.#with({ weights: mergeLora(this.weights, adapter.weights, adapter) });
  }

  /**
   * The model with a way to read an encoder's users, or several at once. What it had already of a way is kept (`gate` is how a gate begins, and
   * says nothing of one that has learned), what is new has seeded weights. Throws an `AdaptationError` where a way that it had is left out, whose
   * weights would be lost, and for a `blindPrefix` that cannot be.
   */
  withUserEmbeddings<E extends AnyEncoder>({
    encoder,
    integration: way,
    blindPrefix,
    seed = 1,
  }: {
    /** In its trainable form: `encoder.trainable(events)` of a `UserEncoder`, also of one that an earlier stage gave back. */
    readonly encoder: E;
    /** `gatedCrossAttention(...)`, `softPrompt()`, or a list of both, by which users are read at once. */
    readonly integration: Integration | readonly Integration[];
    /** Lets prompts begin without the user, so that their beginning is computed once for all. Default: as the model does already. */
    readonly blindPrefix?: BlindPrefix;
    readonly seed?: number;
  }): AdaptableModel<E> {
    const { userTokens, width: userWidth, hash } = encoder.manifest;
    const reads = { integration: combined([way].flat()), shape: { userTokens, userWidth } };
    const weights = readingWeights(reads, this.contents, seed, this.contents.user);
    const problem = blindPrefix && problemOfBlindPrefix(blindPrefix);
    if (problem !== undefined) throw new AdaptationError('blindPrefix', problem);
    const agreed = blindPrefix ?? this.contents.user?.blindPrefix;
    const blind = agreed === undefined ? {} : { blindPrefix: agreed };
    return new AdaptableModel(encoder, this.#with({ user: { ...reads, encoder: hash, weights, ...blind } }));
  }

  /** The model without its way to read users: it reads its prompt alone, or may be given another way. */
  withoutUserEmbeddings(): LanguageModel {
    const { user: _, ...rest } = this.contents;
    return new LanguageModel(rest);
  }

  /** An example in words as token ids; the answer ends with the end token. Throws a `RangeError` for an item or label without a token. */
  example<History = never>(worded: WordedExample<History>): AdaptationExample<History> {
    const { tokenizer } = this;
    return {
      promptIds:
        'messages' in worded ? tokenizer.chat(worded.messages) : tokenizer.encode(worded.prompt, { specialTokens: 'parse' }),
      answerIds: worded.answer === undefined ? [] : [...tokenizer.encode(worded.answer), tokenizer.eos],
      ...(worded.item === undefined ? {} : { items: [{ item: placeOf('item', this.itemTokens, worded.item) }] }),
      ...(worded.label === undefined ? {} : { labels: [{ label: placeOf('label', this.labelTokens, worded.label) }] }),
      ...(worded.history === undefined ? {} : { history: worded.history }),
      ...(worded.promptWeight === undefined ? {} : { promptWeight: worded.promptWeight }),
      ...(worded.blindTokens === undefined ? {} : { blindTokens: worded.blindTokens }),
    };
  }

  /** A trie of titles for `rank`; build it once per catalogue. Items are places in the list. */
  trie(titles: readonly string[]): PrefixTrie {
    return PrefixTrie.build(
      titles.map((title) => this.tokenizer.encode(title)),
      this.tokenizer.eos,
    );
  }

  /** Opens the model for inference. The caller disposes it. `Precision` says how weights are computed with, `int8` rounds products too. */
  serve(options: ServeModelOptions = {}): Promise<ServedModel> {
    return serveModel(this.contents, options);
  }

  /**
   * Answers a prompt as `ServedModel.generate` does, but never throws: the model may have to be opened first, so that a prompt that does not
   * fit, too, rejects the answer's promises.
   */
  generate(request: GenerateRequest): Generation {
    const started = this.#served.get().then((served) => served.generate(request));
    const of = <T>(pick: (generation: Generation) => Promise<T>): Promise<T> => {
      const promise = started.then(pick);
      promise.catch(() => undefined);
      return promise;
    };
    return {
      textStream: {
        async *[Symbol.asyncIterator]() {
          yield* (await started).textStream;
        },
      },
      text: of(({ text }) => text),
      tokenIds: of(({ tokenIds }) => tokenIds),
      usage: of(({ usage }) => usage),
      timings: of(({ timings }) => timings),
    };
  }

  /** The beginning of prompts that does not read the user, computed once, for `generate` and `rank` of this model. See `ServedModel.prefix`. */
  async prefix(request: PrefixRequest): Promise<Prefix> {
    return (await this.#served.get()).prefix(request);
  }

  /**
   * Ranks candidates by how probable their text is as the answer, or items by their tokens, or anew what was retrieved; `way` of the
   * result says which it was. See `ServedModel.rank`.
   */
  async rank(request: RankCandidatesRequest): Promise<RankedCandidates> {
    const { messages, prompt, promptIds, user, prefix, blindTokens, signal, top } = request;
    const known = { items: this.itemTokens?.items ?? [], labels: this.labelTokens?.items ?? [] };
    const { ranker, catalogue, exclude } = planRanking(request, known, (candidates) => this.#trieOf(candidates));
    const served = await this.#served.get();
    const asked = { messages, prompt, promptIds } as Prompt;
    const options = { user, prefix, blindTokens, signal };
    const { items, scores, ...ranking } = await served.rank({ ...asked, ...options, top, exclude, by: ranker });
    return { ...ranking, items: Array.from(items, (item, i) => ({ id: catalogue[item].id, score: scores[i] })) };
  }

  readonly #tries = new WeakMap<readonly Candidate[], { readonly texts: readonly string[]; readonly trie: PrefixTrie }>();

  #trieOf(candidates: readonly Candidate[]): PrefixTrie {
    const known = this.#tries.get(candidates);
    // The list may have changed since.
    if (known?.texts.length === candidates.length && candidates.every(({ text }, i) => text === known.texts[i]))
      return known.trie;
    const texts = candidates.map(({ text }) => text);
    const trie = this.trie(texts);
    this.#tries.set(candidates, { texts, trie });
    return trie;
  }

  /**
   * Writes the model as a folder in Hugging Face layout, whole or not at all: `config.json`, tokenizer, `onnx/model.onnx`, `onnx/user.onnx`,
   * `user_llm.json`. transformers.js opens it. `trainable: false` leaves the float32 weights out, which only
   * training needs; `quantize` rounds those of `onnx/model.onnx`. Rejects with a `ModelFolderError` where it cannot be written, as a model
   * whose weights take more than an ONNX file's 2 GiB.
   */
  save(folder: string, options: { trainable?: boolean } & Precision = {}): Promise<void> {
    return saveModel(folder, this.contents, { trainable: true, ...options });
  }

  /** Closes what `generate` and `rank` opened. */
  async dispose(): Promise<void> {
    const served = this.#served;
    this.#served = new OpenedOnce(() => this.serve());
    await (await served.opened())?.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  #with(changes: Partial<ModelContents>): LanguageModel {
    return new LanguageModel({ ...this.contents, ...changes });
  }

  /** For `AdaptableModel`: the model with other rows of its item or label tokens. */
  withRows(kind: NamedKind, rows: ItemTokens['rows']): LanguageModel {
    const { items, labels } = this.contents;
    return this.#with(kind === 'item' ? { items: withRows(items, rows) } : { labels: withRows(labels, rows) });
  }

  /** For `AdaptableModel`: the model with trained parts. */
  adapted(changes: Partial<Pick<ModelContents, 'weights' | 'user' | 'items' | 'labels' | 'training'>>): LanguageModel {
    return this.#with(changes);
  }
}

function placeOf(kind: NamedKind, named: ItemTokens | undefined, id: string): number {
  const place = named?.items.findIndex((item) => item.id === id) ?? -1;
  if (place >= 0) return place;
  throw new RangeError(
    `The ${kind} '${id}' has no token; make one with ${kind === 'item' ? 'withItemTokens' : 'withLabelTokens'}.`,
  );
}
