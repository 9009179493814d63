import { spawnSync } from 'node:child_process';

// What a process asked of one file, in the order it asked, as strace saw it; and what a disk may hold if the power fails in between.

/** One request: bytes to a place, a promise that earlier bytes are on the disk, or a line the process said. */
export type DiskEvent =
  | { kind: 'write'; offset: number; bytes: Buffer; /** on the disk when the call returns */ through: boolean }
  | { kind: 'sync' }
  | { kind: 'said'; line: string };

const sector = 512;

export function straceWorks(): boolean {
  return spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0;
}

/** The strace command line to put before the one of interest. */
export function straceInto(trace: string): string {
  return `exec strace -f -xx -s 100000000 -e trace=openat,lseek,pwrite64,pwritev,write,writev,fdatasync,fsync -o '${trace}'`;
}

function unescape(text: string): Buffer {
  return Buffer.from(text.replaceAll('\\x', ''), 'hex');
}

/** Reads a trace: the events on the file whose name ends in `suffix`, and the lines written to stdout. */
export function parseTrace(text: string, suffix: string): DiskEvent[] {
  const events: DiskEvent[] = [];
  const files = new Map<string, { through: boolean; position: number }>();
  const started = new Map<string, string>();
  for (const raw of text.split('\n')) {
    const [, pid, rest] = /^(\d+)\s+(.*)$/.exec(raw) ?? [];
    if (!rest) continue;
    let call = rest;
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest);
    if (rest.endsWith('<unfinished ...>')) {
      started.set(pid, rest.slice(0, -'<unfinished ...>'.length));
      continue;
    }
    if (resumed) call = (started.get(pid) ?? '') + resumed[1];
    const [, name, args, result] = /^(\w+)\((.*)\)\s+= (-?\d+)/.exec(call) ?? [];
    if (!name || Number(result) < 0) continue;
    const fd = /^(\d+)/.exec(args)?.[1] ?? '';
    if (name === 'openat') {
      const path = unescape(/"([^"]*)"/.exec(args)?.[1] ?? '').toString();
      if (path.endsWith(suffix)) files.set(result, { through: args.includes('O_DSYNC'), position: 0 });
      else files.delete(result);
    } else if (name === 'write' && fd === '1') {
      const line = unescape(/"([^"]*)"/.exec(args)?.[1] ?? '')
        .toString()
        .trim();
      events.push({ kind: 'said', line });
    } else if (files.has(fd) && (name === 'fdatasync' || name === 'fsync')) {
      events.push({ kind: 'sync' });
    } else if (files.has(fd) && name === 'lseek') {
      files.get(fd)!.position = Number(result);
    } else if (files.has(fd)) {
      const file = files.get(fd)!;
      const bytes = Buffer.concat([...args.matchAll(/"([^"]*)"/g)].map(([, piece]) => unescape(piece)));
      if (bytes.length !== Number(result)) throw new Error(`the trace holds ${bytes.length} bytes of a ${name} of ${result}`);
      const placed = name.startsWith('pwrite');
      const offset = placed ? Number(/(\d+)$/.exec(args)![1]) : file.position;
      if (!placed) file.position += bytes.length;
      events.push({ kind: 'write', offset, bytes, through: file.through });
    }
  }
  return events;
}

/** Bytes that the disk may hold when the power fails after `count` events: of what was not synced, any sectors. */
export function afterPowerCut(
  events: readonly DiskEvent[],
  count: number,
  random: () => number,
  { honourSync = true } = {},
): Buffer {
  const size = events.reduce(
    (end, event) => (event.kind === 'write' ? Math.max(end, event.offset + event.bytes.length) : end),
    0,
  );
  const image = Buffer.alloc(size);
  let end = 0;
  let pending: { offset: number; bytes: Buffer }[] = [];
  const store = ({ offset, bytes }: { offset: number; bytes: Buffer }): void => {
    bytes.copy(image, offset);
    end = Math.max(end, offset + bytes.length);
  };
  for (const event of events.slice(0, count)) {
    if (event.kind === 'write' && event.through && honourSync) store(event);
    else if (event.kind === 'write') pending.push(event);
    else if (event.kind === 'sync' && honourSync) {
      pending.forEach(store);
      pending = [];
    }
  }
  // A disk writes in an order of its own: often the last request is there whole, and the ones it builds on are not.
  const kept = random();
  if (random() < 0.5 && pending.length > 0) store(pending.pop()!);
  for (const { offset, bytes } of pending) {
    for (let at = 0; at < bytes.length; at += sector) {
      if (random() < kept) store({ offset: offset + at, bytes: bytes.subarray(at, at + sector) });
    }
  }
  return image.subarray(0, end);
}
