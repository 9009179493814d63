import { describe, expect, it } from '@jest/globals';
import { EmptyFileError } from '@user-llm/datasets';
import { explain, UsageError } from '../src/errors.js';

describe('an error at the command line', () => {
  it('is one line and exit code 2 where the person can mend it', () => {
    expect(explain(new UsageError('give\n  another folder'))).toEqual({ message: 'give another folder', exitCode: 2 });
    expect(explain(new EmptyFileError('ratings.csv')).exitCode).toBe(2);
  });

  it('says what to do about a full disk', () => {
    const error = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC', path: 'run/report.json' });
    expect(explain(error)).toEqual({
      message: expect.stringMatching(/^run\/report\.json: the disk is full; free some space/),
      exitCode: 2,
    });
  });

  it('is exit code 1 where it is a bug of ours', () => {
    expect(explain(new TypeError('x is undefined'))).toEqual({
      message: expect.stringContaining('internal: x is undefined'),
      exitCode: 1,
    });
    expect(explain(new UsageError('internal: a broken promise')).exitCode).toBe(1);
  });

  it('is exit code 130 where the person stopped it', () => {
    const controller = new AbortController();
    controller.abort();
    expect(explain(controller.signal.reason).exitCode).toBe(130);
  });
});
