/**
 * `npm run bench -- encoder-window --data NAME [--windows 10,25,50,100,200] [--epochs N --patience N | --steps N] [--width N]
 * [--threads N] [--seed N]`
 *
 * What a smaller window costs: encoders that see the last W events in every layer, by rotary and by relative-time positions, beside
 * one with learned positions over the whole context. Each is pretrained alike on a real data set, found by its name under the folder in
 * USER_LLM_DATA, keeps the weights of its best validation, and ranks all items for the last event of every user, which it never saw. The
 * last line is one JSON object; it is also written to benchmarks/results/.
 */
import { evaluate, machineDescription, nextItem, type System } from '@user-llm/evaluation';
import { encoderSystem, fitTokenizer, loadCorpus, openSource, UsageError } from '@user-llm/reference';
import { UserEncoder, type EncoderOptions } from '@user-llm/user-encoder';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { commandOf, keepResult } from './record/results.js';

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    windows: { type: 'string', default: '10,25,50,100,200' },
    epochs: { type: 'string', default: '40' },
    patience: { type: 'string', default: '8' },
    width: { type: 'string', default: '64' },
    seed: { type: 'string', default: '1' },
    steps: { type: 'string' },
    threads: { type: 'string' },
  },
});

interface Variant {
  readonly name: string;
  readonly attention: EncoderOptions['attention'];
}

async function main(): Promise<void> {
  const { USER_LLM_DATA: data } = process.env;
  if (!values.data || !data) throw new UsageError('name a data set with --data, and its folder in USER_LLM_DATA');
  const seed = Number(values.seed);
  const windows = values.windows.split(',').map(Number);
  const dataset = await openSource(path.resolve(data, values.data), seed);
  const corpus = await loadCorpus(dataset, await fitTokenizer(dataset));
  const timed = corpus.tokenizer.fields.time?.kind === 'time' && corpus.tokenizer.fields.time.unit !== 'order';
  const variants: Variant[] = [
    { name: 'learned', attention: 'causal' },
    ...(['rotary', 'relative-time'] as const)
      .filter((position) => position === 'rotary' || timed)
      .flatMap((position) =>
        windows.map((window) => ({ name: `${position} ${window}`, attention: { position, window } }) satisfies Variant),
      ),
  ];
  const shape = { width: Number(values.width), layers: 2, heads: 2, context: 200, dropout: 0.3, seed };
  const systems: System[] = [];
  const trained: Record<string, unknown>[] = [];
  for (const { name, attention } of variants) {
    const encoder = await UserEncoder.create(corpus.tokenizer, { ...shape, attention }).pretrain(corpus.known, {
      ...(values.steps === undefined
        ? { epochs: Number(values.epochs), patience: Number(values.patience) }
        : { steps: Number(values.steps), schedule: 'cosine' as const }),
      ...(values.threads === undefined ? {} : { threads: Number(values.threads) }),
    }).result;
    const { steps, seconds, best } = encoder.training!;
    const stateBytes =
      typeof attention === 'object'
        ? { float32: encoder.stateBytes('float32'), float16: encoder.stateBytes('float16'), int8: encoder.stateBytes('int8') }
        : null;
    console.log(`${name}: ${steps} steps, ${seconds.toFixed(0)} s, validation ndcg@10 ${best?.ndcgAt10.toFixed(4)}`);
    trained.push({ name, attention, steps, seconds, best, stateBytes });
    systems.push({ ...encoderSystem(encoder, corpus), name });
  }
  const report = await evaluate({ task: nextItem(corpus.split), systems, seed });
  console.table(report.rows);
  const { systems: results } = report.toJSON();
  const command = commandOf('encoder-window');
  const complete = { command, data: values.data, seed, shape, machine: machineDescription(), trained, systems: results };
  await keepResult(`encoder-window-${values.data}-seed${seed}`, complete);
  console.log(JSON.stringify({ data: values.data, seed, systems: results }));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
