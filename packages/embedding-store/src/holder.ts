import { readFileSync, readlinkSync } from 'node:fs';

/** A process, as marks name it; what Linux alone says is empty elsewhere. */
export interface Holder {
  readonly pid: number;
  /** When it began, in the kernel's ticks: another process may have got its number. */
  readonly began: string;
  /** The namespace that its number is of: each container has one. */
  readonly space: string;
}

/** This process. */
export const own: Holder = { pid: process.pid, began: ownBeginning(), space: /\d+/.exec(linkOf('/proc/self/ns/pid'))?.[0] ?? '' };

/** Whether a process is still there; true too where that cannot be told. */
export function alive({ pid, began, space }: Holder): boolean {
  // Of a process in another container nothing can be told.
  if (isElsewhere(space)) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  const now = own.began === '' ? '' : beginningOf(pid);
  return began === '' || now === '' || now === began;
}

/** Whether a namespace is another one than this process's. */
export const isElsewhere = (space: string): boolean => space !== '' && own.space !== '' && space !== own.space;

/** Empty also where /proc is another container's, and numbers its processes differently. */
function ownBeginning(): string {
  return linkOf('/proc/self') === String(process.pid) ? beginningOf(process.pid) : '';
}

function beginningOf(pid: number): string {
  try {
    // The name, in parentheses, may hold anything; the twentieth field behind it is the start.
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}
