import { UserEncoder, type Repeats } from '@user-llm/user-encoder';
import type { Corpus } from '../corpus.js';
import { LanguageSystem, type SystemResources } from '../systems/language-system.js';
import { folderName, type SystemSpec } from '../system-specs.js';
import type { Workspace } from '../workspace.js';

/** The stage that trains a system, and its record's name. */
export const stageOf = ({ name }: SystemSpec): string => `adapt ${name}`;

/** Where a system lies in the run folder. */
export const systemPart = (name: string): string => `systems/${folderName(name)}`;

/** Where the encoder lies that was adapted with a system. */
export const encoderPart = (name: string): string => `${systemPart(name)}-encoder`;

/** The command that trains a system. */
const commandOf = ({ encoder }: SystemSpec): string => (encoder ? 'sweep' : 'adapt');

/** Why a system could not be trained, where its prompts are longer than the model's context; undefined where it was. */
export const misfitOf = ({ run }: Workspace, spec: SystemSpec): string | undefined =>
  run.need(stageOf(spec), commandOf(spec)).result.doesNotFit as string | undefined;

/** The encoder as it came out of adapting a system. */
export async function loadAdaptedEncoder(workspace: Workspace, spec: SystemSpec): Promise<UserEncoder> {
  const { run } = workspace;
  const { tokenizer } = await workspace.corpus();
  const part = encoderPart(spec.name);
  const encoder = await run.read(part, commandOf(spec), () =>
    UserEncoder.load(run.path(part), { tokenizer, ...workspace.runtime }),
  );
  const expected = run.need(stageOf(spec), commandOf(spec)).result.encoder;
  if (expected === undefined || expected === encoder.hash) return encoder;
  await encoder.dispose();
  throw run.damaged(part, commandOf(spec), `${run.path(part)} is not the encoder that was adapted with the model`);
}

/** Opens a system as it was trained; where its encoder is not the one that it reads, the error says so before anything is asked. */
export async function openAdapted(
  { run }: Workspace,
  spec: SystemSpec,
  corpus: Corpus,
  resources: Omit<SystemResources, 'repeats'> = {},
): Promise<LanguageSystem> {
  const { repeats } = run.need(stageOf(spec), commandOf(spec)).result as { repeats?: Repeats };
  const part = systemPart(spec.name);
  const open = () => LanguageSystem.open(spec, run.path(part), corpus, { ...resources, repeats });
  const system = await run.read(part, commandOf(spec), open);
  const encoder = resources.users?.encoder.hash;
  if (encoder === undefined || encoder === system.served.encoder) return system;
  await system.dispose();
  throw run.damaged(part, commandOf(spec), `${run.path(part)} reads the embeddings of another encoder than lies beside it`);
}
