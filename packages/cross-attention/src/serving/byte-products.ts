import { readFileSync } from 'node:fs';

/**
 * Whether this processor is known to multiply bytes in wide vectors at once (AVX-512 VNNI). With it onnxruntime's products with a code in
 * each byte are the faster ones for prompts; with AVX2 alone those with two codes in a byte are, by a third or more, for decoding too
 * (`npm run bench -- inference`). Of the systems only Linux says so in a file; where nothing is known, bytes would cost memory for nothing.
 */
export function multipliesBytesAtOnce(): boolean {
  try {
    return processorFlags(readFileSync('/proc/cpuinfo', 'utf8')).has('avx512_vnni');
  } catch {
    return false;
  }
}

/** The flags of the first processor in the text of `/proc/cpuinfo`; none where it has no such line. */
export const processorFlags = (cpuInfo: string): ReadonlySet<string> =>
  new Set(/^flags\s*:(.*)$/m.exec(cpuInfo)?.[1].trim().split(/\s+/));
