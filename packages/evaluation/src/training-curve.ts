import type { Curve } from './report-types.js';

/**
 * Whether a validation loss was still falling when training stopped: the last loss is the lowest, and it is lower than the best before
 * the last fifth of the run by more than `tolerance` of itself (so that noise on a plateau does not count).
 */
export function stillFalling(points: Curve['points'], tolerance = 0.002): boolean {
  if (points.length < 2) return false;
  const last = points[points.length - 1].loss;
  if (points.some((point, i) => i < points.length - 1 && point.loss <= last)) return false;
  const earlier = points.slice(0, Math.max(1, Math.floor(points.length * 0.8)));
  const best = earlier.reduce((lowest, point) => Math.min(lowest, point.loss), Infinity);
  return best - last > tolerance * Math.abs(last);
}
