import { pValue } from './format.js';
import type { ReportContent, SystemRow } from './report-types.js';
import type { ScalingRow } from './scaling.js';
import { stillFalling } from './training-curve.js';

/** The ratio of text prompt to User-LLM latency that is aimed at, and the history length it is aimed at for. */
const AIM = { events: 200, ratio: 20 };
const USER_LLM = 'user-llm';
const TEXT_PROMPT = 'text-prompt-50';
const SHORT_TEXT_PROMPT = 'text-prompt-10';

/**
 * The report in plain words. Where a User-LLM loses to the text prompt of 50 events, to another baseline on any task, or is not fast
 * enough, that is said first.
 */
export function summarise(report: ReportContent): string[] {
  const lost = lostToBaselines(report);
  const sentences = [
    ...(missesAim(report) ? [first(report), ...lost] : [...lost, first(report)]),
    speed(report),
    simulated(report),
    ...againstBaselines(report),
    ...unfinished(report),
    ...unfit(report),
  ];
  return sentences.filter((sentence) => sentence !== undefined);
}

/** Figures that can be compared with those of every other system: on the sample where there is one. */
export function comparable(row: SystemRow): Pick<SystemRow, 'filtered' | 'unfiltered' | 'accuracy' | 'ci95' | 'users'> {
  return row.sample ?? row;
}

const recall = (row: SystemRow | undefined): number | null => (row ? (comparable(row).filtered?.['recall@10'] ?? null) : null);
const figure = (value: number): string => value.toFixed(4).replace(/^0/, '');

/** The User-LLM systems on next-item against the text prompt of 50 events, where both have figures. */
function againstText(report: ReportContent): { text?: SystemRow; winners: SystemRow[]; losers: SystemRow[] } {
  const rows = report.systems.filter((row) => row.task === 'next-item');
  const text = rows.find((row) => row.name === TEXT_PROMPT);
  const limit = recall(text);
  const compared = limit === null ? [] : rows.filter((row) => row.name.startsWith(USER_LLM) && recall(row) !== null);
  const wins = (row: SystemRow): boolean => (recall(row) as number) > (limit as number);
  return { text, winners: compared.filter(wins), losers: compared.filter((row) => !wins(row)) };
}

const measuredAtAim = ({ scaling }: ReportContent): ScalingRow | undefined =>
  scaling?.find((row) => row.events === AIM.events && row.ratio !== null);

/** Whether a User-LLM misses what is aimed at: quality above the text prompt of 50 events, 20 times its speed at 200 events. */
function missesAim(report: ReportContent): boolean {
  const ratio = measuredAtAim(report)?.ratio;
  return againstText(report).losers.length > 0 || (ratio != null && ratio < AIM.ratio);
}

/** Whether a User-LLM misses what is aimed at, or is worse than the best baseline on some task. */
export const shortfall = (report: ReportContent): boolean => missesAim(report) || worseThanBaseline(report).length > 0;

/** The User-LLM systems that are worse than the best baseline on a task, the whole interval below it. */
const worseThanBaseline = ({ systems }: ReportContent): SystemRow[] =>
  systems.filter(({ name, vs }) => name.startsWith(USER_LLM) && vs != null && vs.ci95[1] < 0);

/** What a task is about, and the figure of it that is compared, over all users that the system was asked for. */
const asked = {
  'next-item': { what: 'the next item', figure: 'recall@10', of: (row) => row.filtered?.['recall@10'] ?? NaN },
  'favourite-genre': { what: 'the favourite genre', figure: 'accuracy', of: (row) => row.accuracy ?? NaN },
} as const satisfies Record<SystemRow['task'], { what: string; figure: string; of: (row: SystemRow) => number }>;

