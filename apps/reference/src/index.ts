export { build, main } from './program.js';
export { openSource, fitTokenizer, loadCorpus, type Corpus } from './corpus.js';
export { encoderShape, pretrainingRate } from './encoder-shape.js';
export { explain, UsageError, type Explained } from './errors.js';
export { ConsoleOutput, type OutputOptions } from './run/console-output.js';
export { RunFolder, type RunSettings, type StageRecord } from './run/run-folder.js';
export { defaultMinutes, Workspace, type WorkspaceOptions } from './workspace.js';
export { runAll } from './stages/poc.js';
export { encoderSystem } from './systems/encoder-system.js';
