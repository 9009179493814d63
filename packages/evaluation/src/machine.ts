import { readFileSync } from 'node:fs';
import os from 'node:os';

/** The machine that figures were measured on. */
export interface MachineDescription {
  readonly cpu: string;
  /** What the processor is by its family and model, 'Zen 5', where that is known: the name of a virtual machine's processor hides it. */
  readonly generation?: string;
  /** The widest vector instructions of the processor, of which its name may say nothing; absent where they are not known. */
  readonly vectors?: VectorInstructions;
  /** cores that this process may use */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly platform: string;
  readonly arch: string;
  readonly node: string;
}

export type VectorInstructions = 'AVX-512' | 'AVX2' | 'AVX' | 'NEON';

/** Describes this machine without naming it: no host or user name. */
export function machineDescription(): MachineDescription {
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    ...processor(),
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    platform: `${os.type()} ${os.release()}`,
    arch: os.arch(),
    node: process.version,
  };
}

/** 'AMD EPYC (Zen 3), AVX2, 2 cores' */
export const processorOf = ({ cpu, generation, vectors, cores }: MachineDescription): string =>
  [generation === undefined ? cpu : `${cpu} (${generation})`, ...(vectors === undefined ? [] : [vectors]), `${cores} cores`].join(
    ', ',
  );

/** What the processor is and can do: of those for x64 Linux says it, in a file, and other systems do not. */
function processor(): Pick<MachineDescription, 'generation' | 'vectors'> {
  if (os.arch() === 'arm64') return { vectors: 'NEON' };
  try {
    const cpuInfo = readFileSync('/proc/cpuinfo', 'utf8');
    const generation = generationOf(cpuInfo);
    const vectors = widestOf(cpuInfo);
    return { ...(generation === undefined ? {} : { generation }), ...(vectors === undefined ? {} : { vectors }) };
  } catch {
    return {};
  }
}

/** The field of the first processor in the text of `/proc/cpuinfo`. */
const fieldOf = (cpuInfo: string, name: string): string | undefined =>
  new RegExp(`^${name}[\\t ]*:(.*)$`, 'm').exec(cpuInfo)?.[1].trim();

/** AMD's generation of the first processor in the text of `/proc/cpuinfo`, by which its speeds differ most; of other makers' nothing is said. */
export function generationOf(cpuInfo: string): `Zen ${1 | 2 | 3 | 4 | 5}` | undefined {
  if (fieldOf(cpuInfo, 'vendor_id') !== 'AuthenticAMD') return undefined;
  const model = Number(fieldOf(cpuInfo, 'model'));
  switch (Number(fieldOf(cpuInfo, 'cpu family'))) {
    case 0x17:
      return model < 0x30 ? 'Zen 1' : 'Zen 2';
    case 0x19:
      return (model >= 0x10 && model < 0x20) || model >= 0x60 ? 'Zen 4' : 'Zen 3';
    case 0x1a:
      return model < 0x50 || (model >= 0x60 && model < 0x80) ? 'Zen 5' : undefined;
    default:
      return undefined;
  }
}

/** The widest vector instructions of the first processor in the text of `/proc/cpuinfo`. */
export function widestOf(cpuInfo: string): VectorInstructions | undefined {
  const flags = new Set(fieldOf(cpuInfo, 'flags')?.split(/\s+/));
  if (flags.has('avx512f')) return 'AVX-512';
  if (flags.has('avx2')) return 'AVX2';
  return flags.has('avx') ? 'AVX' : undefined;
}
