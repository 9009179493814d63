// One run for the whole workspace; each package's tests are a project of their own.
import { project } from './tools/jest-project.mjs';

export default {
  maxWorkers: 2,
  // Nothing is timed in a test; this only ends one that hangs, on a machine that is busy with other things too.
  testTimeout: 60_000,
  projects: [
    'packages/onnx-autograd',
    'packages/event-tokenizer',
    'packages/user-encoder',
    'packages/embedding-store',
    'packages/cross-attention',
    'packages/evaluation',
    'packages/datasets',
    'apps/reference',
    'benchmarks',
    'tools',
  ].map((folder) => project(folder)),
};
