import { beforeAll, describe, expect, jest, test } from '@jest/globals';
import { LanguageModel, gatedCrossAttention, trainByteLevelBpe } from '@user-llm/cross-attention';
import { EventTokenizer, eventSchema, item, time } from '@user-llm/event-tokenizer';
import type { EventColumns } from '@user-llm/event-tokenizer';
import { UserEncoder } from '@user-llm/user-encoder';

jest.setTimeout(60_000);

const users = Array.from({ length: 8 }, (_, u) => `user-${u}`);
const rows = users.flatMap((userId, u) =>
  Array.from({ length: 12 }, (_, e) => ({
    userId,
    movieId: `film ${(u * 7 + e * (1 + (u % 5))) % 20}`,
    timestamp: 1e9 + 1000 * e + u,
  })),
);
const schema = eventSchema({ user: 'userId', time: time('timestamp'), fields: { movie: item('movieId') } });
const words = trainByteLevelBpe(['film 1', 'film 23'], { vocabularySize: 280 });
const base = LanguageModel.create({ width: 32, layers: 2, heads: 2, keyValueHeads: 1, intermediate: 32, context: 48 }, words, 1);

let tokenizer: EventTokenizer;
let events: EventColumns;
beforeAll(async () => {
  tokenizer = await EventTokenizer.fit(schema, () => rows);
  events = await tokenizer.encode(rows);
});

/** Losses of four steps on batches of all users. */
async function losses(dropout: number, tokensPerPart: number): Promise<number[]> {
  const encoder = UserEncoder.create(tokenizer, { width: 16, layers: 1, heads: 2, context: 16, userTokens: 2, dropout, seed: 1 });
  const examples = users.map((user, u) =>
    base.example({ prompt: 'film'.repeat(1 + (u % 3)), answer: `film ${u}`, history: { user, end: 12 } }),
  );
  const run = base
    .withUserEmbeddings({ encoder: encoder.trainable(events), integration: gatedCrossAttention({ every: 1, gate: 0.5 }) })
    .adapt(examples, {
      strategy: 'encoder',
      steps: 4,
      batchSize: examples.length,
      learningRate: 3e-3,
      threads: 1,
      tokensPerPart,
    });
  const found: number[] = [];
  for await (const { loss } of run) found.push(loss);
  return found;
}

const largest = (a: readonly number[], b: readonly number[]) => Math.max(...a.map((loss, i) => Math.abs(loss - b[i])));

describe('a batch of a user encoder that is cut into parts', () => {
  test('takes the same steps without dropout', async () => {
    expect(largest(await losses(0, 8192), await losses(0, 40))).toBeLessThan(1e-3);
  });

  test('takes others with dropout, whose masks are drawn for each part', async () => {
    expect(largest(await losses(0.2, 8192), await losses(0.2, 40))).toBeGreaterThan(1e-3);
  });
});
