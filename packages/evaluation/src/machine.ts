import os from 'node:os';

/** The machine that figures were measured on. */
export interface MachineDescription {
  readonly cpu: string;
  /** cores that this process may use */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly platform: string;
  readonly arch: string;
  readonly node: string;
}

/** Describes this machine without naming it: no host or user name. */
export function machineDescription(): MachineDescription {
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    platform: `${os.type()} ${os.release()}`,
    arch: os.arch(),
    node: process.version,
  };
}
