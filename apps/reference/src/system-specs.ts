import { gatedCrossAttention, softPrompt, type BlindPrefix, type Integration, type Strategy } from '@user-llm/cross-attention';
import type { EncoderSize } from './encoder-shape.js';
import { UsageError } from './errors.js';
import type { Reading } from './examples.js';

/** What all language-model systems of a run start from. */
export type BaseKind = 'scratch' | 'pretrained';

/** A language-model system of the comparison: how it reads users and how its batches are made. */
export interface SystemSpec {
  readonly name: string;
  readonly title: string;
  readonly reading: Reading;
  /** Undefined for a text prompt. */
  readonly integration?: (base: BaseKind, layers: number) => Integration;
  /** Which weights learn, where it is not what suits the base. */
  readonly strategy?: Strategy;
  /** Which tokens of a prompt do not read the user. Default: none. */
  readonly blindPrefix?: BlindPrefix;
  /** Whether contrastive alignment comes before its adaptation, in the same time. */
  readonly aligned?: true;
  /** The encoder that it reads, where it is not the run's own. */
  readonly encoder?: EncoderSize;
  /** Of a model from scratch; see `batchOf`. */
  readonly batch: Batch;
}

/** Users per step, moments per user. */
export interface Batch {
  readonly users: number;
  readonly moments: number;
}

/**
 * The gates are half open from the start, for a pretrained base too: it still speaks, and its states at once hold what the encoder knows,
 * so that rows of item tokens can be fitted to them; behind closed gates its few training steps would go into opening them.
 */
const crossAttention = (base: BaseKind, layers: number): Integration =>
  gatedCrossAttention({ every: base === 'scratch' ? 2 : Math.min(4, layers), gate: 0.5 });

export const userSystems: readonly SystemSpec[] = [
  {
    name: 'user-llm/cross-attention',
    title: 'User-LLM, cross-attention',
    reading: { embedding: true, titles: 0 },
    integration: crossAttention,
    batch: { users: 8, moments: 8 },
  },
  {
    name: 'user-llm/soft-prompt',
    title: 'User-LLM, soft prompt',
    reading: { embedding: true, titles: 0 },
    integration: () => softPrompt(),
    batch: { users: 8, moments: 8 },
  },
  {
    name: 'user-llm/cross-attention+text-10',
    title: 'User-LLM, cross-attention + text 10',
    reading: { embedding: true, titles: 10 },
    integration: crossAttention,
    batch: { users: 8, moments: 4 },
  },
];

/** The text prompt whose quality, latency and cost the others are held against. */
export const mainTextSystem: SystemSpec = {
  name: 'text-prompt-50',
  title: 'text prompt, last 50',
  reading: { embedding: false, titles: 50 },
  batch: { users: 8, moments: 1 },
};

export const textSystems: readonly SystemSpec[] = [
  {
    name: 'text-prompt-10',
    title: 'text prompt, last 10',
    reading: { embedding: false, titles: 10 },
    batch: { users: 32, moments: 1 },
  },
  mainTextSystem,
];

/** Prompts that tell of the history in a paragraph. */
const summarySystems: readonly SystemSpec[] = [
  {
    name: 'text-summary',
    title: 'text prompt, summary by a template',
    reading: { embedding: false, titles: 0, summary: 'template' },
    batch: { users: 32, moments: 1 },
  },
  {
    name: 'text-summary-written',
    title: 'text prompt, summary by the model',
    reading: { embedding: false, titles: 0, summary: 'written' },
    batch: { users: 32, moments: 1 },
  },
];

export const defaultSystems: readonly SystemSpec[] = [...userSystems, ...textSystems];

/** The system that answers questions and whose latency is measured against the text prompt. */
export const mainSystem = userSystems[0];

/** A pretrained model stays as it is and its readers learn, or LoRA where it reads text alone; one from scratch is trained whole. */
export const strategyOf = (base: BaseKind, { strategy, integration }: SystemSpec): Strategy =>
  strategy ?? (base === 'scratch' ? 'full' : integration !== undefined ? 'encoder' : 'lora');

