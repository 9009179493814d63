import type { Corpus } from '@user-llm/reference';
import { FIRST_VALUE_ID, type CategoricalColumn, type EventColumns } from '@user-llm/event-tokenizer';
import {
  adam,
  graph,
  linearCrossEntropy,
  normal,
  Random,
  Trainer,
  warmupCosine,
  zeros,
  type Tensor,
} from '@user-llm/onnx-autograd';
import type { History, UserEncoder } from '@user-llm/user-encoder';
import { rankOf, type CaseRanks } from './ranks.js';

/** Users per step, and moments of each: moments of one user share a pass of the encoder. */
const batch = { users: 8, moments: 8 } as const;
const evaluated = 32;

/**
 * What the K user tokens of an encoder say about the next item, to a reader that has to learn it: the encoder stays as it is, its resampler and
 * a linear classifier over the tokens learn. It puts encoders side by side that were trained for different things, or for nothing, and
 * stands for the language model that reads the same tokens.
 */
export async function probeRanks(
  encoder: UserEncoder,
  corpus: Corpus,
  { steps, seed, threads }: { steps: number; seed: number; threads: number | undefined },
): Promise<CaseRanks> {
  const items = itemIds(corpus.known, corpus.tokenizer.itemField);
  const learning = encoder.trainable(corpus.train);
  const { userTokens, width } = encoder.config;
  const size = FIRST_VALUE_ID + corpus.log.itemIds.length;
  const definition = graph<{ loss: Tensor; scores: Tensor }>(({ builder, input, scope }) => {
    const probe = scope('probe');
    const tokens = learning.build(builder, { dropout: 0 }).tokens.reshape(['examples', userTokens * width]); // [B, K D]
    const query = tokens.linear(
      probe.parameter('projection', [userTokens * width, width], normal(1 / Math.sqrt(userTokens * width))),
      probe.parameter('bias', [width], zeros()),
    ); // [B, D]
    const table = probe.parameter('items', [size, width], normal(0.02)); // [V, D]
    return {
      loss: linearCrossEntropy(query, table, input('targets', ['examples'], 'int32')).mean(),
      scores: query.matmul(table, { transposeB: true }),
    };
  });
  const trainer = await Trainer.create(definition, {
    minimize: 'loss',
    optimizer: adam({ learningRate: 4e-3, beta2: 0.98 }),
    schedule: warmupCosine({ steps, warmup: 0.05 }),
    seed,
    weights: learning.weights,
    trainable: (name) => name.startsWith('probe.') || learning.isResampler(name),
    threads,
  });
  try {
    const draw = moments(corpus.train, encoder.config.context / 2, seed);
    for (let step = 1; step <= steps; step++) {
      const histories = draw(step);
      const targets = histories.map(({ user, end }) => items[corpus.known.offsets[user as number] + end]);
      await trainer.step({
        ...learning.feeds(histories),
        targets: { dtype: 'int32', shape: [targets.length], data: Int32Array.from(targets) },
      });
    }
    return await heldOutRanks(
      encoder,
      corpus,
      async (feeds) => (await trainer.evaluate(feeds, ['scores'])).scores.data as Float32Array,
    );
  } finally {
    await trainer.dispose();
  }
}

async function heldOutRanks(
  encoder: UserEncoder,
  { known, log, split }: Corpus,
  scores: (feeds: ReturnType<ReturnType<UserEncoder['trainable']>['feeds']>) => Promise<Float32Array>,
): Promise<CaseRanks> {
  const reading = encoder.trainable(known);
  const size = FIRST_VALUE_ID + log.itemIds.length;
  const ranks: number[] = [];
  for (let from = 0; from < split.test.length; from += evaluated) {
    const cases = split.test.slice(from, from + evaluated);
    const found = await scores(
      reading.feeds(
        cases.map((one) => ({ user: one.user, end: one.to - one.from })),
        { windows: evaluated, events: encoder.config.context },
      ),
    );
    cases.forEach((one, i) =>
      ranks.push(
        rankOf(
          found.subarray(i * size + FIRST_VALUE_ID, (i + 1) * size),
          log.items[one.to],
          log.items.subarray(one.from, one.to),
        ),
      ),
    );
  }
  return ranks;
}

/** Moments to learn from, as a function of the step: users by how many events they have, moments of one user within one window. */
function moments({ offsets, users }: EventColumns, reach: number, seed: number): (step: number) => History[] {
  const starts: number[] = [];
  users.forEach((_, user) => {
    for (let end = 1; end < offsets[user + 1] - offsets[user]; end++) starts.push(user);
  });
  return (step) => {
    const random = Random.of(seed, 'probe', step);
    return Array.from({ length: batch.users }, () => {
      const user = starts[random.integer(starts.length)];
      const last = 1 + random.integer(offsets[user + 1] - offsets[user] - 1);
      const first = Math.max(1, last - reach);
      return Array.from({ length: batch.moments }, (_, i) => ({
        user,
        end: i === 0 ? last : first + random.integer(last - first + 1),
      }));
    }).flat();
  };
}

const itemIds = ({ fields }: EventColumns, itemField: string): Int32Array => (fields[itemField] as CategoricalColumn).ids;
