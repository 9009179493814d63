import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { StoppingCriteria, StoppingCriteriaList } from '@huggingface/transformers';
import type { ServedModel } from '../src/serving/served-model.js';
import { filmModel } from './film-model.js';

/** Ends an answer when the text has so many tokens. */
class EndsAt extends StoppingCriteria {
  constructor(private readonly tokens: number) {
    super();
  }
  override _call(ids: number[][]): boolean[] {
    return ids.map(({ length }) => length >= this.tokens);
  }
}

const promptIds = filmModel.tokenizer.encode('Heat');
const request = { promptIds, maxNewTokens: 12, settings: { min_new_tokens: 12 } };
let served: ServedModel;
beforeAll(async () => void (served = await filmModel.serve({ threads: 1 })));
afterAll(() => served.dispose());

const listOf = (...criteria: StoppingCriteria[]) => {
  const list = new StoppingCriteriaList();
  list.extend(criteria);
  return list;
};

test.each([
  ['one', new EndsAt(promptIds.length + 3)],
  ['several', [new EndsAt(promptIds.length + 9), new EndsAt(promptIds.length + 3)]],
  ['a list of the library', listOf(new EndsAt(promptIds.length + 3))],
])('an answer ends by criteria of the request: %s', async (_, stopping_criteria) => {
  const whole = await served.generate(request).tokenIds;
  const settings = { ...request.settings, stopping_criteria };
  expect(await served.generate({ ...request, settings }).tokenIds).toEqual(whole.slice(0, 3));
});

test('beside which a signal stops it as well', async () => {
  const stop = new AbortController();
  const settings = { ...request.settings, stopping_criteria: new EndsAt(1000) };
  const answer = served.generate({ ...request, settings, signal: stop.signal });
  let pieces = 0;
  const watching = (async () => {
    for await (const _ of answer.textStream) if (++pieces === 2) stop.abort(new Error('enough'));
  })();
  await expect(watching).rejects.toThrow('enough');
  expect(pieces).toBeLessThan(6);
});
