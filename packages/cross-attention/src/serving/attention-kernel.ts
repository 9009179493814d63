/**
 * onnxruntime has two kernels for its fused attention on processors. Of prompts that run in parts, the one that keeps a part's scores whole is
 * faster than the tiled one that it prefers (`npm run bench -- inference`: a prompt of 512 tokens by a sixth). The process's environment
 * decides when a session opens, so that a worker's has to be set before it starts: a thread has only a copy. What somebody has set stays.
 */
export function preferWholeScores(): void {
  process.env.ORT_GQA_DISABLE_FLASH_ATTENTION ??= '1';
}
