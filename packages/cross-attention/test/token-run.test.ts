import { expect, test } from '@jest/globals';
import { initialDecoderWeights } from '../src/decoder/decoder.js';
import { cacheNamesOf, promptPart, runPrompt } from '../src/serving/token-run.js';
import { difference, openInference } from './inference-session.js';
import { smallDecoderConfig } from './small-decoder-config.js';

test('a prompt that runs in parts ends as one that runs whole', async () => {
  const tokens = 2 * promptPart + 7;
  const config = smallDecoderConfig(50, { contextLength: tokens, heads: 4, keyValueHeads: 2, headSize: 16 });
  const ids = Array.from({ length: tokens }, (_, i) => (i * 13) % 50);
  const inference = await openInference({ config, weights: initialDecoderWeights(config, 3) });
  try {
    const whole = await inference.run(ids, 1, 1);

    const values = config.keyValueHeads * tokens * config.headSize;
    const buffers = new Map(cacheNamesOf(inference.session).map((name) => [name, new Float32Array(values)]));
    const prompt = { ids, past: 0, blindTokens: 0, user: undefined };
    const { logits } = await runPrompt(inference.session, config, { buffers, capacity: tokens }, prompt);

    expect(difference(logits.data as Float32Array, whole.logits)).toBeLessThan(1e-5);
    for (const [name, buffer] of buffers) expect(difference(buffer, whole.cache[name].data as Float32Array)).toBeLessThan(1e-5);
  } finally {
    await inference.dispose();
  }
});
