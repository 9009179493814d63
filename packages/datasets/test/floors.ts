/**
 * Hit@10 of two counting baselines, leave one out: the history given is all but the last film, all counts leave out each user's
 * last two, watched films are left out of the ranking, ties count half. Mix adds first-order transitions and cosine neighbours
 * of the last ten films, weighted by 0.8 per step back.
 */
export function floors(log: readonly Int32Array[], items: number): { popularity: number; mix: number } {
  const seen = new Float64Array(items);
  const transitions = new Float64Array(items * items);
  const together = new Float64Array(items * items);
  const outgoing = new Float64Array(items);
  for (const films of log) {
    const known = films.subarray(0, -2);
    known.forEach((film, at) => {
      seen[film]++;
      if (at > 0) {
        transitions[known[at - 1] * items + film]++;
        outgoing[known[at - 1]]++;
      }
      for (const other of known) if (other !== film) together[film * items + other]++;
    });
  }
  const most = Math.max(...seen);
  const hits = { popularity: 0, mix: 0 };
  for (const films of log) {
    const history = films.subarray(0, -1);
    const target = films[films.length - 1];
    const mix = seen.map((count) => (1e-6 * count) / most);
    let weight = 1;
    for (let back = 1; back <= Math.min(10, history.length); back++, weight *= 0.8) {
      const last = history[history.length - back];
      for (let film = 0; film < items; film++) {
        const step = outgoing[last] > 0 ? transitions[last * items + film] / outgoing[last] : 0;
        const norm = Math.sqrt(seen[last] * seen[film]);
        mix[film] += weight * (step + (norm > 0 ? (0.02 * together[last * items + film]) / norm : 0));
      }
    }
    const watched = new Set(history);
    const rank = (scores: Float64Array) => {
      let higher = 0;
      let tied = 0;
      for (let film = 0; film < items; film++) {
        if (watched.has(film)) continue;
        if (scores[film] > scores[target]) higher++;
        else if (scores[film] === scores[target]) tied++;
      }
      return higher + Math.floor((tied - 1) / 2);
    };
    if (rank(seen) < 10) hits.popularity++;
    if (rank(mix) < 10) hits.mix++;
  }
  return { popularity: hits.popularity / log.length, mix: hits.mix / log.length };
}
