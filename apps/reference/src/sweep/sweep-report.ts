import {
  bootstrap,
  hitAt,
  holm,
  machineDescription,
  processorOf,
  mean,
  signFlipTest,
  type Interval,
  type Outcome,
  type Report,
  type SystemRow,
  type TradeOffPage,
  type TradeOffPoint,
} from '@user-llm/evaluation';
import type { Corpus } from '../corpus.js';
import { counted } from '../run/console-output.js';
import type { Cell } from './grid.js';
import type { CellCosts } from './measure-cell.js';

/** One cell, trained and measured. */
export interface MeasuredCell {
  readonly cell: Cell;
  readonly costs: CellCosts;
  readonly outcome: Outcome;
  readonly training: {
    readonly pretrainSteps: number;
    readonly pretrainStillImproving: boolean;
    readonly adaptSteps: number;
    readonly examplesSeen: number;
    readonly adaptStillFalling: boolean;
  };
}

/** One width's encoder by its own item head. */
export interface MeasuredWidth {
  readonly width: number;
  readonly outcome: Outcome;
  /** Of the width's first cell: the resampler is in it. */
  readonly encodeMs: number;
}

/** Against the cell with the most bytes, user by user. */
interface AgainstLargest {
  /** recall@10, this cell's minus the largest one's */
  readonly delta: number;
  readonly ci95: Interval;
  readonly p: number;
  /** after Holm's correction over the cells */
  readonly pHolm: number;
}

export interface SweepFindings {
  readonly corpus: Corpus;
  readonly seed: number;
  readonly minutesPerCell: number;
  /** How the language models rank the items. */
  readonly ranking: { readonly way: string; readonly method: string; readonly among: string };
  readonly cells: readonly MeasuredCell[];
  readonly widths: readonly MeasuredWidth[];
  /** Of all outcomes and the counting baselines. */
  readonly report: Report;
}

