import { setTimeout as sleep } from 'node:timers/promises';
import type { downloadFile, listFiles, modelInfo } from '@huggingface/hub';
import { isCommit, isFileHash, isInside } from './hub-cache.js';
import type { Listing, RepositoryFile } from './hub-cache.js';
import { HubError } from './hub-error.js';
import type { HubSettings } from './hub-options.js';

interface HubLibrary {
  readonly downloadFile: typeof downloadFile;
  readonly listFiles: typeof listFiles;
  readonly modelInfo: typeof modelInfo;
}

/** A connection broke or the server was busy: worth another try. */
export class Interruption extends Error {}

/** Questions to a hub about one model, with answers that are checked and errors that say what to do. */
export class HubClient {
  private constructor(
    private readonly library: HubLibrary,
    private readonly model: string,
    private readonly settings: HubSettings,
  ) {}

  static async open(model: string, settings: HubSettings): Promise<HubClient> {
    // What is in the cache needs no token, so that one which is wrong is in nobody's way until a request is made.
    if (settings.token !== undefined && !/^hf_[\w.~+/=-]+$/.test(settings.token))
      throw new HubError(
        'bad-option',
        model,
        'the access token (the option token, or HF_TOKEN) does not look like one: it begins with hf_, and holds no spaces.',
      );
    // Only who downloads pays for loading it.
    return new HubClient(await import('@huggingface/hub'), model, settings);
  }

  /** The commit that the revision stands for now. */
  async commit(): Promise<string> {
    const { revision } = this.settings;
    if (isCommit(revision)) return revision;
    const { sha } = await this.#asked(() =>
      this.library.modelInfo({ ...this.#access(), name: this.model, revision, additionalFields: ['sha'] }),
    );
    if (typeof sha !== 'string' || !isCommit(sha)) throw this.#badAnswer('names no commit');
    return sha;
  }

  async listing(commit: string): Promise<Listing> {
    const listing = new Map<string, RepositoryFile>();
    await this.#asked(async () => {
      const files = this.library.listFiles({ ...this.#access(), repo: this.model, revision: commit, recursive: true });
      for await (const { type, path, size, oid, lfs } of files) {
        if (type !== 'file') continue;
        const hash = lfs?.oid ?? oid ?? '';
        const length = lfs?.size ?? size;
        if (typeof path !== 'string' || !Number.isSafeInteger(length) || length < 0 || !isFileHash(hash))
          throw this.#badAnswer('lists a file without size or hash');
        // A path that leads out of the folder is no file of a model.
        if (isInside(path)) listing.set(path, { size: length, hash });
      }
    });
    return listing;
  }

  /** A file's bytes from an offset on. Throws an `Interruption` where another try may help. */
  async bytes(commit: string, file: string, size: number, from: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const url = `${this.settings.endpoint}/${this.model}/resolve/${commit}/${file.split('/').map(encodeURIComponent).join('/')}`;
    let failure: unknown;
    const blob = await this.library.downloadFile({
      ...this.#access(file, signal, (error) => (failure = error)),
      repo: this.model,
      path: file,
      revision: commit,
      xet: false,
      downloadInfo: { url, size, etag: '' },
    });
    const stream = (from === 0 ? blob! : blob!.slice(from)).stream() as unknown as AsyncIterable<Uint8Array>;
    return (async function* () {
      try {
        yield* stream;
      } catch (error) {
        // The stream of the library keeps an error's text alone.
        throw failure ?? new Interruption(`the connection broke`, { cause: error });
      }
    })();
  }

  #access(file?: string, abort?: AbortSignal, note?: (error: unknown) => void) {
    const { endpoint, token, signal, idleTimeoutMs } = this.settings;
    const request: typeof fetch = async (url, init) => {
      try {
        const signals = [signal, abort ?? AbortSignal.timeout(idleTimeoutMs)].filter((one) => one !== undefined);
        const response = await this.#fetch(url, { ...init, signal: AbortSignal.any(signals) });
        if (!response.ok) throw await this.#refusal(response, file);
        const asked = /^bytes=(\d+)-/.exec(new Headers(init?.headers).get('range') ?? '')?.[1];
        const given = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
        if (asked !== given && (asked !== undefined || response.status === 206)) {
          await response.body?.cancel();
          throw this.#badAnswer('sends another range than it was asked for', file);
        }
        return response;
      } catch (error) {
        note?.(error);
        throw error;
      }
    };
    return { hubUrl: endpoint, fetch: request, ...(token === undefined ? {} : { accessToken: token }) };
  }

