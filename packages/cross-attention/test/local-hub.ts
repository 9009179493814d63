import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Repository {
  /** Content by path. */
  readonly files: Readonly<Record<string, Uint8Array>>;
  /** Commits of branches and tags. */
  readonly revisions: Readonly<Record<string, string>>;
  /** Who may see it; everybody by default. */
  readonly token?: string;
}

/** Makes one answer of the server go wrong; undefined leaves it as it is. */
export interface Fault {
  /** Sends so many bytes of a file and breaks the connection; -1: sends none, and leaves it open. */
  readonly cutAfter?: number;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sends these bytes in place of the file's. */
  readonly instead?: Uint8Array;
}

const hash = (algorithm: string, ...parts: (string | Uint8Array)[]) =>
  parts.reduce((digest, part) => digest.update(part), createHash(algorithm)).digest('hex');

/** From this size on a file lies on another server, as large files do. */
const large = 2000;

/** The part of a hub's API that downloads need, with faults on request. */
export class LocalHub {
  readonly requests: { url: string; range?: string; authorization?: string }[] = [];
  /** Requests to the server of large files. */
  readonly storeRequests: { url: string; range?: string; authorization?: string }[] = [];
  fault: (url: string, count: number) => Fault | undefined = () => undefined;
  readonly #servers: Server[] = [];
  #store = '';
  endpoint = '';

  constructor(private readonly repositories: Readonly<Record<string, Repository>>) {}

  async start(): Promise<void> {
    const listen = async (handle: (request: IncomingMessage, response: ServerResponse) => void) => {
      const server = createServer(handle);
      this.#servers.push(server);
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    };
    this.#store = await listen((request, response) => this.#answer(request, response, this.storeRequests));
    this.endpoint = await listen((request, response) => this.#answer(request, response, this.requests));
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse, log: LocalHub['requests']): void {
    const { range, authorization } = request.headers;
    const url = decodeURIComponent(request.url!);
    log.push({ url, ...(range && { range }), ...(authorization && { authorization }) });
    const fault = this.fault(url, log.filter((one) => one.url === url).length);
    if (fault?.status !== undefined) return void response.writeHead(fault.status, fault.headers).end();
    const [, owner, name, rest] = /^\/(?:api\/models\/)?([^/]+)\/([^/]+)\/(.*)$/.exec(url.split('?')[0]) ?? [];
    const repository = this.repositories[`${owner}/${name}`];
    const isStore = log === this.storeRequests;
    const seen = repository?.token === undefined || isStore || authorization === `Bearer ${repository.token}`;
    if (repository === undefined || !seen) {
      // The hub tells nobody which private models there are.
      const headers = { 'x-error-code': 'RepoNotFound' };
      return void response.writeHead(authorization === undefined ? 401 : 404, headers).end();
    }
    const [kind, revision, ...path] = rest.split('/');
    const commit = Object.values(repository.revisions).includes(revision) ? revision : repository.revisions[revision];
    if (commit === undefined) return void response.writeHead(404, { 'x-error-code': 'RevisionNotFound' }).end();
    if (kind === 'revision') return json(response, { id: `${owner}/${name}`, sha: commit });
    if (kind === 'tree') return this.#tree(url, repository, response);
    const bytes = repository.files[path.join('/')];
    if (bytes === undefined) return void response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end();
    if (bytes.length >= large && !isStore)
      return void response.writeHead(302, { location: `${this.#store}${request.url}` }).end();
    send(response, fault?.instead ?? bytes, range, fault?.cutAfter);
  }

  /** Two files a page. */
  #tree(url: string, { files }: Repository, response: ServerResponse): void {
    const page = Number(/cursor=(\d+)/.exec(url)?.[1] ?? 0);
    const entries = Object.entries(files);
    const shown = entries.slice(2 * page, 2 * page + 2).map(([path, bytes]) => ({
      type: 'file',
      path,
      size: bytes.length,
      oid: hash('sha1', `blob ${bytes.length}\0`, bytes),
      ...(bytes.length < large ? {} : { lfs: { oid: hash('sha256', bytes), size: bytes.length, pointerSize: 130 } }),
    }));
    const next = `${this.endpoint}${url.replace(/&cursor=\d+/, '')}&cursor=${page + 1}`;
    json(response, shown, 2 * page + 2 < entries.length ? { link: `<${next}>; rel="next"` } : {});
  }
}

function json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}

function send(response: ServerResponse, bytes: Uint8Array, range: string | undefined, cutAfter: number | undefined): void {
  const [, begin, end] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
  const from = Number(begin ?? 0);
  const to = begin === undefined ? bytes.length : Math.min(bytes.length, Number(end) + 1);
  response.writeHead(begin === undefined ? 200 : 206, {
    'content-length': to - from,
    ...(begin === undefined ? {} : { 'content-range': `bytes ${from}-${to - 1}/${bytes.length}` }),
  });
  if (cutAfter === undefined) return void response.end(bytes.subarray(from, to));
  if (cutAfter < 0) return response.flushHeaders();
  response.write(bytes.subarray(from, Math.min(to, from + cutAfter)), () => setImmediate(() => response.destroy()));
}