/** sweep.json, and the page made of it. */
export function sweepReport(findings: SweepFindings): { json: Record<string, unknown>; page: TradeOffPage } {
  const { corpus, seed, minutesPerCell, ranking, cells, widths, report } = findings;
  const { systems } = report.toJSON();
  const rowOf = (name: string): SystemRow => systems.find((row) => row.name === name)!;
  const against = againstLargest(cells, seed);
  const figures = cells.map((measured, i) => ({
    ...measured,
    row: rowOf(measured.cell.spec.name),
    against: against[i],
  }));
  const baselines = systems.filter((row) => row.kind === 'baseline');
  const machine = machineDescription();
  const json = {
    dataset: corpus.dataset.name,
    simulated: corpus.dataset.simulated,
    seed,
    minutesPerCell,
    ranking,
    machine,
    protocol: corpus.split.description,
    cells: figures.map(({ cell, costs, training, row, against: versus }) => ({
      name: cell.spec.name,
      width: cell.size.width,
      userTokens: cell.size.userTokens,
      costs,
      requestMs: row.latencyMs,
      users: row.users,
      filtered: row.filtered,
      unfiltered: row.unfiltered,
      ci95: row.ci95,
      againstBestBaseline: row.vs,
      againstLargestCell: versus,
      training,
    })),
    encoders: widths.map(({ width, outcome, encodeMs }) => {
      const { users, filtered, unfiltered, ci95, vs } = rowOf(outcome.system);
      return { width, encodeMs, users, filtered, unfiltered, ci95, againstBestBaseline: vs };
    }),
    baselines: baselines.map(({ name, users, filtered, unfiltered, ci95, sample }) => ({
      name,
      users,
      filtered,
      unfiltered,
      ci95,
      sample,
    })),
  };
  const references = (sampled: boolean): { name: string; value: number }[] =>
    baselines.map((row) => ({
      name: row.name,
      value: ((sampled && row.sample) || row).filtered!['recall@10']!,
    }));
  const page: TradeOffPage = {
    title: `What a larger user embedding buys on ${corpus.dataset.name}`,
    simulated: corpus.dataset.simulated,
    summary: summaryOf(figures, findings),
    facts: [
      ['Users', String(corpus.log.users.length)],
      ['Items', String(corpus.log.itemIds.length)],
      ['Events', String(corpus.events.counts.events)],
      ['Test users ranked', String(figures[0].row.users)],
      ['Training per cell', `${minutesPerCell} min`],
      ['Seed', String(seed)],
      ['Machine', processorOf(machine)],
    ],
    sections: [
      {
        title: 'The language model that reads the embedding',
        text: `Recall@10, filtered, of cross-attention over K user tokens of width D, for one seeded sample of ${figures[0].row.users} test users, every item ranked. Bars: 95 % intervals over users.`,
        quality: 'recall@10',
        costs: [
          { key: 'bytes', label: 'bytes per user' },
          { key: 'readMs', label: 'store read and keys and values, ms' },
          { key: 'encodeMs', label: 'encoding a user, ms' },
        ],
        points: figures.map(({ cell, costs, row }): TradeOffPoint => ({
          name: cell.spec.title,
          series: `${cell.size.userTokens} user token${cell.size.userTokens === 1 ? '' : 's'}`,
          value: row.filtered!['recall@10']!,
          interval: row.ci95['recall@10'],
          costs: { bytes: costs.embeddingBytes, readMs: costs.readMs, encodeMs: costs.encodeMs },
        })),
        references: references(true),
        table: {
          head: [
            '',
            'recall@10',
            '95 % interval',
            'NDCG@10',
            'against the largest cell',
            'bytes',
            'in the store',
            'keys and values',
            'read, ms',
            'encode, ms',
            'request p50, ms',
            'steps: encoder, model',
          ],
          rows: figures.map(({ cell, costs, row, training, against: versus }) => [
            cell.spec.title,
            row.filtered!['recall@10']!.toFixed(4),
            intervalText(row.ci95['recall@10']),
            row.filtered!['ndcg@10']!.toFixed(4),
            versus && `${signed(versus.delta)} (${versus.ci95.map(signed).join(' to ')}; p ${versus.pHolm.toFixed(3)})`,
            String(costs.embeddingBytes),
            costs.storeBytes.toFixed(0),
            String(costs.userStateBytes),
            costs.readMs.toFixed(2),
            costs.encodeMs.toFixed(2),
            row.latencyMs.p50?.toFixed(1) ?? null,
            `${training.pretrainSteps}${training.pretrainStillImproving ? ' (still improving)' : ''}, ${training.adaptSteps}${training.adaptStillFalling ? ' (still falling)' : ''}`,
          ]),
        },
      },
      {
        title: 'The encoder alone',
        text: `Recall@10, filtered, of the encoder's own item head after pretraining, for all ${rowOf(widths[0].outcome.system).users} test users. It reads its last state and no user tokens, so that K plays no part here.`,
        quality: 'recall@10',
        costs: [{ key: 'encodeMs', label: 'encoding a user, ms' }],
        points: widths.map(({ width, outcome, encodeMs }): TradeOffPoint => {
          const row = rowOf(outcome.system);
          return {
            name: `width ${width}`,
            series: 'encoder alone',
            value: row.filtered!['recall@10']!,
            interval: row.ci95['recall@10'],
            costs: { encodeMs },
          };
        }),
        references: references(false),
        table: {
          head: ['', 'recall@10', '95 % interval', 'NDCG@10', 'encode, ms'],
          rows: widths.map(({ width, outcome, encodeMs }) => {
            const row = rowOf(outcome.system);
            return [
              `width ${width}`,
              row.filtered!['recall@10']!.toFixed(4),
              intervalText(row.ci95['recall@10']),
              row.filtered!['ndcg@10']!.toFixed(4),
              encodeMs.toFixed(2),
            ];
          }),
        },
      },
    ],
    method: [
      `Every cell is trained for ${counted(minutesPerCell, 'minute')}, by the clock, from seed ${seed}: half of that pretrains its encoder, half adapts the language model to it. A larger cell does fewer steps in that time; the table says how many, and which cells were still getting better.`,
      'Pretraining leaves the resampler, which makes the K tokens, alone; cells of one width therefore share one pretrained encoder. All cells start from one language model.',
      `The language models rank by ${ranking.method}.`,
      'One seed: how much another seed would move a cell is not measured here, and the intervals are over users alone. Run it again with another --seed to see.',
      'Differences are paired, user by user, against the cell with the most bytes; p is a two-sided sign-flip test after Holm’s correction over the cells.',
      'Each user’s last event is the test item, which nothing has seen; the one before it chooses the weights. Items of the history are left out of the ranking.',
      `Milliseconds are medians of wall-clock time over seeded test users in several rounds, cell after cell on this one machine. Bytes are K x D numbers in float32; the store adds names, hashes, times and a checksum, and rounds to pages.`,
    ],
  };
  return { json, page };
}

