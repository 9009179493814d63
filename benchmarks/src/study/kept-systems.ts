import { processorOf } from '@user-llm/evaluation';
import type { HistoryLengthRow, MachineDescription, Outcome, Report, TrainingRecord } from '@user-llm/evaluation';
import { checkTerms, readKept, writeKept } from './kept-file.js';

/** How a language-model system answered and was trained, where and by which command. The first files have no command. */
interface KeptSystem {
  readonly machine: MachineDescription;
  readonly command?: string;
  readonly training: readonly TrainingRecord[];
  readonly outcomes: readonly Outcome[];
  /** Its part of the quality against history length, where that was measured. */
  readonly historyLength?: readonly HistoryLengthRow[];
}

/** What must be the same for systems of several runs to stand in one comparison; the data are compared by the outcomes' hash. */
export interface Terms {
  readonly seed: number;
  readonly users: number;
  readonly examples: number | null;
  /** Null where the encoder is pretrained for a share of the minutes. */
  readonly encoderSteps: number | null;
  /** Null where systems are compared by examples, and the encoder has its steps. */
  readonly minutes: number | null;
  readonly recipe: number;
}

/**
 * How language-model systems are trained, raised by what makes earlier ones incomparable. 2: where users take nothing again, the next item is
 * told from what the user has not taken. 3: encoders start from the co-occurrence of items. 4: the rows of genres are fitted to every user.
 */
export const systemRecipe = 4;

interface Content {
  readonly terms: Terms;
  readonly systems: Readonly<Record<string, KeptSystem>>;
}

/**
 * The answers of a comparison's language-model systems, user by user, in a file beside its result: a comparison that takes days is made of
 * runs that measure some systems each, on whatever machine is free.
 */
export class KeptSystems {
  private constructor(
    private readonly file: string,
    private content: Content,
    /** Whether what the file holds stays in it. */
    private readonly keeps: boolean,
  ) {}

  /** @throws UsageError where the file holds systems of a comparison by other terms */
  static async read(file: string, terms: Terms): Promise<KeptSystems> {
    return new KeptSystems(file, await contentOf(file, terms), true);
  }

  static none(file: string, terms: Terms): KeptSystems {
    return new KeptSystems(file, { terms, systems: {} }, false);
  }

  /** The report with the systems that it has not, each with a note of where it was measured. */
  addTo(report: Report): Report {
    const asked = systemsOf(report);
    const kept = Object.entries(this.content.systems).filter(([name]) => !asked.includes(name));
    const outcomes = kept.flatMap(([, { outcomes: own, machine }]) =>
      own.map((outcome) => ({
        ...outcome,
        notes: [...(outcome.notes ?? []), `measured in a run of its own, on ${processorOf(machine)}`],
      })),
    );
    const { training = [], unfinished, historyLength = [] } = report.toJSON();
    const missing = Array.isArray(unfinished) ? unfinished.filter((name) => !kept.some(([other]) => other === name)) : [];
    const commands = Object.fromEntries(kept.flatMap(([name, { command }]) => (command === undefined ? [] : [[name, command]])));
    const lengths = kept.reduce((rows, [, system]) => joined(rows, system.historyLength ?? []), historyLength);
    return report.including(outcomes).with({
      training: [...training, ...kept.flatMap(([, system]) => system.training)],
      ...(Array.isArray(unfinished) && { finished: missing.length === 0, unfinished: missing }),
      ...(lengths.length > 0 && { historyLength: lengths }),
      ...(Object.keys(commands).length > 0 && { commands }),
    });
  }

  /** Writes the systems of a report that `command` measured, and those that it has not. */
  async write(report: Report, machine: MachineDescription, command: string): Promise<void> {
    const { training = [], historyLength = [] } = report.toJSON();
    const measured = systemsOf(report);
    const here = measured.map((name): [string, KeptSystem] => [
      name,
      {
        machine,
        command,
        training: training.filter((record) => record.name === name || record.name.startsWith(`${name}, `)),
        outcomes: report.outcomes.filter(({ system }) => system === name).map(shortened),
        ...historyLengthOf(name, historyLength, measured),
      },
    ]);
    const { terms } = this.content;
    // Another run may have added to it since.
    const latest: Pick<Content, 'systems'> = this.keeps ? await contentOf(this.file, terms) : { systems: {} };
    const systems = here.map(([name, system]) => [name, alreadyKept(system, latest.systems[name]) ?? system] as const);
    this.content = { terms, systems: { ...latest.systems, ...Object.fromEntries(systems) } };
    await writeKept(this.file, this.content);
  }
}

/** What a file holds, or nothing where there is none. @throws UsageError where it holds systems of a comparison by other terms */
async function contentOf(file: string, terms: Terms): Promise<Content> {
  const kept = await readKept<Content>(file);
  if (!kept) return { terms, systems: {} };
  checkTerms(file, { ...earliest, ...kept.terms }, terms);
  return { ...kept, terms };
}

/** Terms that the first files do not name. */
const earliest = { recipe: 1 };

/** The systems that rank a sample of users: those with a language model. */
const systemsOf = (report: Report): string[] => [
  ...new Set(report.outcomes.filter(({ sampled }) => sampled).map(({ system }) => system)),
];

/** A system's part of the rows, where it has one, with that of the encoder that stood beside it. */
function historyLengthOf(
  name: string,
  rows: readonly HistoryLengthRow[],
  others: readonly string[],
): Pick<KeptSystem, 'historyLength'> {
  if (!rows.some(({ systems }) => systems.some((system) => system.name === name))) return {};
  const beside = new Set(others.filter((other) => other !== name));
  return { historyLength: rows.map((row) => ({ ...row, systems: row.systems.filter((system) => !beside.has(system.name)) })) };
}

/**
 * Rows with the systems of others of the same lengths and as many users: all runs of the same seed and data ask the same ones. What stands in
 * both, the encoder that each run has, is that of the first.
 */
function joined(rows: readonly HistoryLengthRow[], others: readonly HistoryLengthRow[]): readonly HistoryLengthRow[] {
  if (rows.length === 0) return others;
  return rows.map((row) => {
    const other = others.find(({ events, users }) => events === row.events && users === row.users);
    if (other === undefined) return row;
    const known = new Set(row.systems.map(({ name }) => name));
    return { ...row, systems: [...row.systems, ...other.systems.filter(({ name }) => !known.has(name))] };
  });
}

/**
 * What is kept of a system that a run only read again, with the history lengths that it may have added: the command that measured it, and
 * where, and the lengths that a report on the way has not.
 */
const alreadyKept = ({ outcomes, historyLength }: KeptSystem, known: KeptSystem | undefined): KeptSystem | undefined =>
  known && JSON.stringify(known.outcomes) === JSON.stringify(outcomes)
    ? { ...known, ...(historyLength && { historyLength }) }
    : undefined;

const shortened = (outcome: Outcome): Outcome => ({
  ...outcome,
  latencyMs: outcome.latencyMs.map((ms) => Number(ms.toPrecision(4))),
});
