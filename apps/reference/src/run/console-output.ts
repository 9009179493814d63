import { MultiBar, Presets, type SingleBar } from 'cli-progress';

export interface OutputOptions {
  /** Machine-readable: progress and results as JSON lines on standard output. */
  readonly json: boolean;
  /** Nothing but the results. */
  readonly quiet: boolean;
}

/** A long stage as it is shown: a bar with rate and time left on a terminal, a line now and then elsewhere. */
export interface Progress {
  update(progress: ProgressState): void;
  done(summary?: string): void;
}

export interface ProgressState {
  /** From 0 to 1. */
  readonly fraction: number;
  /** Rate, loss and the like, already in words. */
  readonly detail?: string;
  readonly secondsLeft?: number;
}

const secondsBetweenLines = 10;

/** Where everything that the command says goes: progress to standard error, results to standard output. */
export class ConsoleOutput {
  private bars: MultiBar | undefined;

  constructor(private readonly options: OutputOptions) {}

  /** A line of a result. */
  print(line = ''): void {
    if (!this.options.json) process.stdout.write(`${line}\n`);
  }

  /** A line about what is going on. */
  note(line: string): void {
    if (this.options.quiet) return;
    if (this.options.json) this.emit({ event: 'note', text: line });
    else process.stderr.write(`${line}\n`);
  }

  /** A machine-readable result; shown with --json alone. */
  result(value: Readonly<Record<string, unknown>>): void {
    if (this.options.json) this.emit(value);
  }

  table(rows: readonly Record<string, unknown>[]): void {
    if (this.options.json || rows.length === 0) return;
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const text = (value: unknown): string => (value === null || value === undefined ? '-' : String(value));
    const widths = columns.map((column) => Math.max(column.length, ...rows.map((row) => text(row[column]).length)));
    const numeric = columns.map((column) => rows.every((row) => row[column] == null || typeof row[column] === 'number'));
    const line = (cells: string[]): string =>
      cells
        .map((cell, i) => (numeric[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
        .join('  ')
        .trimEnd();
    this.print(line(columns));
    for (const row of rows) this.print(line(columns.map((column) => text(row[column]))));
  }

  /** A piece of a streamed answer. */
  write(piece: string): void {
    if (!this.options.json) process.stdout.write(piece);
  }

  progress(stage: string, title: string): Progress {
    if (this.options.quiet) return { update: () => undefined, done: () => undefined };
    const { update, done } = this.options.json
      ? this.jsonProgress(stage)
      : process.stderr.isTTY
        ? this.bar(title)
        : this.lines(title);
    // What comes after a stage may be expected to take longer than all of it was to take.
    return { update: (state) => update({ ...state, fraction: Math.min(1, Math.max(0, state.fraction)) }), done };
  }

  /** Ends what an error left open: a bar that goes on drawing itself would keep the process alive. */
  close(): void {
    this.bars?.stop();
    this.bars = undefined;
  }

  private emit(value: Readonly<Record<string, unknown>>): void {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }

  private jsonProgress(stage: string): Progress {
    let last = -Infinity;
    return {
      update: (state) => {
        if (performance.now() - last < 1000) return;
        last = performance.now();
        this.emit({ event: 'progress', stage, ...state });
      },
      done: (summary) => this.emit({ event: 'done', stage, ...(summary ? { summary } : {}) }),
    };
  }

  private bar(title: string): Progress {
    this.bars ??= new MultiBar(
      {
        format: '{title} {bar} {percentage}%  {left}  {detail}',
        hideCursor: true,
        clearOnComplete: false,
        stream: process.stderr,
        barsize: 24,
        fps: 5,
      },
      Presets.rect,
    );
    const bars = this.bars;
    const bar: SingleBar = bars.create(1000, 0, { title: title.padEnd(titleWidth), left: '', detail: '' });
    return {
      update: ({ fraction, detail = '', secondsLeft }) =>
        bar.update(Math.round(fraction * 1000), {
          detail,
          left: secondsLeft === undefined ? '' : `${time(secondsLeft)} left`,
        }),
      done: (summary = '') => {
        bar.update(1000, { detail: summary, left: '' });
        this.close();
      },
    };
  }

  private lines(title: string): Progress {
    let last = performance.now();
    const began = last;
    return {
      update: ({ fraction, detail = '', secondsLeft }) => {
        if (performance.now() - last < secondsBetweenLines * 1000) return;
        last = performance.now();
        const left = secondsLeft === undefined ? '' : `, ${time(secondsLeft)} left`;
        process.stderr.write(`  ${title} ${Math.round(fraction * 100)}%${left}${detail ? `, ${detail}` : ''}\n`);
      },
      done: (summary = '') =>
        process.stderr.write(
          `${title.padEnd(titleWidth)} ${time((performance.now() - began) / 1000)}${summary ? `  ${summary}` : ''}\n`,
        ),
    };
  }
}

const titleWidth = 34;

/** Seconds as people say them. */
export function time(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

/** How many of a thing: 1 step, 2 steps. */
export const counted = (count: number, thing: string): string => `${count} ${thing}${count === 1 ? '' : 's'}`;