/**
 * A model from scratch takes large batches, which cost it little more than small ones. A given one is so large that a step costs what its
 * tokens cost, and so few examples are affordable that they had better make many steps: as many for every system.
 */
export function batchOf(base: BaseKind, { batch, reading }: SystemSpec): Batch {
  if (base === 'scratch') return batch;
  return reading.embedding ? { users: 4, moments: 2 } : { users: 8, moments: 1 };
}

const userStrategies: readonly Strategy[] = ['full', 'lora', 'encoder', 'projection'];

/** Both ways in, by each strategy that is not the usual one. */
const strategySystems = (base: BaseKind): SystemSpec[] =>
  userSystems
    .filter(({ reading }) => reading.titles === 0)
    .flatMap((spec) =>
      userStrategies
        .filter((strategy) => strategy !== strategyOf(base, spec))
        .map((strategy) => ({ ...spec, name: `${spec.name}@${strategy}`, title: `${spec.title}, ${strategy}`, strategy })),
    );

/** What a blind prefix costs in quality: of the main system's prompts, the end of the user's turn and the beginning of the answer read. */
const blindSystem: SystemSpec = {
  ...mainSystem,
  name: `${mainSystem.name}@blind`,
  title: `${mainSystem.title}, blind prefix`,
  blindPrefix: { readingTokens: 5 },
};

/** Which systems a run compares. */
export type Suite = 'default' | 'full';

/** The systems of a suite, in the order in which they are trained. */
export const suiteOf = (suite: Suite, base: BaseKind): readonly SystemSpec[] =>
  suite === 'default'
    ? defaultSystems
    : [...userSystems, ...strategySystems(base), blindSystem, textSystems[0], ...summarySystems, mainTextSystem];

/** A system that reads users, in two stages. */
const alignedFirst = (spec: SystemSpec): SystemSpec => ({
  ...spec,
  name: `${spec.name}@aligned`,
  title: `${spec.title}, aligned first`,
  aligned: true,
});

/** Systems, and beside each that reads users and has its usual strategy, the same one aligned first. */
const withAligned = (systems: readonly SystemSpec[]): readonly SystemSpec[] =>
  systems.flatMap((spec) => (spec.integration && !spec.strategy && !spec.blindPrefix ? [spec, alignedFirst(spec)] : [spec]));

/** Which systems are asked for: a suite, or some of the full one by their names, in the order given. */
export interface SystemChoice {
  readonly suite?: Suite | undefined;
  readonly systems?: readonly string[] | undefined;
  /** Each user-reading system of the suite with its usual strategy also in two stages, the first of which is contrastive alignment. */
  readonly align?: boolean | undefined;
}

/** @throws UsageError for a name that no system has */
export function chooseSystems(
  base: BaseKind,
  { suite = 'default', systems, align = false }: SystemChoice,
): readonly SystemSpec[] {
  if (systems === undefined) return align ? withAligned(suiteOf(suite, base)) : suiteOf(suite, base);
  const all = withAligned(suiteOf('full', base));
  return [...new Set(systems)].map((name) => {
    const spec = all.find((each) => each.name === name);
    if (spec === undefined)
      throw new UsageError(`there is no system '${name}'; --systems takes some of ${all.map((each) => each.name).join(', ')}`);
    return spec;
  });
}

/** A choice as the command line takes it, with a space before it; empty for the usual systems. */
export const optionsOf = ({ suite, systems, align = false }: SystemChoice): string =>
  [
    ...(suite === undefined ? [] : [` --suite ${suite}`]),
    ...(systems === undefined ? [] : [` --systems ${systems.join(',')}`]),
    ...(align ? [' --align'] : []),
  ].join('');

export const folderName = (system: string): string => system.replaceAll('/', '-');
