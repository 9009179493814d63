import { expect, jest, test } from '@jest/globals';
import { filmModel } from './film-model.js';

test('a run that fails says why, and writes nothing of its inputs to the console', async () => {
  const served = await filmModel.serve({ threads: 1 });
  const prompt = 'What next?';
  const written = [jest.spyOn(console, 'error'), jest.spyOn(console, 'warn'), jest.spyOn(console, 'log')];
  const run = jest.spyOn(served['engine'].session, 'run').mockRejectedValueOnce(new Error('out of memory'));
  const answer = served.generate({ prompt, maxNewTokens: 4 });
  await expect(answer.text).rejects.toThrow('out of memory');
  await expect(answer.tokenIds).rejects.toThrow('out of memory');
  run.mockRestore();
  for (const spy of written) {
    expect(spy).not.toHaveBeenCalled();
    spy.mockRestore();
  }
  expect(await served.generate({ prompt, maxNewTokens: 4 }).tokenIds).not.toHaveLength(0);
  await served.dispose();
});
