import { readFileSync } from 'node:fs';
import os from 'node:os';

/** The machine that figures were measured on. */
export interface MachineDescription {
  readonly cpu: string;
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
  const vectors = vectorInstructions();
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    ...(vectors === undefined ? {} : { vectors }),
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    platform: `${os.type()} ${os.release()}`,
    arch: os.arch(),
    node: process.version,
  };
}

/** 'AMD EPYC, AVX2, 2 cores' */
export const processorOf = ({ cpu, vectors, cores }: MachineDescription): string =>
  [cpu, ...(vectors === undefined ? [] : [vectors]), `${cores} cores`].join(', ');

/** What the processor can do: of those for x64 Linux says it, in a file, and other systems do not. */
function vectorInstructions(): VectorInstructions | undefined {
  if (os.arch() === 'arm64') return 'NEON';
  try {
    return widestOf(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return undefined;
  }
}

/** The widest vector instructions of the first processor in the text of `/proc/cpuinfo`. */
export function widestOf(cpuInfo: string): VectorInstructions | undefined {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuInfo)?.[1].trim().split(/\s+/));
  if (flags.has('avx512f')) return 'AVX-512';
  if (flags.has('avx2')) return 'AVX2';
  return flags.has('avx') ? 'AVX' : undefined;
}
