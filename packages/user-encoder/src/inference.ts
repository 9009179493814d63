import type { EventColumns } from '@user-llm/event-tokenizer';
import { DisposedError, Program, type HostTensor, type Weights } from '@user-llm/onnx-autograd';
import { bucketOf, lengthBuckets, type Span } from './batches.js';
import type { EncoderConfig } from './config.js';
import { bagSizes, eventFeeds, vector } from './event-feeds.js';
import { inferenceDefinition, lengthsInput } from './model.js';
import { labelDefinition, labelPrefix, towerFields, type LabelTower } from './label-tower.js';
import type { ItemHead } from './objectives/objective.js';
import { scoringFeeds, scoringRoom } from './scoring-feeds.js';
import { latest } from './validation.js';

export type InferenceOutput = 'tokens' | 'scores' | 'direction';

/** The encoder's sessions, each opened when it is first needed. */
export class Inference {
  private readonly programs = new Map<InferenceOutput | 'labels', Promise<Program>>();
  private disposed = false;

  constructor(
    private readonly config: EncoderConfig,
    private readonly weights: Weights,
    private readonly threads: number | undefined,
    private readonly head: { readonly itemHead: ItemHead; readonly labelTower?: LabelTower | undefined },
  ) {}

  private program(output: InferenceOutput | 'labels'): Promise<Program> {
    if (this.disposed) throw new DisposedError('encoder');
    let program = this.programs.get(output);
    if (!program) {
      const { itemHead, labelTower } = this.head;
      if (output === 'labels' && !labelTower) throw new Error('internal: there is no label tower');
      const definition =
        output === 'labels' ? labelDefinition(this.config, labelTower!) : inferenceDefinition(this.config, itemHead);
      program = Program.create(definition, {
        weights: this.weights,
        outputs: [output],
        threads: this.threads,
      });
      this.programs.set(output, program);
    }
    return program;
  }

  /** The label tower's vectors of events, taken as items: [events, D]. */
  async labels(items: EventColumns, tower: LabelTower): Promise<Float32Array> {
    const fields = towerFields(this.config, tower);
    const total = items.offsets[items.users.length];
    const vectors = new Float32Array(total * this.config.width);
    const program = await this.program('labels');
    for (let from = 0; from < total; from += 512) {
      const rows = Array.from({ length: Math.min(512, total - from) }, (_, i) => ({ start: from + i, end: from + i + 1 }));
      const feeds = eventFeeds(fields, items, rows, 1, bagSizes(fields, items, rows), { prefix: labelPrefix });
      vectors.set((await program.run(feeds)).labels.data as Float32Array, from * this.config.width);
    }
    return vectors;
  }

  private room(output: InferenceOutput): number {
    return output === 'scores' ? scoringRoom(this.config) : 0;
  }

  /** One output for histories of one length or shorter: [histories, ...]. */
  async run(output: InferenceOutput, events: EventColumns, histories: readonly Span[], length?: number): Promise<HostTensor> {
    const { fields, context } = this.config;
    const room = this.room(output);
    const windows = histories.map((history) => latest(history, context - room));
    const counts = windows.map(({ start, end }) => end - start);
    const program = await this.program(output);
    const size = Math.max(1, length ?? Math.max(...counts) + room);
    const feeds =
      output === 'scores'
        ? scoringFeeds(this.config, events, windows, size)
        : {
            ...eventFeeds(fields, events, windows, size, bagSizes(fields, events, windows)),
            [lengthsInput]: vector(counts),
          };
    return (await program.run(feeds))[output];
  }

  /**
   * One output for every user, in the order of the columns. Users of like length share a batch; within a block of users the
   * results wait for each other.
   */
  async *users(
    output: InferenceOutput,
    events: EventColumns,
    { batch = 32, signal }: { batch?: number; signal?: AbortSignal },
  ): AsyncGenerator<{ user: number; data: Float32Array }, void, undefined> {
    const block = 16 * batch;
    const buckets = lengthBuckets(this.config.context);
    const room = this.room(output);
    for (let first = 0; first < events.users.length; first += block) {
      const count = Math.min(block, events.users.length - first);
      const byBucket = new Map<number, number[]>(buckets.map((length) => [length, []]));
      for (let user = first; user < first + count; user++)
        byBucket
          .get(bucketOf(Math.min(this.config.context, events.offsets[user + 1] - events.offsets[user] + room), buckets))!
          .push(user);
      const results = new Array<Float32Array>(count);
      for (const [length, users] of byBucket)
        for (let i = 0; i < users.length; i += batch) {
          signal?.throwIfAborted();
          const some = users.slice(i, i + batch);
          const found = await this.run(
            output,
            events,
            some.map((user) => ({ start: events.offsets[user], end: events.offsets[user + 1] })),
            length,
          );
          const size = found.data.length / some.length;
          some.forEach((user, row) => (results[user - first] = (found.data as Float32Array).slice(row * size, (row + 1) * size)));
        }
      for (let i = 0; i < count; i++) yield { user: first + i, data: results[i] };
    }
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    const programs = [...this.programs.values()];
    this.programs.clear();
    // One that failed to open has nothing to release.
    for (const program of await Promise.allSettled(programs)) if (program.status === 'fulfilled') await program.value.dispose();
  }
}
