import type { ReportContent, SystemRow } from './report-types.js';
import { stillFalling } from './training-curve.js';

/** The ratio of text prompt to User-LLM latency that is aimed at, and the history length it is aimed at for. */
const AIM = { events: 200, ratio: 20 };
const USER_LLM = 'user-llm';
const TEXT_PROMPT = 'text-prompt-50';

/**
 * The report in plain words. Where a User-LLM loses to the text prompt of 50 events, or is not fast enough against it, the first
 * sentence says so.
 */
export function summarise(report: ReportContent): string[] {
  const sentences = [first(report), simulated(report), ...againstBaselines(report), ...unfinished(report), ...unfit(report)];
  return sentences.filter((sentence) => sentence !== undefined);
}

/** Figures that can be compared with those of every other system: on the sample where there is one. */
export function comparable(row: SystemRow): Pick<SystemRow, 'filtered' | 'unfiltered' | 'accuracy' | 'ci95' | 'users'> {
  return row.sample ?? row;
}

const recall = (row: SystemRow | undefined): number | null => (row ? (comparable(row).filtered?.['recall@10'] ?? null) : null);
const figure = (value: number): string => value.toFixed(4).replace(/^0/, '');

function first(report: ReportContent): string | undefined {
  const rows = report.systems.filter((row) => row.task === 'next-item');
  const models = rows.filter((row) => row.name.startsWith(USER_LLM));
  const text = rows.find((row) => row.name === TEXT_PROMPT);
  const textRecall = recall(text);
  const measured = report.scaling?.find((row) => row.events === AIM.events);
  const slow = measured?.ratio != null && measured.ratio < AIM.ratio ? measured : undefined;
  if (models.length === 0) return slow ? `${slowSentence(slow.ratio)}.` : leader(rows);
  const losers = models.filter((row) => {
    const own = recall(row);
    return own !== null && textRecall !== null && own <= textRecall;
  });
  const winners = models.filter((row) => {
    const own = recall(row);
    return own !== null && textRecall !== null && own > textRecall;
  });
  const users = text ? comparable(text).users : 0;
  const named = (list: readonly SystemRow[]): string => list.map((row) => `${row.name} (${figure(recall(row) as number)})`).join(', ');
  const parts: string[] = [];
  if (losers.length && textRecall !== null) {
    parts.push(`${named(losers)} did not beat the text prompt of 50 events (${figure(textRecall)}) on recall@10 over the same ${users} users`);
  }
  if (slow) parts.push(slowSentence(slow.ratio));
  const failed = parts.length > 0;
  if (winners.length && textRecall !== null) {
    const rest = `${named(winners)} found the next item among the first ten more often than the text prompt of 50 events (${figure(textRecall)}), over the same ${users} users`;
    if (!failed) parts.push(rest);
  }
  if (!failed && measured?.ratio != null) {
    parts.push(`at ${AIM.events} events a request with the text prompt takes ${measured.ratio.toFixed(0)} times as long to its first token`);
  }
  if (parts.length === 0) {
    const why = !text ? 'no text prompt of 50 events was measured' : (text.doesNotFit ?? 'its figures are missing');
    return `Whether User-LLM beats the text prompt of 50 events is not known: ${why}.`;
  }
  return `${parts.join('; ')}.`;
}

const slowSentence = (ratio: number | null): string =>
  `at ${AIM.events} events a request with the text prompt takes only ${(ratio ?? 0).toFixed(1)} times as long as one with the embedding, where ${AIM.ratio} was the aim`;

function leader(rows: readonly SystemRow[]): string | undefined {
  const ranked = rows.filter((row) => recall(row) !== null).sort((left, right) => (recall(right) as number) - (recall(left) as number));
  if (ranked.length === 0) return undefined;
  const [best] = ranked;
  return `${best.name} ranks best of ${ranked.length} systems: recall@10 ${figure(recall(best) as number)} over ${comparable(best).users} users.`;
}

function simulated({ dataset }: ReportContent): string | undefined {
  return dataset?.simulated ? `The data are simulated ("${dataset.name}"): the figures show that the machinery works, not how good it is on real people.` : undefined;
}

function againstBaselines(report: ReportContent): string[] {
  return report.systems
    .filter((row) => row.kind === 'system' && row.vs && (row.name.startsWith(USER_LLM) || row.name === 'encoder'))
    .map((row) => {
      const { baseline, delta, ci95, p, users } = row.vs as NonNullable<SystemRow['vs']>;
      const [low, high] = ci95;
      const what = row.task === 'next-item' ? 'recall@10' : 'accuracy';
      const verdict = low > 0 ? 'is better than' : high < 0 ? 'is worse than' : 'cannot be told apart from';
      return `${row.name} ${verdict} the best baseline, ${baseline}: ${what} ${delta >= 0 ? '+' : '-'}${figure(Math.abs(delta))} (95 % interval ${low.toFixed(3)} to ${high.toFixed(3)}, p ${p < 0.001 ? '< .001' : `= ${figure(p)}`}, ${users} users).`;
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
  return [`When time ran out the validation loss was still falling for ${[...names].join(', ')}: longer training would have made ${names.size === 1 ? 'it' : 'them'} better.`];
}

function unfit({ systems }: ReportContent): string[] {
  return systems.filter((row) => row.doesNotFit !== undefined).map((row) => `${row.name} has no figures on ${row.task}: ${row.doesNotFit}.`);
}