/** A sentence for each task and baseline to which a User-LLM loses, with the figures over the users that were compared. */
function lostToBaselines(report: ReportContent): string[] {
  const groups = new Map<string, SystemRow[]>();
  for (const row of worseThanBaseline(report)) {
    const key = `${row.task} ${row.vs!.users} ${row.vs!.baseline}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return Array.from(groups.values(), (rows) => {
    const [first] = rows;
    const { baseline, delta } = first.vs!;
    const { what, figure: name, of } = asked[first.task];
    const losers = rows.map((row) => `${row.name} (${figure(of(row))})`).join(', ');
    return `Of ${what}, the best baseline, ${baseline} (${name} ${figure(of(first) - delta)}), knows more than ${losers}.`;
  });
}

function first(report: ReportContent): string | undefined {
  const { text, winners, losers } = againstText(report);
  const ratio = measuredAtAim(report)?.ratio;
  const slow = ratio != null && ratio < AIM.ratio;
  const rows = report.systems.filter((row) => row.task === 'next-item');
  if (!rows.some((row) => row.name.startsWith(USER_LLM))) return leader(rows);
  const named = (list: readonly SystemRow[]): string =>
    list.map((row) => `${row.name} (${figure(recall(row) as number)})`).join(', ');
  const than = text ? `the text prompt of 50 events (${figure(recall(text) ?? NaN)})` : '';
  const whom = text ? `over the same ${comparable(text).users} users` : '';
  const parts: string[] = [];
  if (winners.length + losers.length === 0) {
    const why = !text ? 'that prompt was not measured' : (text.doesNotFit ?? 'figures are missing');
    parts.push(`whether User-LLM beats the text prompt of 50 events is not known: ${why}`);
  }
  if (losers.length)
    parts.push(`${named(losers)} did not beat ${than} on recall@10 ${whom}${winners.length ? `, ${named(winners)} did` : ''}`);
  if (slow) parts.push(slowSentence(ratio));
  if (!losers.length && !slow && winners.length)
    parts.push(`${named(winners)} found the next item among the first ten more often than ${than}, ${whom}`);
  if (!slow && ratio != null && !losers.length) {
    parts.push(
      `at ${AIM.events} events a request with the text prompt takes ${ratio.toFixed(0)} times as long to its first token as one with the embedding`,
    );
  }
  const short = rows.find((row) => row.name === SHORT_TEXT_PROMPT);
  const compared = [...winners, ...losers].map((row) => recall(row) as number);
  if (compared.length > 0 && (recall(short) ?? -1) > Math.max(...compared))
    parts.push(`the text prompt of 10 events did better than all of them (${figure(recall(short) as number)})`);
  const sentence = `${parts.join('; ')}.`;
  // names of systems keep their spelling, words start a sentence
  return sentence.startsWith(USER_LLM) ? sentence : sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

/** Where the first sentence tells of lost quality, the speed that was reached is told here. */
function speed(report: ReportContent): string | undefined {
  const ratio = measuredAtAim(report)?.ratio;
  if (ratio == null || ratio < AIM.ratio || againstText(report).losers.length === 0) return undefined;
  return `At ${AIM.events} events a request with the text prompt takes ${ratio.toFixed(0)} times as long to its first token as one with the embedding.`;
}

const slowSentence = (ratio: number): string =>
  `at ${AIM.events} events a request with the text prompt takes only ${ratio.toFixed(1)} times as long as one with the embedding, where ${AIM.ratio} was the aim`;

function leader(rows: readonly SystemRow[]): string | undefined {
  const ranked = rows
    .filter((row) => recall(row) !== null)
    .sort((left, right) => (recall(right) as number) - (recall(left) as number));
  if (ranked.length === 0) return undefined;
  const [best] = ranked;
  const level = ranked.filter((row) => recall(row) === recall(best)).map(({ name }) => name);
  const who = level.length === 1 ? `${best.name} ranks` : `${level.slice(0, -1).join(', ')} and ${level.at(-1)} rank`;
  return `${who} best of ${ranked.length} systems: recall@10 ${figure(recall(best) as number)} over ${comparable(best).users} users.`;
}

function simulated({ dataset }: ReportContent): string | undefined {
  return dataset?.simulated
    ? `The data are simulated ("${dataset.name}"): the figures show that the machinery works, not how good it is on real people.`
    : undefined;
}

function againstBaselines(report: ReportContent): string[] {
  return report.systems
    .filter((row) => row.kind === 'system' && row.vs && (row.name.startsWith(USER_LLM) || row.name === 'encoder'))
    .sort((left, right) => Number(left.vs!.ci95[1] >= 0) - Number(right.vs!.ci95[1] >= 0))
    .map((row) => {
      const { baseline, delta, ci95, p, users } = row.vs as NonNullable<SystemRow['vs']>;
      const [low, high] = ci95;
      const what = asked[row.task].figure;
      const verdict = low > 0 ? 'is better than' : high < 0 ? 'is worse than' : 'cannot be told apart from';
      return `${row.name} ${verdict} the best baseline, ${baseline}: ${what} ${delta >= 0 ? '+' : '-'}${figure(Math.abs(delta))} (95 % interval ${low.toFixed(3)} to ${high.toFixed(3)}, p ${p < 0.001 ? '' : '= '}${pValue(p)}, ${users} users).`;
    });
}

function unfinished({ curves = [], training = [] }: ReportContent): string[] {
  const names = new Set<string>();
  for (const curve of curves) if (curve.kind === 'validation' && stillFalling(curve.points)) names.add(curve.name);
  for (const record of training) {
    if (record.stillFalling === true) names.add(record.name);
    if (record.stillFalling === false) names.delete(record.name);
  }
  if (names.size === 0) return [];
  return [
    `When training ended the validation loss was still falling for ${[...names].join(', ')}: more training would probably help.`,
  ];
}

function unfit({ systems }: ReportContent): string[] {
  return systems
    .filter((row) => row.doesNotFit !== undefined)
    .map((row) => `${row.name} has no figures on ${row.task}: ${row.doesNotFit}.`);
}
