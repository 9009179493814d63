import { FIRST_VALUE_ID, type EventColumns } from '@user-llm/event-tokenizer';
import { Program, type HostTensor, type Weights } from '@user-llm/onnx-autograd';
import { bandOf, type EncoderConfig } from './config.js';
import { EncoderOptionError } from './errors.js';
import { bagSizes, vector, type EventList } from './event-feeds.js';
import { leavesOutTaken, takenIn } from './item-scores.js';
import { maskEvent } from './masked-event.js';
import { attributionDefinition, attributionInputs } from './model.js';
import { checkNames } from './option-names.js';
import { Programs } from './programs.js';
import type { ItemHead } from './objectives/objective.js';
import { receptiveField } from './relative-position.js';
import { scoringRoom } from './scoring-feeds.js';
import type { TrainingRecord } from './training-record.js';
import { windowFeeds } from './window-feeds.js';
import { lengthsInput, type AttentionForm } from './window-inputs.js';

export interface AttributionOptions {
  /**
   * What the events are held to account for: `embedding` (default), how far it is from that of a user without events; or an item by its
   * id, its log-probability of being next (where users take nothing again, among what the user has not taken).
   */
  readonly of?: 'embedding' | { readonly item: number };
  /**
   * `gradient` (default): the gradient by how much of each event attention reads, times all of it, for all events at once; the last one,
   * which is not read by attention alone, is left out instead. `leave-one-out`: what is lost when the event is left out, a forward
   * pass for each: slow, and what the gradient is an estimate of.
   */
  readonly method?: 'gradient' | 'leave-one-out';
  readonly signal?: AbortSignal;
}

/** Which events moved an embedding or a ranking. */
export interface Attribution {
  /** Of the user's events, the first that is read at all. */
  readonly first: number;
  /** What was asked for: a mean square, or a log-probability. */
  readonly value: number;
  /** [n] of the events from `first` on: how much of the value is each one's; negative where it speaks against. */
  readonly contributions: Float32Array;
}

/** What is asked for: the distance from nobody's tokens, or an item and which items it is told from. */
type Target =
  | { readonly kind: 'embedding'; readonly tokens: HostTensor }
  | { readonly kind: 'item'; readonly item: number; readonly told: HostTensor };

/** @throws EncoderOptionError */
export function checkAttributionOptions(options: AttributionOptions): void {
  checkNames(options, ['of', 'method', 'signal']);
  const { of = 'embedding', method = 'gradient' } = options;
  if (of !== 'embedding') checkNames(of, ['item'], 'of');
  if (method !== 'gradient' && method !== 'leave-one-out')
    throw new EncoderOptionError('method', `there is no '${String(method)}'; there are gradient and leave-one-out`);
}

/** Rows of one leave-one-out run. */
const batch = 32;

/** Asks an encoder which events count. Sessions are opened when they are first needed. */
export class Attributor {
  private readonly programs = new Programs();

  constructor(
    private readonly config: EncoderConfig,
    private readonly weights: Weights,
    private readonly threads: number | undefined,
    private readonly head: ItemHead,
    private readonly training: TrainingRecord | null,
  ) {}

