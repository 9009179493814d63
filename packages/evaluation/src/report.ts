import { rowsOf } from './compare.js';
import { InvalidOptionError } from './errors.js';
import { pValue } from './format.js';
import { checkFinished } from './outcome.js';
import type { Outcome } from './outcome.js';
import { renderHtml } from './report-html.js';
import type { ReportData, ReportFields, SystemRow } from './report-types.js';
import { summarise } from './summary.js';
import type { Task } from './task.js';
import { writeAtomic } from './write-atomic.js';

/** The result of {@link evaluate}: figures, and how to show and keep them. Immutable: `with` returns another report. */
export class Report {
  readonly #fields: ReportFields;
  readonly #core: Pick<ReportData, 'seed' | 'depth' | 'protocols' | 'systems'>;
  /** what every figure is made of, user by user; not part of report.json. Empty in a report that was read from a file. */
  readonly outcomes: readonly Outcome[];

  private constructor(
    core: Pick<ReportData, 'seed' | 'depth' | 'protocols' | 'systems'>,
    fields: ReportFields,
    outcomes: readonly Outcome[],
  ) {
    this.#core = core;
    this.#fields = fields;
    this.outcomes = outcomes;
  }

  /** Compares outcomes; {@link evaluate} does this. */
  static of(outcomes: readonly Outcome[], tasks: readonly Task[], { seed, depth }: { seed: number; depth: number }): Report {
    const protocols = Object.fromEntries(tasks.map((task) => [task.name, task.description]));
    return new Report({ seed, depth, protocols, systems: rowsOf(outcomes, seed) }, {}, outcomes);
  }

  /** A report from the content of a report.json. */
  static fromJSON(data: ReportData): Report {
    const { summary: _, seed, depth, protocols, systems, ...fields } = data;
    return new Report({ seed, depth, protocols, systems }, fields, []);
  }

  /** The same figures with data set, machine, training records, curves, scaling or whatever else the caller knows. */
  with(fields: ReportFields): Report {
    return new Report(this.#core, { ...this.#fields, ...fields }, this.outcomes);
  }

  get systems(): readonly SystemRow[] {
    return this.#core.systems;
  }

  /** Plain words; the first sentence says where a User-LLM fell short. */
  get summary(): readonly string[] {
    return this.toJSON().summary;
  }

  /**
   * The same report with systems that were asked elsewhere, all compared anew; a system that both have keeps the answers of this one.
   *
   * @throws InvalidOptionError where outcomes answer another question (other data, split or depth) or were interrupted, and of a report that was read from a file
   */
  including(outcomes: readonly Outcome[]): Report {
    const { seed, depth, protocols } = this.#core;
    if (this.outcomes.length === 0 && this.systems.length > 0)
      throw new InvalidOptionError(
        'outcomes',
        'a report that was read from a file has no outcomes to compare with; evaluate anew.',
      );
    const questions = new Map(this.outcomes.map(({ task, taskHash }) => [task, taskHash]));
    for (const { system, task, taskHash, depth: asDeep } of outcomes)
      if (questions.get(task) !== taskHash || asDeep !== depth)
        throw new InvalidOptionError(
          'outcomes',
          `"${system}" answered ${task} on other data or to another depth; evaluate it again.`,
        );
    const here = new Set(this.outcomes.map(({ system }) => system));
    const others = outcomes.filter(({ system }) => !here.has(system));
    for (const outcome of others) checkFinished('outcomes', outcome);
    const all = [...this.outcomes, ...others];
    return new Report({ seed, depth, protocols, systems: rowsOf(all, seed) }, this.#fields, all);
  }

  /** One flat row per system and task, for console.table: figures on the sample where there is one, so that rows can be compared. */
  get rows(): Record<string, string | number | null>[] {
    const round = (value: number | null | undefined): number | null => (value == null ? null : Math.round(value * 1e4) / 1e4);
    return this.#core.systems.map((row) => {
      const { filtered, unfiltered, accuracy, ci95, vs } = row.sample ?? row;
      const interval = ci95['recall@10'] ?? ci95.accuracy;
      return {
        system: row.name,
        task: row.task,
        users: row.sample?.users ?? row.users,
        ...(row.task === 'next-item'
          ? {
              'recall@1': round(filtered?.['recall@1']),
              'recall@10': round(filtered?.['recall@10']),
              'ndcg@10': round(filtered?.['ndcg@10']),
              mrr: round(filtered?.mrr),
              'unfiltered recall@10': round(unfiltered?.['recall@10']),
            }
          : { accuracy: round(accuracy) }),
        '95 %': interval ? `${interval[0].toFixed(4)} to ${interval[1].toFixed(4)}` : null,
        'vs best baseline': vs ? `${vs.delta >= 0 ? '+' : ''}${vs.delta.toFixed(4)} (p ${pValue(vs.p)}) ${vs.baseline}` : null,
        'p50 ms': row.latencyMs.p50 === null ? null : Number(row.latencyMs.p50.toPrecision(3)),
        tokens: row.tokensPerRequest === null ? null : Math.round(row.tokensPerRequest),
      };
    });
  }

  /** The content of report.json. */
  toJSON(): ReportData {
    const data = { ...this.#fields, ...this.#core };
    const split = Object.values(data.protocols)[0];
    const dataset = data.dataset && split ? { split: split.split, ties: split.ties, ...data.dataset } : data.dataset;
    const whole = dataset ? { ...data, dataset } : data;
    return { summary: summarise(whole), ...whole };
  }

  /** Writes report.json, the whole file or nothing. */
  async writeJson(file: string): Promise<void> {
    await writeAtomic(file, `${JSON.stringify(this.toJSON(), null, 2)}\n`);
  }

  /** Writes one HTML file that needs no network, the whole file or nothing. */
  async writeHtml(file: string): Promise<void> {
    await writeAtomic(file, renderHtml(this.toJSON()));
  }
}
