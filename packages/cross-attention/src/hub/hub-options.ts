import { homedir } from 'node:os';
import path from 'node:path';
import { HubError } from './hub-error.js';

export interface HubProgress {
  /** The file that is being fetched, by its path inside the repository. */
  readonly file: string;
  /** Bytes of it that are here, those of earlier calls included. */
  readonly receivedBytes: number;
  readonly totalBytes: number;
  /** The same for all files that this call fetches. */
  readonly allReceivedBytes: number;
  readonly allTotalBytes: number;
}

/** How a model is fetched from a Hugging Face hub, and where it is kept. */
export interface HubOptions {
  /** A branch, a tag or a commit. Default `main`. */
  readonly revision?: string;
  /** An access token, for private and gated models; HF_TOKEN by default. It goes to the endpoint and nowhere else. */
  readonly token?: string;
  /** Another hub, such as a mirror; HF_ENDPOINT by default, or else https://huggingface.co. */
  readonly endpoint?: string;
  /**
   * The folder of downloaded models, in the layout that Hugging Face's own tools share; HF_HUB_CACHE by default, or `hub` under HF_HOME,
   * or `~/.cache/huggingface/hub`.
   */
  readonly cache?: string;
  /** Make no request: take what is in the cache, or fail. By default as HF_HUB_OFFLINE says. */
  readonly offline?: boolean;
  /** Ask the hub whether a branch has moved. Without it, what is whole in the cache is taken without a request. */
  readonly refresh?: boolean;
  readonly onProgress?: (progress: HubProgress) => void;
  readonly signal?: AbortSignal;
  /** How often in a row a broken connection is taken up again, where it broke. Default 5. */
  readonly retries?: number;
  /** First pause between tries, doubled each time. Default 500 ms. */
  readonly retryDelayMs?: number;
  /** A connection that brings nothing for so long is broken. Default 60,000 ms. */
  readonly idleTimeoutMs?: number;
}

/** Options with what the environment says where they say nothing. */
export interface HubSettings {
  readonly revision: string;
  readonly token: string | undefined;
  readonly endpoint: string;
  readonly cache: string;
  readonly offline: boolean;
  readonly refresh: boolean;
  readonly onProgress: (progress: HubProgress) => void;
  readonly signal: AbortSignal | undefined;
  readonly retries: number;
  readonly retryDelayMs: number;
  readonly idleTimeoutMs: number;
}

export function hubSettings(model: string, options: HubOptions, environment = process.env): HubSettings {
  const { revision = 'main', onProgress = () => undefined, signal, retries = 5, retryDelayMs = 500 } = options;
  if (!/^[\w-][\w.-]*(\/[\w-][\w.-]*)*$/.test(revision) || revision.includes('..'))
    throw new HubError('bad-option', model, `'${revision}' is no revision: give a branch, a tag or a commit.`);
  const token = options.token ?? (environment.HF_TOKEN?.trim() || undefined);
  const endpoint = options.endpoint ?? (environment.HF_ENDPOINT?.trim() || 'https://huggingface.co');
  if (!/^https?:\/\//.test(endpoint) || !URL.canParse(endpoint))
    throw new HubError('bad-option', model, `the endpoint ${JSON.stringify(endpoint)} is no http or https address.`);
  return {
    revision,
    token,
    endpoint: endpoint.replace(/\/+$/, ''),
    cache: options.cache ?? cacheOf(environment),
    offline: options.offline ?? /^(1|on|yes|true)$/i.test(environment.HF_HUB_OFFLINE ?? ''),
    refresh: options.refresh ?? false,
    onProgress,
    signal,
    retries,
    retryDelayMs,
    idleTimeoutMs: options.idleTimeoutMs ?? 60_000,
  };
}

function cacheOf({ HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME }: NodeJS.ProcessEnv): string {
  const home = HF_HOME || path.join(XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'huggingface');
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || path.join(home, 'hub');
}
