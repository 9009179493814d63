import { describe, expect, it } from '@jest/globals';
import { DisposedError, FeedError } from '@user-llm/onnx-autograd';
import { EmptyFileError, MissingColumnError, PathNotFoundError, UnknownLayoutError } from '@user-llm/datasets';
import { SystemFailedError } from '@user-llm/evaluation';
import { EmptyLogError } from '@user-llm/event-tokenizer';
import { UsageError } from '../src/errors.js';
import { explain } from '../src/explain.js';

const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });

describe('an error at the command line', () => {
  it('is one line and exit code 2 where the person can mend it', () => {
    expect(explain(new UsageError('give\n  another folder'))).toEqual({ message: 'give another folder', exitCode: 2 });
    expect(explain(new EmptyFileError('ratings.csv')).exitCode).toBe(2);
  });

  it.each([
    ['a path', new PathNotFoundError('/logs/ratings.csv'), /\/logs\/ratings\.csv; check what --data names$/],
    ['a column', new MissingColumnError('a.csv', 'user', undefined, ['who']), /it has who\. Name it with --columns user=NAME$/],
    ['a layout', new UnknownLayoutError('logs', ['a.txt'], ['ratings.csv']), /--columns user=NAME,item=NAME,time=NAME\.$/],
    ['rows', new EmptyLogError(3, { line: 2, field: 'time', kind: 'malformed', reason: 'it is empty' }), /--columns user=NAME/],
  ])('about %s advises in options of the command line', (_, error, message) => {
    expect(explain(error)).toEqual({ message: expect.stringMatching(message), exitCode: 2 });
    expect(explain(error).message).not.toMatch(/download\(\)|columns: |schema/);
  });

  it('says how times are written where none can be read', () => {
    const reason = '"31/12/2024" is not a number';
    const { message } = explain(new EmptyLogError(3, { line: 2, field: 'time', kind: 'malformed', reason }));
    expect(message).toContain('the first, line 2, time: "31/12/2024" cannot be read as a time; times are numbers, or ISO 8601');
    expect(message).not.toContain('is not a number');
  });

  it.each([
    ['by itself', Object.assign(full, { path: 'run/report.json' })],
    [
      'under an error that names the file',
      Object.assign(new Error('could not be written', { cause: full }), { file: 'run/report.json' }),
    ],
  ])('says what to do about a full disk, %s', (_, error) => {
    expect(explain(error)).toEqual({
      message: expect.stringMatching(/^run\/report\.json: the disk is full; free some space and run the same command again/),
      exitCode: 2,
    });
  });

  it('is that of a system that failed, not of the evaluation that asked it', () => {
    const asked = (cause: unknown): SystemFailedError => new SystemFailedError('encoder', 'rank', cause);
    expect(explain(asked(new UsageError('the store is damaged')))).toEqual({ message: 'the store is damaged', exitCode: 2 });
    expect(explain(asked(new TypeError('x is undefined'))).exitCode).toBe(1);
    expect(explain(asked(AbortSignal.abort().reason)).exitCode).toBe(130);
  });

  it.each([
    ['an error of the language', new TypeError('x is undefined'), 'internal: x is undefined'],
    ['a broken promise', new UsageError('internal: a broken promise'), 'internal: a broken promise'],
    ['a package used wrongly', new FeedError('tokens', 'is absent'), "internal: input 'tokens': is absent"],
    ['something used after its end', new DisposedError('trainer'), 'internal: this trainer was disposed'],
  ])('is exit code 1 where it is a bug of ours: %s', (_, error, message) => {
    expect(explain(error)).toEqual({ message: expect.stringContaining(message), exitCode: 1 });
  });

  it('is exit code 130 where the person stopped it', () => {
    expect(explain(AbortSignal.abort().reason).exitCode).toBe(130);
  });
});