type Figures = MeasuredCell & { readonly row: SystemRow; readonly against: AgainstLargest | null };

const bytesOf = ({ costs }: MeasuredCell): number => costs.embeddingBytes;

function againstLargest(cells: readonly MeasuredCell[], seed: number): (AgainstLargest | null)[] {
  const largest = cells.reduce((most, cell) => (bytesOf(cell) > bytesOf(most) ? cell : most));
  const hits = ({ outcome }: MeasuredCell): number[] => outcome.filteredRanks!.map((rank) => hitAt(rank, 10));
  const theirs = hits(largest);
  const compared = cells.map((cell) => {
    if (cell === largest) return null;
    const differences = hits(cell).map((hit, i) => hit - theirs[i]);
    return { delta: mean(differences), ci95: bootstrap(differences, { seed }), p: signFlipTest(differences, { seed }).p };
  });
  const adjusted = holm(compared.flatMap((one) => (one ? [one.p] : [])));
  let next = 0;
  return compared.map((one) => one && { ...one, pHolm: adjusted[next++] });
}

/** What the grid says, in words; the first sentence is the one to act on. */
function summaryOf(figures: readonly Figures[], { minutesPerCell, report }: SweepFindings): string[] {
  const recall = ({ row }: Figures): number => row.filtered!['recall@10']!;
  const bySize = [...figures].sort((a, b) => bytesOf(a) - bytesOf(b));
  const largest = figures.find(({ against }) => against === null)!;
  const smallest = bySize.find(({ against }) => against === null || against.ci95[1] >= 0)!;
  const best = figures.reduce((a, b) => (recall(b) > recall(a) ? b : a));
  const unfinished = figures.filter(({ training }) => training.adaptStillFalling || training.pretrainStillImproving);
  const winner = report
    .toJSON()
    .systems.filter((row) => row.kind === 'baseline')
    .map((row) => ({ name: row.name, recall: (row.sample ?? row).filtered!['recall@10']! }))
    .reduce((a, b) => (b.recall > a.recall ? b : a));
  const figure = `recall@10 ${recall(best).toFixed(3)} (${intervalText(best.row.ci95['recall@10'])})`;
  const compared = [
    smallest === largest
      ? `Every smaller cell is measurably worse than the largest one (${largest.cell.spec.title}, ${bytesOf(largest)} bytes per user).`
      : `The smallest cell that is not measurably worse than the largest one has ${bytesOf(smallest)} bytes per user (${smallest.cell.spec.title}); the largest has ${bytesOf(largest)} (${largest.cell.spec.title}).`,
    `The best by its figure alone is ${best.cell.spec.title}: ${figure}.`,
  ];
  return [
    ...(figures.length > 1 ? compared : [`There is one cell, and none to compare it with. ${best.cell.spec.title}: ${figure}.`]),
    recall(best) > winner.recall
      ? `Of the counting baselines ${winner.name} is best on the same users, with ${winner.recall.toFixed(3)}.`
      : `No cell beats counting: ${winner.name} has ${winner.recall.toFixed(3)} on the same users.`,
    ...(unfinished.length > 0
      ? [
          `${unfinished.length} of ${counted(figures.length, 'cell')} ${unfinished.length === 1 ? 'was' : 'were'} still getting better after ${counted(minutesPerCell, 'minute')}: with more time the ${figures.length === 1 ? 'figure' : 'order'} may change.`,
        ]
      : []),
  ];
}

const signed = (value: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`;
const intervalText = (ends: Interval | null): string => (ends ? ends.map((end) => end.toFixed(3)).join(' to ') : '-');
