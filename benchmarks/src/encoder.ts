/**
 * `npm run bench -- encoder [--rounds N] [--updates N] [--steps N] [--seed N] [--only train|serve|tokenizer] [--shared]`
 *
 * The user encoder at D 128, 6 layers, 8 heads and W 200: training beside the machine's matrix-product peak and PyTorch, users encoded
 * per second, one new event (alone, with the resampler, from bytes, through an LMDB store), what a state costs in bytes and error
 * per dtype, and the event tokenizer's speed, from memory and from CSV. The states are of an encoder that was trained for `--steps` on a simulated log. The last line is one JSON object; without `--only`
 * it is also written to benchmarks/results/encoder-PROCESSOR.json. PyTorch takes part where it is installed and its script is found (USER_LLM_PEERS).
 *
 * `--shared` is for a machine on which others work too: waiting threads then do not spin.
 */
import { machineDescription } from '@user-llm/evaluation';
import { UserEncoder, type Band } from '@user-llm/user-encoder';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { simulatedLog, type Log } from './encoder/log.js';
import { encodeFigures, stateFigures, updateFigures } from './encoder/serve.js';
import { rounded } from './encoder/statistics.js';
import { trainFigures } from './encoder/train.js';
import { tokenizerFigures } from './tokenizer-figures.js';
import { keepSpeeds } from './record/results.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    updates: { type: 'string', default: '2000' },
    steps: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    shared: { type: 'boolean', default: false },
  },
});

const threads = Math.min(2, os.availableParallelism());
const architecture = { width: 128, layers: 6, heads: 8, context: 200, userTokens: 16, dropout: 0.2 };
const window = 200;

async function train(): Promise<Awaited<ReturnType<typeof trainFigures>>> {
  const shape = { batch: 24, events: 200, width: 128, heads: 8, layers: 6, items: 3707, dropout: 0.2 };
  console.log('training: 24 x 200 events, D 128, 6 layers, 8 heads, 3,707 items, dropout 0.2, Adam in the graph');
  const figures = await trainFigures({ shape, rounds: Math.max(1, Number(values.rounds)), threads, spinning: !values.shared });
  console.log(
    `  ${figures.gflops.toFixed(0)} GFLOP/s, ${figures.overPeak.toFixed(2)} of the peak, ${figures.eventsPerSecond.toFixed(0)} events/s`,
  );
  return figures;
}

async function serve(log: Log, position: Band['position']): Promise<Record<string, unknown>> {
  const options = { ...architecture, attention: { position, window }, seed: Number(values.seed) };
  console.log(`${position}: ${values.steps} steps of training, then states`);
  const run = UserEncoder.create(log.tokenizer, options, { threads }).pretrain(log.events, {
    steps: Number(values.steps),
    validation: 'none',
    threads,
  });
  const encoder = await run.result;
  const training = { steps: Number(values.steps), eventsPerSecond: encoder.training!.eventsPerSecond };
  const update = await updateFigures(encoder, log, Math.max(100, Number(values.updates)));
  console.log(`  one event: p50 ${update.p50Ms.toFixed(3)} ms, p99 ${update.p99Ms.toFixed(3)} ms`);
  const usersPerSecond = await rates(encoder, log);
  const state = await stateFigures(encoder, log, 5);
  console.table(state);
  await encoder.dispose();
  return { training, update, usersPerSecond, state };
}

async function rates(encoder: UserEncoder, log: Log): Promise<{ at50: number; at200: number }> {
  const found = { at50: await encodeFigures(encoder, log, 50), at200: await encodeFigures(encoder, log, 200) };
  console.log(`  users encoded per second: ${found.at50.toFixed(0)} of 50 events, ${found.at200.toFixed(0)} of 200`);
  return found;
}

/** Learned positions over the context, which keep no state. */
async function causal(log: Log): Promise<Record<string, unknown>> {
  console.log('learned positions');
  const encoder = UserEncoder.create(log.tokenizer, { ...architecture, seed: Number(values.seed) }, { threads });
  const usersPerSecond = await rates(encoder, log);
  await encoder.dispose();
  return { usersPerSecond };
}

async function main(): Promise<void> {
  if (values.only !== undefined && !['train', 'serve', 'tokenizer'].includes(values.only))
    throw new Error(`there is no part '${values.only}'; use train, serve or tokenizer`);
  const asked = (part: string): boolean => values.only === undefined || values.only === part;
  const trained = asked('train') ? await train() : null;
  let served: Record<string, unknown> = { update: null };
  if (asked('serve')) {
    const log = await simulatedLog(Number(values.seed));
    const { update, ...rotary } = await serve(log, 'rotary');
    served = { update, learned: await causal(log), rotary, relativeTime: await serve(log, 'relative-time') };
  }
  const { tokenizer, csv } = asked('tokenizer') ? await tokenizerFigures() : { tokenizer: null, csv: null };
  const machine = { ...machineDescription(), threads, spinning: !values.shared };
  const result = rounded({ train: trained, ...served, tokenizer, csv, architecture: { ...architecture, window }, machine });
  if (values.only === undefined) {
    await keepSpeeds('encoder', result);
  }
  console.log(JSON.stringify(result));
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