  async #fetch(...[url, init]: Parameters<typeof fetch>): Promise<Response> {
    try {
      return await fetch(url, init);
    } catch (error) {
      this.settings.signal?.throwIfAborted();
      const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
      throw new Interruption(cause?.code ?? cause?.message ?? (error as Error).message, { cause: error });
    }
  }

  /** A question, asked again when the connection breaks or the server is busy. */
  async #asked<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await retried(this.settings, ask);
    } catch (error) {
      this.settings.signal?.throwIfAborted();
      if (HubError.isInstance(error)) throw error;
      if (!(error instanceof Interruption)) throw this.#badAnswer('could not be understood', undefined, error);
      throw new HubError(
        'unreachable',
        this.model,
        `${this.settings.endpoint} could not be reached (${error.message}). Try again; or fetch the model where there is a network, and give its folder.`,
        { cause: error },
      );
    }
  }

  async #refusal(response: Response, file: string | undefined): Promise<Error> {
    await response.body?.cancel();
    const { status } = response;
    const { endpoint, revision, token } = this.settings;
    if (status >= 500 || status === 429 || status === 408) return new Interruption(`the server answered ${status}`);
    const details = { status, revision, ...(file === undefined ? {} : { file }) };
    const fail = (problem: 'not-found' | 'unauthorized' | 'refused', text: string) =>
      new HubError(problem, this.model, text, details);
    const code = response.headers.get('x-error-code');
    if (code === 'RevisionNotFound')
      return fail('not-found', `there is no revision '${revision}' at ${endpoint}; check its name.`);
    if (code === 'GatedRepo' || status === 403)
      return fail(
        'unauthorized',
        `access needs its owner's consent: accept the conditions at ${endpoint}/${this.model}${token === undefined ? ', and set HF_TOKEN to an access token of that account.' : ' with the account of the access token.'}`,
      );
    if (status === 401 || code === 'RepoNotFound' || status === 404) {
      const where = `${endpoint} shows no such model${file === undefined ? '' : ' file'}`;
      if (token === undefined)
        return fail(
          status === 404 ? 'not-found' : 'unauthorized',
          `${where}, and there is no such folder here. Check the name; for a private model set HF_TOKEN to an access token.`,
        );
      return fail(status === 404 ? 'not-found' : 'unauthorized', `${where} to the owner of the access token. Check both.`);
    }
    return fail('refused', `${endpoint} answered ${status}. Try again later.`);
  }

  #badAnswer(what: string, file?: string, cause?: unknown): HubError {
    return new HubError(
      'bad-answer',
      this.model,
      `${this.settings.endpoint} ${what}. Is it a Hugging Face hub? The option endpoint and HF_ENDPOINT say which is asked.`,
      { cause, ...(file === undefined ? {} : { file }) },
    );
  }
}

/** Tries again after an `Interruption`, each time after a longer pause. `progressed` tells whether a try brought something: it then does not count. */
export async function retried<T>(
  { retries, retryDelayMs, signal }: Pick<HubSettings, 'retries' | 'retryDelayMs' | 'signal'>,
  attempt: () => Promise<T>,
  progressed: () => boolean = () => false,
): Promise<T> {
  for (let failures = 0; ;) {
    signal?.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Interruption)) throw error;
      failures = progressed() ? 1 : failures + 1;
      if (failures > retries) throw error;
      await sleep(retryDelayMs * 2 ** (failures - 1), undefined, signal && { signal });
    }
  }
}
