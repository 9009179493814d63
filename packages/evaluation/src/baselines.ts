import { count } from './counts.js';
import type { Counts, SparseRow } from './counts.js';
import { UNKNOWN_ITEM } from './interaction-log.js';
import type { RankRequest, System, TrainingData } from './system.js';

/** Weight of popularity in every baseline: it only orders items that nothing else tells apart. */
const POPULARITY = 1e-6;

/** Options of {@link mix}; the defaults are those of the published floors and are not tuned. */
export interface MixOptions {
  /** how many of the last events count. Default 10. */
  readonly last?: number;
  /** weight of an event = decay^(steps back). Default 0.8. */
  readonly decay?: number;
  /** weight of the cosine neighbours against the transitions. Default 0.02. */
  readonly neighbours?: number;
}

type CountingSystem = Omit<System, 'fit' | 'rank' | 'classify'> & {
  fit(train: TrainingData): void;
  rank(request: RankRequest): { scores: Float64Array };
};

/** Every user gets the items with the most events. */
export function popularity(): CountingSystem {
  return counting('popularity', () => undefined);
}

/** First-order Markov chain: what followed the last event's item, popularity where nothing did. */
export function markov(): CountingSystem {
  return counting('markov', (counts, history, scores) => {
    const last = history[history.length - 1];
    if (last !== undefined && last !== UNKNOWN_ITEM) add(scores, counts.transitions(last), 1);
  });
}

/** Item neighbours by cosine (users who have both items), over the last events, the latest weighing most. */
export function itemKnn(options: Omit<MixOptions, 'neighbours'> = {}): CountingSystem {
  return counting('item-knn', recent({ ...options, transitions: 0, neighbours: 1 }));
}

/**
 * Markov transitions and cosine neighbours of the last ten events:
 * score(j) = sum of 0.8^(steps back) * (T[a,j] / sum_j T[a,j] + 0.02 * C[a,j] / sqrt(n_a n_j)) + 1e-6 * n_j / max n.
 */
export function mix({ neighbours = 0.02, ...options }: MixOptions = {}): CountingSystem {
  return counting('mix', recent({ ...options, neighbours, transitions: 1 }));
}

/** The genre that the history holds most often; ties go to the genre that stands first in the list of labels. */
export function mostFrequentGenre(): System & Required<Pick<System, 'classify'>> {
  return {
    name: 'most-frequent-genre',
    kind: 'baseline',
    classify: ({ history, candidates, labels }) => {
      const found = new Map<string, number>();
      for (const item of history.items) {
        for (const genre of item === UNKNOWN_ITEM ? [] : (candidates.categories?.[item] ?? []))
          found.set(genre, (found.get(genre) ?? 0) + 1);
      }
      let label = labels[0];
      for (const genre of labels) if ((found.get(genre) ?? 0) > (found.get(label) ?? 0)) label = genre;
      return { label, cost: { tokens: 0, flops: 0 } };
    },
  };
}

type Score = (counts: Counts, history: Int32Array, scores: Float64Array) => void;

function recent({ last = 10, decay = 0.8, transitions, neighbours = 0 }: MixOptions & { transitions: number }): Score {
  return (counts, history, scores) => {
    let weight = 1;
    for (let i = history.length - 1; i >= Math.max(0, history.length - last); i--, weight *= decay) {
      if (history[i] === UNKNOWN_ITEM) continue;
      if (transitions) add(scores, counts.transitions(history[i]), weight * transitions);
      if (neighbours) add(scores, counts.neighbours(history[i]), weight * neighbours);
    }
  };
}

function add(scores: Float64Array, row: SparseRow, weight: number): void {
  const { items, values } = row;
  for (let i = 0; i < items.length; i++) scores[items[i]] += weight * values[i];
}

function counting(name: string, score: Score): CountingSystem {
  let fitted: { counts: Counts; popular: Float64Array } | undefined;
  return {
    name,
    kind: 'baseline',
    fit(train) {
      const counts = count(train);
      const most = counts.events.reduce((left, right) => Math.max(left, right), 1);
      fitted = { counts, popular: counts.events.map((events) => (POPULARITY * events) / most) };
    },
    rank({ history }) {
      if (!fitted) throw new Error(`Baseline "${name}" is asked before fit(train): call evaluate(), or fit it first.`);
      const scores = fitted.popular.slice();
      score(fitted.counts, history.items, scores);
      return { scores, cost: { tokens: 0, flops: 0 } };
    },
  };
}
