import type { Curve, TrainingRecord } from '@user-llm/evaluation';
import type { UserEncoder } from '@user-llm/user-encoder';
import { counted } from '../run/console-output.js';
import { strategyOf, type SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';
import { stageOf } from './adapted.js';
import type { AlignmentRecord } from './align-reader.js';
import { baseKind } from './language.js';

interface Adapted {
  readonly training: {
    examplesSeen: number;
    steps: number;
    seconds: number;
    stillFalling: boolean;
    trainedParameters: number;
    curve: Curve['points'];
    validation: Curve['points'];
  };
  readonly alignment?: AlignmentRecord;
}

const resultOf = ({ run }: Workspace, spec: SystemSpec): Adapted => run.need(stageOf(spec), 'adapt').result as unknown as Adapted;

/** What the report says beside a system's figures. */
export function aboutOf(workspace: Workspace, spec: SystemSpec): { examplesSeen: number; notes: string[] } {
  const { training, alignment } = resultOf(workspace, spec);
  const { examplesSeen, seconds, steps } = training;
  return {
    examplesSeen,
    notes: [
      ...(alignment ? [`aligned first: ${inWords(alignment)}`] : []),
      `trained by '${strategyOf(baseKind(workspace), spec)}', ${counted(steps, 'step')} in ${Math.round(seconds)} s`,
    ],
  };
}

const inWords = ({ steps, seconds, accuracy, among }: AlignmentRecord): string =>
  `${counted(steps, 'step')} in ${Math.round(seconds)} s; of ${among} held-out users and texts ${(100 * accuracy).toFixed(0)} % found each other`;

/** Stages of a run, besides those of its systems. */
const ownStages = ['fit', 'pretrain', 'language', 'summaries', 'history length'];

/** Seconds that all stages of these systems took; of a training that was stopped and went on, all of it. */
export const stageSeconds = ({ run }: Workspace, systems: readonly SystemSpec[]): number =>
  [...ownStages, ...systems.flatMap((spec) => [stageOf(spec), `encode ${spec.name}`, `retrieval ${spec.name}`])].reduce(
    (sum, stage) => {
      const { seconds = 0, result } = run.finished(stage) ?? {};
      return sum + Math.max(seconds, Number(result?.trainingSeconds ?? 0));
    },
    0,
  );

/** How everything in a report was trained. */
export function trainingRecords(
  workspace: Workspace,
  encoder: UserEncoder,
  systems: readonly SystemSpec[],
): {
  training: TrainingRecord[];
  curves: Curve[];
} {
  const training: TrainingRecord[] = [];
  const curves: Curve[] = [];
  if (encoder.training) {
    const { steps, seconds, stillImproving, losses } = encoder.training;
    // Of no steps there is no loss that could have fallen.
    training.push({ name: 'encoder', steps, seconds, stillFalling: stillImproving && steps > 0 });
    // The encoder's record has steps; its seconds pass evenly.
    curves.push({
      name: 'encoder',
      kind: 'training',
      points: losses.map(({ step, loss }) => ({ step, loss, seconds: (step / steps) * seconds })),
    });
  }
  for (const spec of systems) {
    const { training: adapted, alignment } = resultOf(workspace, spec);
    const { steps, seconds, examplesSeen, stillFalling, trainedParameters, curve, validation } = adapted;
    if (alignment)
      training.push({
        name: `${spec.name}, alignment`,
        steps: alignment.steps,
        seconds: alignment.seconds,
        examplesSeen: alignment.examplesSeen,
        stillFalling: alignment.stillFalling,
      });
    training.push({
      name: spec.name,
      strategy: strategyOf(baseKind(workspace), spec),
      steps,
      seconds,
      examplesSeen,
      stillFalling,
      parameters: trainedParameters,
    });
    curves.push(
      { name: spec.name, kind: 'training', points: curve },
      { name: spec.name, kind: 'validation', points: validation },
    );
  }
  return { training, curves };
}
