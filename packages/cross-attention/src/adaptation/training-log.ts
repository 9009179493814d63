import type { TrainingRecord } from './training-options.js';

interface Point {
  readonly step: number;
  readonly seconds: number;
  readonly loss: number;
}

/** What a resumed run needs to know of its past, and the record is made from. JSON. */
export interface LogState {
  readonly step: number;
  readonly seconds: number;
  readonly examplesSeen: number;
  readonly tokensSeen: number;
  readonly curve: readonly Point[];
  readonly stride: number;
  readonly validation: readonly ValidationPoint[];
  /** What a step, and a validation, took of late. Logs of older versions say nothing of it. */
  readonly stepSeconds?: number;
  readonly validationSeconds?: number;
}

interface ValidationPoint extends Point {
  readonly ndcg?: number;
  readonly accuracy?: number;
  readonly early?: boolean;
}

const mostPoints = 400;

/** Keeps the curve of a run, thinned out as it grows. */
export class TrainingLog {
  step = 0;
  examplesSeen = 0;
  tokensSeen = 0;
  stepSeconds = 0;
  validationSeconds = 0;
  readonly validation: ValidationPoint[] = [];
  #curve: Point[] = [];
  #stride = 1;
  #sum = 0;
  #count = 0;
  #before = 0;
  #since = performance.now();
  #recent: { at: number; tokens: number; examples: number }[] = [];

  /** Wall-clock of the run, earlier parts included. */
  get seconds(): number {
    return this.#before + (performance.now() - this.#since) / 1000;
  }

  /** The best validation: of the highest NDCG where rankings were looked at, of the lowest loss otherwise; the first of equals. Early ones do not count. */
  get best(): ValidationPoint | undefined {
    const badness = ({ loss, ndcg }: ValidationPoint): number => (ndcg === undefined ? loss : -ndcg);
    return this.validation
      .filter(({ early }) => !early)
      .reduce<ValidationPoint | undefined>((best, point) => (best && badness(best) <= badness(point) ? best : point), undefined);
  }

  /** Where the weights of the best validation are lost: those so far count as early ones. */
  forgetBest(): void {
    this.validation.splice(0, Infinity, ...this.validation.map((point) => ({ ...point, early: true })));
  }

  add(step: number, loss: number, examples: number, tokens: number): void {
    this.step = step;
    this.examplesSeen += examples;
    this.tokensSeen += tokens;
    this.#recent.push({ at: performance.now(), tokens, examples });
    if (this.#recent.length > 20) this.#recent.shift();
    this.#sum += loss;
    this.#count++;
    if (this.#count < this.#stride) return;
    this.#curve.push({ step, seconds: this.seconds, loss: this.#sum / this.#count });
    this.#sum = this.#count = 0;
    if (this.#curve.length < mostPoints) return;
    this.#stride *= 2;
    this.#curve = Array.from({ length: mostPoints / 2 }, (_, i) => {
      const [a, b] = this.#curve.slice(2 * i, 2 * i + 2);
      return { ...b, loss: (a.loss + b.loss) / 2 };
    });
  }

  /** Tokens and examples per second of the last steps. */
  get pace(): { readonly tokensPerSecond: number; readonly examplesPerSecond: number } {
    const recent = this.#recent;
    if (recent.length < 2) {
      const seconds = Math.max(1e-3, this.seconds);
      return { tokensPerSecond: this.tokensSeen / seconds, examplesPerSecond: this.examplesSeen / seconds };
    }
    const seconds = Math.max(1, recent[recent.length - 1].at - recent[0].at) / 1000;
    const sum = (of: 'tokens' | 'examples') => recent.slice(1).reduce((total, entry) => total + entry[of], 0);
    return { tokensPerSecond: sum('tokens') / seconds, examplesPerSecond: sum('examples') / seconds };
  }

  state(): LogState {
    return {
      step: this.step,
      seconds: this.seconds,
      examplesSeen: this.examplesSeen,
      tokensSeen: this.tokensSeen,
      curve: this.#curve,
      stride: this.#stride,
      validation: this.validation,
      stepSeconds: this.stepSeconds,
      validationSeconds: this.validationSeconds,
    };
  }

  restore(state: LogState): void {
    this.step = state.step;
    this.examplesSeen = state.examplesSeen;
    this.tokensSeen = state.tokensSeen;
    this.validation.push(...state.validation);
    this.#curve = [...state.curve];
    this.#stride = state.stride;
    this.stepSeconds = state.stepSeconds ?? 0;
    this.validationSeconds = state.validationSeconds ?? 0;
    this.#before = state.seconds;
    this.#since = performance.now();
  }

  record(extra: Pick<TrainingRecord, 'bestStep' | 'stoppedEarly' | 'trainedParameters' | 'options'>): TrainingRecord {
    return {
      steps: this.step,
      seconds: this.seconds,
      examplesSeen: this.examplesSeen,
      tokensSeen: this.tokensSeen,
      curve: this.#curve,
      validation: this.validation,
      stillFalling: this.validation.length > 1 ? isFalling(this.validation) : isFalling(this.#curve),
      ...extra,
    };
  }
}

/** Whether the last tenth is below what came just before it by more than half a percent. */
function isFalling(points: readonly Point[]): boolean {
  const size = Math.max(1, Math.round(points.length / 10));
  if (points.length < 2 * size) return false;
  const mean = (part: readonly Point[]) => part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
  return mean(points.slice(-size)) < 0.995 * mean(points.slice(-2 * size, -size));
}
