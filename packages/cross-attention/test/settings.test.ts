import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { LogitsProcessor, LogitsProcessorList, Tensor } from '@huggingface/transformers';
import { NucleusProcessor } from '../src/serving/nucleus-processor.js';
import type { ServedModel } from '../src/serving/served-model.js';
import { filmModel } from './film-model.js';

const request = { prompt: 'Heat', maxNewTokens: 12 };
let served: ServedModel;
beforeAll(async () => void (served = await filmModel.serve({ threads: 1 })));
afterAll(() => served.dispose());

const answer = (settings: Record<string, unknown>) => served.generate({ ...request, settings }).tokenIds;

describe('settings of transformers.js', () => {
  test('top_p draws among the fewest tokens that have a share of the probability', async () => {
    const greedy = await answer({});
    for (let i = 0; i < 3; i++) expect(await answer({ do_sample: true, temperature: 2, top_p: 1e-6 })).toEqual(greedy);

    const probabilities = [0.05, 0.4, 0.1, 0.25, 0.2];
    const kept = (settings: Record<string, unknown>) => {
      const logits = new Tensor('float32', Float32Array.from(probabilities, Math.log), [1, probabilities.length]);
      for (const processor of NucleusProcessor.of({ do_sample: true, ...settings })) processor._call([[1n]], logits);
      return Array.from(logits.data as Float32Array, (logit) => logit > -Infinity);
    };
    // .4 + .25 do not reach .7, and .2 more does.
    expect(kept({ top_p: 0.7 })).toEqual([false, true, false, true, true]);
    expect(kept({ top_p: 0.1 })).toEqual([false, true, false, false, false]);
    // Of the three most probable ones, .4 + .25 are .76 of .85.
    expect(kept({ top_k: 3, top_p: 0.75 })).toEqual([false, true, false, true, false]);
    for (const all of [{ top_p: 1 }, { top_k: 3 }, { do_sample: false, top_p: 0.1 }]) expect(kept(all)).not.toContain(false);
  });

  test('top_p goes with processors of the request: one, several, a list of the library', async () => {
    class Only extends LogitsProcessor {
      override _call(_ids: bigint[][], logits: Tensor): Tensor {
        (logits.data as Float32Array).fill(-Infinity).fill(1, 40, 41);
        return logits;
      }
    }
    const list = new LogitsProcessorList();
    list.push(new Only());
    for (const logits_processor of [new Only(), [new Only()], list])
      expect(await answer({ do_sample: true, top_p: 0.5, logits_processor })).toEqual(new Array(12).fill(40));
  });

  test.each([
    ['num_beams', 4],
    ['penalty_alpha', 0.6],
    ['max_time', 1],
    ['stop_strings', ['was']],
    ['guidance_scale', 2],
    ['generation_config', { do_sample: true }],
    ['doSample', true],
  ])('%s, which does not do what it says, is refused', (name, value) => {
    expect(() => served.generate({ ...request, settings: { [name]: value } })).toThrow(
      new RegExp(`^settings\\.${name} cannot be set\\. These can, and have an effect: do_sample, temperature, top_k, top_p,`),
    );
  });

  test.each([0, -1, 1.5, NaN, '0.9'])('top_p cannot be %p', (top_p) => {
    expect(() => served.generate({ ...request, settings: { do_sample: true, top_p } })).toThrow(
      /^settings\.top_p must lie in \(0, 1\], not /,
    );
  });

  test.each(['temperature', 'top_k', 'top_p'])('%s is refused where nothing is drawn', (name) => {
    for (const drawn of [{}, { do_sample: false }])
      expect(() => served.generate({ ...request, settings: { ...drawn, [name]: 0.5 } })).toThrow(
        `settings.${name} is about drawing, and the answer is greedy: give do_sample: true with it.`,
      );
  });

  test.each([null, 'do_sample'])('nor can settings be %p', (settings) => {
    expect(() => served.generate({ ...request, settings: settings as never })).toThrow(/^settings must be an object/);
  });
});

test.each([
  [{ seed: 1, top_p: 0.9 }, 'sampling.top_p is not known. It has seed, temperature, topK, topP.'],
  [{ seed: 1, do_sample: true }, 'sampling.do_sample is not known. It has seed, temperature, topK, topP.'],
  [null, 'sampling must be an object, { seed, temperature, topK, topP }; leave it out to be greedy.'],
])("a scheduler's sampling cannot be %j", (sampling, message) => {
  expect(() => served.scheduler().generate({ ...request, sampling: sampling as never })).toThrow(new RangeError(message));
});
