import { gatedCrossAttention, softPrompt, type Integration, type Strategy } from '@user-llm/cross-attention';
import type { EncoderSize } from './encoder-shape.js';
import type { Reading } from './examples.js';

/** A language-model system of the comparison: how it reads users and how its batches are made. */
export interface SystemSpec {
  readonly name: string;
  readonly title: string;
  readonly reading: Reading;
  /** Undefined for a text prompt. */
  readonly integration?: (base: 'scratch' | 'pretrained') => Integration;
  /** The encoder that it reads, where it is not the run's own. */
  readonly encoder?: EncoderSize;
  /** Users per step, moments per user. */
  readonly batch: { readonly users: number; readonly moments: number };
}

/** A base from scratch learns to read users from the start; a pretrained one begins as it is (gate closed). */
const crossAttention = (base: 'scratch' | 'pretrained'): Integration =>
  base === 'scratch' ? gatedCrossAttention({ every: 2, gate: 0.5 }) : gatedCrossAttention({ every: 4, gate: 0 });

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

export const textSystems: readonly SystemSpec[] = [
  {
    name: 'text-prompt-10',
    title: 'text prompt, last 10',
    reading: { embedding: false, titles: 10 },
    batch: { users: 32, moments: 1 },
  },
  {
    name: 'text-prompt-50',
    title: 'text prompt, last 50',
    reading: { embedding: false, titles: 50 },
    batch: { users: 8, moments: 1 },
  },
];

export const languageSystems: readonly SystemSpec[] = [...userSystems, ...textSystems];

/** The system that answers questions and whose latency is measured against the text prompt. */
export const mainSystem = userSystems[0];

/** A pretrained model stays as it is and its readers learn, or LoRA where it reads text alone; one from scratch is trained whole. */
export const strategyOf = (base: 'scratch' | 'pretrained', readsUsers: boolean): Strategy =>
  base === 'scratch' ? 'full' : readsUsers ? 'encoder' : 'lora';

export const folderName = (system: string): string => system.replaceAll('/', '-');
