/**
 * `npm run bench -- quantization [--text FILE] [--windows N]`
 *
 * What rounding weights costs: perplexity on review texts in float32, with matrices rounded to 8 and to 4 bits (`quantize`), activations in
 * float32, for SmolLM2-135M-Instruct and TinyStories-656K under USER_LLM_MODELS. SmolLM2's values are those of its 4-bit file, so
 * only its 8 bits say something of other models; TinyStories' weights were trained as floats. The last line is one JSON object; it is also
 * written to benchmarks/results/quantization.json when nothing was left out.
 */
import { readdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { LanguageModel } from '@user-llm/cross-attention';
import type { DecoderWeights, Precision } from '@user-llm/cross-attention';
import { machineDescription } from '@user-llm/evaluation';
import { perplexity } from './inference/perplexity.js';
import { beside, reviewText, windowsOf } from './inference/review-text.js';
import { commandOf, keepResult } from './record/results.js';

const threads = Math.min(2, os.availableParallelism());

async function measure(folder: string, text: string, count: number) {
  const model = await LanguageModel.load(folder);
  const windows = windowsOf(model.tokenizer.encode(text), Math.min(512, model.config.contextLength), count);
  const plain: DecoderWeights = new Map(
    Array.from(model.weights, ([name, { data, shape, dtype }]) => [name, { data, shape, dtype }]),
  );
  const of = (precision: Precision) => perplexity(model.config, plain, windows, { threads, precision });
  const float32 = await of({});
  const bits8 = await of({ quantize: 8, accuracyLevel: 0 });
  const bits4 = await of({ quantize: 4, accuracyLevel: 0 });
  await model.dispose();
  const figures = { float32, bits8, bits4, loss8: bits8 / float32 - 1, loss4: bits4 / float32 - 1 };
  const rounded = Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, Number(value.toPrecision(5))]));
  console.log(`${path.basename(folder)}, ${windows.flat().length} tokens: ${JSON.stringify(rounded)}`);
  return { tokens: windows.flat().length, ...rounded };
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { text: { type: 'string' }, windows: { type: 'string', default: '16' } } });
  const text = await reviewText(values.text);
  if (text === null)
    throw new Error('There are no reviews; set USER_LLM_DATA to the folder of data sets, or name a text with --text.');
  const models = beside('USER_LLM_MODELS', 'models');
  const wanted = ['SmolLM2-135M-Instruct', 'TinyStories-656K'];
  const there = (await readdir(models).catch(() => [])).filter((name) => wanted.includes(name));
  if (there.length === 0) throw new Error('There is neither of the models; set USER_LLM_MODELS to the folder that holds them.');
  const figures: Record<string, Awaited<ReturnType<typeof measure>>> = {};
  for (const name of there) figures[name] = await measure(path.join(models, name), text, Number(values.windows));
  const result = { models: figures, machine: machineDescription() };
  if (there.length === wanted.length && values.text === undefined && values.windows === '16')
    await keepResult('quantization', { command: commandOf('quantization'), ...result });
  console.log(JSON.stringify(result));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
