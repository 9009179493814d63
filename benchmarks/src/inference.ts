/**
 * `npm run bench -- inference [--model FILE.gguf] [--text FILE] [--rounds N] [--lengths 128,512,2048] [--no-perplexity]`
 *
 * A 4-bit model straight from its GGUF file, beside node-llama-cpp on the same file with the same number of threads and prompts of
 * the same lengths, where that is installed and its script is found (USER_LLM_PEERS): prompts (from the request to the first token), decoding, resident memory of a process of
 * its own above one that opened a trivial model, and perplexity on review texts of float32, of the exact 4-bit values, of these
 * with 8-bit activations, and with the layers' products in 8-bit integers (`serve({ int8: true })`), whose speed and memory stand beside. The model is found as SmolLM2-135M-Instruct under USER_LLM_MODELS unless it is named, the reviews under
 * USER_LLM_DATA. The last line is one JSON object; it is also written to benchmarks/results/inference-PROCESSOR.json when nothing was left out.
 */
import { stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { LanguageModel, integerComputation } from '@user-llm/cross-attention';
import type { Computation, DecoderWeights, ServedModel } from '@user-llm/cross-attention';
import { machineDescription } from '@user-llm/evaluation';
import { llamaCppVersion, missingLlamaCpp, runLlamaCpp } from './inference/llama-cpp.js';
import type { LlamaCppFigures } from './inference/llama-cpp.js';
import { measureMemory } from './inference/memory.js';
import { ggufToMeasure } from './inference/model-file.js';
import { perplexity } from './inference/perplexity.js';
import { reviewText, windowsOf } from './inference/review-text.js';
import { keepSpeeds } from './record/results.js';

const threads = Math.min(2, os.availableParallelism());
const decodedTokens = 96;
const decodePrompt = 32;
const rounded = (value: number | null) => (value === null ? null : Number(value.toPrecision(4)));

async function speed(served: ServedModel, ids: readonly number[], lengths: readonly number[], rounds: number) {
  const prefill: Record<string, number> = {};
  for (const length of lengths) {
    const request = { promptIds: ids.slice(0, length), maxNewTokens: 1 };
    await served.generate(request).tokenIds;
    const times: number[] = [];
    for (let round = 0; round < rounds; round++) times.push((await served.generate(request).timings).firstTokenMs);
    prefill[length] = Math.min(...times);
    console.log(
      `prompt of ${length}: ${prefill[length].toFixed(0)} ms, ${((length / prefill[length]) * 1e3).toFixed(0)} tokens/s`,
    );
  }
  let decode = 0;
  for (let round = 0; round < rounds; round++) {
    const generation = served.generate({
      promptIds: ids.slice(0, decodePrompt),
      maxNewTokens: decodedTokens + 1,
      settings: { min_new_tokens: decodedTokens + 1 },
    });
    const { firstTokenMs, totalMs } = await generation.timings;
    decode = Math.max(decode, (decodedTokens / (totalMs - firstTokenMs)) * 1e3);
  }
  console.log(`decoding: ${decode.toFixed(0)} tokens/s`);
  return { prefill, decode };
}

/** A model's figures over those of llama.cpp. */
function besideLlamaCpp(ours: Awaited<ReturnType<typeof speed>>, peer: LlamaCppFigures | null) {
  const prompts = Object.entries(ours.prefill).map(([length, ms]) => {
    const llamaCppMs = peer?.prefill[length]?.ms ?? null;
    return [
      `prefill${length}`,
      {
        ms: rounded(ms),
        tokensPerSecond: rounded((Number(length) / ms) * 1e3),
        llamaCppMs,
        overLlamaCpp: rounded(llamaCppMs && llamaCppMs / ms),
      },
    ] as const;
  });
  const peerDecode = peer?.decodeTokensPerSecond ?? null;
  return {
    ...Object.fromEntries(prompts),
    decode: {
      tokensPerSecond: rounded(ours.decode),
      llamaCppTokensPerSecond: peerDecode,
      overLlamaCpp: rounded(peerDecode && ours.decode / peerDecode),
    },
  };
}

async function perplexities(model: LanguageModel, text: string) {
  const ids = model.tokenizer.encode(text);
  const windows = windowsOf(ids, 512, 16);
  const { config, weights } = model;
  const plain: DecoderWeights = new Map(Array.from(weights, ([name, { data, shape, dtype }]) => [name, { data, shape, dtype }]));
  const of = (all: DecoderWeights, precision: Computation = {}) => perplexity(config, all, windows, { threads, precision });
  const result = {
    tokens: windows.length * 512,
    float32: await of(plain),
    exact4bit: await of(weights, { accuracyLevel: 0 }),
    int8Activations: await of(weights, { accuracyLevel: 4 }),
    int8Products: await of(weights, await integerComputation(model, { int8: true, threads })),
  };
  console.log(
    `perplexity on ${result.tokens} tokens of reviews: float32 ${result.float32.toFixed(4)}, exact 4-bit ${result.exact4bit.toFixed(4)}, 8-bit activations ${result.int8Activations.toFixed(4)}, 8-bit products ${result.int8Products.toFixed(4)}`,
  );
  return result;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      model: { type: 'string' },
      text: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      lengths: { type: 'string', default: '128,512,2048' },
      'no-perplexity': { type: 'boolean', default: false },
    },
  });
  const file = await ggufToMeasure(values.model);
  const { size } = await stat(file);
  const lengths = values.lengths.split(',').map(Number);

  const trivial = await measureMemory('', threads);
  const own = await measureMemory(file, threads);
  const rssOverFile = (own.after - trivial.after) / size;
  const rssPeakOverFile = (own.peak - trivial.peak) / size;
  console.log(
    `memory above a trivial session's: ${rssPeakOverFile.toFixed(2)} times the file at its peak, ${rssOverFile.toFixed(2)} after a request`,
  );

  const model = await LanguageModel.load(file);
  const text = values['no-perplexity'] ? null : await reviewText(values.text);
  const measured = text === null ? null : await perplexities(model, text);

  const ids = model.tokenizer.encode('The Matrix (1999), rated 5. Blade Runner (1982), rated 4. '.repeat(800));
  const missing = missingLlamaCpp();
  if (missing !== null) console.log(`node-llama-cpp is not beside it: ${missing}`);
  const rounds = Math.max(1, Number(values.rounds));
  const of = async (int8: boolean) => {
    const served = await model.serve({ threads, int8 });
    try {
      return await speed(served, ids, lengths, rounds);
    } finally {
      await served.dispose();
    }
  };
  const ours = await of(false);
  console.log('with 8-bit products:');
  const ownInt8 = await measureMemory(file, threads, true);
  const oursInt8 = await of(true);
  const peer = missing === null ? await runLlamaCpp(file) : null;
  if (missing === null && peer === null) console.log('node-llama-cpp is installed but did not run; its figures are left out');

  const result = {
    model: path.basename(file),
    threads,
    nodeLlamaCpp: peer && (await llamaCppVersion()),
    ...besideLlamaCpp(ours, peer),
    rssOverFile: rounded(rssOverFile),
    rssPeakOverFile: rounded(rssPeakOverFile),
    int8: {
      ...besideLlamaCpp(oursInt8, peer),
      rssOverFile: rounded((ownInt8.after - trivial.after) / size),
      rssPeakOverFile: rounded((ownInt8.peak - trivial.peak) / size),
    },
    perplexity: measured && {
      tokens: measured.tokens,
      float32: rounded(measured.float32),
      exact4bit: rounded(measured.exact4bit),
      int8Activations: rounded(measured.int8Activations),
      int8Products: rounded(measured.int8Products),
    },
    machine: machineDescription(),
  };
  if (values.model === undefined && measured !== null && peer !== null) await keepSpeeds('inference', result);
  console.log(JSON.stringify(result));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