  /**
   * @param span the user's events in the columns
   * @param nobody tokens of a user without events, [K, D]
   */
  async attribute(
    events: EventColumns,
    { start, end }: { start: number; end: number },
    nobody: Float32Array,
    { of = 'embedding', method = 'gradient', signal }: AttributionOptions,
  ): Promise<Attribution> {
    const run = (...asked: Parameters<Attributor['run']>): ReturnType<Attributor['run']> => {
      signal?.throwIfAborted();
      return this.run(...asked);
    };
    const target = this.target(of, nobody, takenIn(this.config, events, { start, end }));
    const band = bandOf(this.config);
    const room = of === 'embedding' ? 0 : scoringRoom(this.config);
    const reach = band ? receptiveField(this.config, band) : this.config.context - room;
    const from = Math.max(start, end - reach);
    const first = from - start;
    const all = Int32Array.from({ length: end - from }, (_, i) => from + i);
    if (method === 'gradient') {
      const { value, contributions } = await run(events, [all], target, ['value', 'contributions'], room);
      const found = contributions.slice(0, all.length);
      if (room === 0 && all.length > 0) {
        // The last event's state is read itself, not only as a key: what leaving it out costs is computed.
        const [without] = (await run(events, [this.without(all, all.length - 1, start)], target, ['value'], room)).value;
        found[all.length - 1] = value[0] - without;
      }
      return { first, value: value[0], contributions: found };
    }
    const [value] = (await run(events, [all], target, ['value'], room)).value;
    const contributions = new Float32Array(all.length);
    for (let i = 0; i < all.length; i += batch) {
      const rows = Array.from(all.subarray(i, i + batch), (_, row) => this.without(all, i + row, start));
      const without = (await run(events, rows, target, ['value'], room)).value;
      rows.forEach((_, row) => (contributions[i + row] = value - without[row]));
    }
    return { first, value, contributions };
  }

  dispose(): Promise<void> {
    return this.programs.dispose();
  }

  /** The events that are read when one of them never happened: an earlier one, where there is any, moves up. */
  private without(all: Int32Array, left: number, start: number): Int32Array {
    const rest = all.filter((_, i) => i !== left);
    return all[0] > start ? Int32Array.of(all[0] - 1, ...rest) : rest;
  }

  private target(of: NonNullable<AttributionOptions['of']>, nobody: Float32Array, taken: Int32Array): Target {
    const { userTokens, width, fields } = this.config;
    if (of === 'embedding')
      return { kind: 'embedding', tokens: { dtype: 'float32', shape: [1, userTokens, width], data: nobody } };
    const { size } = fields[0] as { size: number };
    if (!Number.isInteger(of.item) || of.item < FIRST_VALUE_ID || of.item >= size)
      throw new EncoderOptionError(
        'of',
        `${of.item} is no item's id: these go from ${FIRST_VALUE_ID} to ${size - 1}, and an item that the tokenizer does not know has none of its own`,
      );
    const told = new Uint8Array(size).fill(1, FIRST_VALUE_ID);
    if (leavesOutTaken(this.training)) for (const id of taken) if (id !== of.item) told[id] = 0;
    return { kind: 'item', item: of.item, told: { dtype: 'bool', shape: [1, size], data: told } };
  }

  private async run(
    events: EventColumns,
    rows: readonly EventList[],
    target: Target,
    outputs: readonly ('value' | 'contributions')[],
    room: number,
  ): Promise<Record<string, Float32Array>> {
    const { config } = this;
    const band = bandOf(config);
    const longest = Math.max(1, rows[0].length + room);
    const form: AttentionForm = band && longest > 2 * band.window ? 'blocks' : 'mask';
    const length = band && form === 'blocks' ? Math.ceil(longest / band.window) * band.window : longest;
    const feeds = windowFeeds(config, events, rows, length, bagSizes(config.fields, events), { form });
    if (room > 0) rows.forEach((row, i) => maskEvent(feeds, config.fields, i * length + row.length));
    const program = await this.program(target.kind === 'item', form, outputs);
    const results = await program.run({
      ...feeds,
      [lengthsInput]: vector(rows.map((row) => row.length + room)),
      [attributionInputs.presence]: {
        dtype: 'float32',
        shape: [rows.length, length],
        data: new Float32Array(rows.length * length),
      },
      ...(target.kind === 'item'
        ? { [attributionInputs.target]: vector(rows.map(() => target.item)), [attributionInputs.told]: target.told }
        : { [attributionInputs.target]: target.tokens }),
    });
    return Object.fromEntries(outputs.map((name) => [name, results[name].data as Float32Array]));
  }

  private program(ofItem: boolean, form: AttentionForm, outputs: readonly string[]): Promise<Program> {
    const { config, weights, threads, head } = this;
    return this.programs.get(`${ofItem}|${form}|${outputs.join()}`, () =>
      Program.create(attributionDefinition(config, ofItem ? head : null, form), { weights, threads, outputs }),
    );
  }
}
