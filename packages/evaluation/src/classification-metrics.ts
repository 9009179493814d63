import { averageRanks } from './descriptive.js';

/** Share of predictions that are equal to the label. */
export function accuracy<T>(labels: readonly T[], predictions: readonly T[]): number {
  sameLength(labels, predictions);
  return labels.filter((label, i) => label === predictions[i]).length / labels.length;
}

/** Mean F1 over the classes that occur among labels or predictions; a class that is never right counts 0. */
export function macroF1<T>(labels: readonly T[], predictions: readonly T[]): number {
  sameLength(labels, predictions);
  const classes = new Map<T, { right: number; total: number }>();
  const of = (label: T): { right: number; total: number } => {
    let found = classes.get(label);
    if (!found) classes.set(label, (found = { right: 0, total: 0 }));
    return found;
  };
  labels.forEach((label, i) => {
    of(label).total++;
    of(predictions[i]).total++;
    if (label === predictions[i]) of(label).right++;
  });
  let sum = 0;
  for (const { right, total } of classes.values()) sum += (2 * right) / total;
  return sum / classes.size;
}

/** Counts [label][prediction] over `size` classes. */
export function confusion(labels: readonly number[], predictions: readonly number[], size: number): number[][] {
  sameLength(labels, predictions);
  const counts = Array.from({ length: size }, () => new Array<number>(size).fill(0));
  labels.forEach((label, i) => counts[label][predictions[i]]++);
  return counts;
}

/** Mean negative log-probability of the true class. Rows are normalised; probabilities are kept 2^-52 away from 0 and 1. */
export function logLoss(labels: readonly number[], probabilities: readonly (readonly number[])[]): number {
  sameLength(labels, probabilities);
  let sum = 0;
  labels.forEach((label, i) => {
    const total = probabilities[i].reduce((left, right) => left + right, 0);
    sum -= Math.log(Math.min(1 - Number.EPSILON, Math.max(Number.EPSILON, probabilities[i][label] / total)));
  });
  return sum / labels.length;
}

/** Area under the ROC curve: the chance that a positive scores above a negative, ties counting half. NaN with one class only. */
export function rocAuc(labels: readonly number[], scores: readonly number[]): number {
  sameLength(labels, scores);
  const ranks = averageRanks(scores);
  let positives = 0;
  let sum = 0;
  labels.forEach((label, i) => {
    if (!label) return;
    positives++;
    sum += ranks[i];
  });
  return (sum - (positives * (positives + 1)) / 2) / (positives * (labels.length - positives));
}

/** Average precision: sum over thresholds of precision times the recall gained; tied scores are one threshold. NaN where a score is. */
export function averagePrecision(labels: readonly number[], scores: readonly number[]): number {
  sameLength(labels, scores);
  if (scores.some((score) => Number.isNaN(score))) return NaN;
  const order = scores.map((_, i) => i).sort((left, right) => scores[right] - scores[left]);
  const positives = labels.filter((label) => label).length;
  let found = 0;
  let sum = 0;
  for (let from = 0; from < order.length;) {
    let to = from;
    let gained = 0;
    while (to < order.length && scores[order[to]] === scores[order[from]]) gained += labels[order[to++]] ? 1 : 0;
    found += gained;
    sum += (gained / positives) * (found / to);
    from = to;
  }
  return sum;
}

function sameLength(labels: readonly unknown[], others: readonly unknown[]): void {
  if (labels.length !== others.length)
    throw new RangeError(`${labels.length} labels against ${others.length} predictions: give one each.`);
}
