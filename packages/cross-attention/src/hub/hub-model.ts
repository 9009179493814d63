import { readFile } from 'node:fs/promises';
import { fetchBlob } from './fetch-blob.js';
import { HubCache } from './hub-cache.js';
import type { Listing } from './hub-cache.js';
import { HubClient } from './hub-client.js';
import { HubError } from './hub-error.js';
import { isModelName } from './hub-name.js';
import { hubSettings } from './hub-options.js';
import type { HubOptions, HubSettings } from './hub-options.js';
import { chooseFiles, shardIndex, shardsOf } from './model-files.js';
import type { ChosenFiles } from './model-files.js';

/** A model of a hub, on this disk. */
export interface FetchedModel {
  /** `owner/model` */
  readonly model: string;
  readonly commit: string;
  /** What `LanguageModel.load` reads: the snapshot's folder, or the GGUF file in it. */
  readonly place: string;
  /** Whether anything had to be fetched. */
  readonly fetched: boolean;
}

/**
 * Brings a model from a hub into the cache: config, tokenizer and safetensors, or one GGUF file (`file`, or the only one of a repository
 * without safetensors). What is whole in the cache is taken without a request. Every file is checked against the repository's
 * hash, and a call that was broken off is carried on by the next one. Throws a `HubError`; with an aborted signal, its reason.
 */
export async function fetchModel(
  model: string,
  { file, ...options }: HubOptions & { readonly file?: string } = {},
): Promise<FetchedModel> {
  if (!isModelName(model)) throw new HubError('bad-option', model, 'this is no name of a model on a hub, which is owner/model.');
  const settings = hubSettings(model, options);
  const cache = new HubCache(settings.cache, model);
  const found = (commit: string, fetched: boolean, gguf: string | undefined): FetchedModel => ({
    model,
    commit,
    place: gguf === undefined ? cache.snapshot(commit) : cache.file(commit, gguf),
    fetched,
  });
  const known = await cache.commit(settings.revision);
  if (known !== undefined && (settings.offline || !settings.refresh)) {
    const chosen = await wholeSnapshot(cache, model, known, file, settings.offline);
    if (chosen !== undefined) return found(known, false, chosen.gguf);
  }
  if (settings.offline)
    throw new HubError(
      'offline',
      model,
      `it is not in the cache (${settings.cache}), or not all of it, and no request is made offline. Load it once with a network, or give a folder.`,
      { revision: settings.revision, ...(file === undefined ? {} : { file }) },
    );
  const client = await HubClient.open(model, settings);
  const commit = await client.commit();
  try {
    let listing = await cache.listing(commit);
    if (listing === undefined) await cache.writeListing(commit, (listing = await client.listing(commit)));
    const chosen = chooseFiles(model, listing.keys(), file);
    const fetched = await fetchFiles({ client, cache, commit, listing, settings, model }, chosen);
    // Last, so that a revision always names a snapshot that was whole.
    await cache.writeCommit(settings.revision, commit);
    return found(commit, fetched, chosen.gguf);
  } catch (error) {
    const { code, syscall, path } = error as NodeJS.ErrnoException;
    if (HubError.isInstance(error) || code === undefined || syscall === undefined) throw error;
    throw new HubError(
      'unwritable',
      model,
      `${path ?? settings.cache} could not be written (${code}). Name another folder with the option cache or HF_HUB_CACHE.`,
      {
        cause: error,
      },
    );
  }
}

interface Fetching {
  readonly client: HubClient;
  readonly cache: HubCache;
  readonly commit: string;
  readonly listing: Listing;
  readonly settings: HubSettings;
  readonly model: string;
}

/** Fetches the chosen files that are not there; whether there were any. */
async function fetchFiles(fetching: Fetching, { names, kind }: ChosenFiles): Promise<boolean> {
  const { cache, commit, listing, model } = fetching;
  // The index first: it says which shards there are.
  const first = names.filter((name) => name === shardIndex && kind === 'safetensors');
  let fetched = await fetchGroup(fetching, first);
  const shards = first.length === 0 ? [] : shardsOf(await readFile(cache.file(commit, shardIndex), 'utf8'));
  const absent = shards.find((shard) => !listing.has(shard));
  if (absent !== undefined)
    throw new HubError('no-weights', model, `${shardIndex} names this shard, which the repository does not have.`, {
      file: absent,
    });
  const rest = [...names.filter((name) => !first.includes(name)), ...shards];
  fetched = (await fetchGroup(fetching, rest)) || fetched;
  return fetched;
}

async function fetchGroup(
  { client, cache, commit, listing, settings, model }: Fetching,
  names: readonly string[],
): Promise<boolean> {
  const missing: string[] = [];
  for (const name of names) if (!(await cache.has(commit, name, listing.get(name)!))) missing.push(name);
  const allTotalBytes = missing.reduce((sum, name) => sum + listing.get(name)!.size, 0);
  let before = 0;
  for (const name of missing) {
    const file = listing.get(name)!;
    const report = (receivedBytes: number) =>
      settings.onProgress({
        file: name,
        receivedBytes,
        totalBytes: file.size,
        allReceivedBytes: before + receivedBytes,
        allTotalBytes,
      });
    // Another revision may have the same bytes.
    if (!(await cache.hasBlob(file)))
      await fetchBlob(client, { model, commit, name, ...file }, cache.blob(file.hash), settings, report);
    await cache.link(commit, name, file.hash);
    before += file.size;
  }
  return missing.length > 0;
}

/** What would be loaded from a snapshot, if all of it is there. */
async function wholeSnapshot(
  cache: HubCache,
  model: string,
  commit: string,
  file: string | undefined,
  offline: boolean,
): Promise<ChosenFiles | undefined> {
  const listing = await cache.listing(commit);
  const present = await cache.present(commit);
  // Without a listing, as other tools leave it, only a request could tell what is missing; offline what is there must do.
  if (listing === undefined && (!offline || present.length === 0)) return undefined;
  let chosen: ChosenFiles;
  try {
    chosen = chooseFiles(model, listing?.keys() ?? present, file);
  } catch (error) {
    if (HubError.isInstance(error) && listing === undefined) return undefined;
    throw error;
  }
  const { names, kind } = chosen;
  const index = kind === 'safetensors' && names.includes(shardIndex) && present.includes(shardIndex);
  const shards = index ? shardsOf(await readFile(cache.file(commit, shardIndex), 'utf8')) : [];
  for (const name of [...names, ...shards]) {
    const expected = listing?.get(name);
    if (expected === undefined ? !present.includes(name) : !(await cache.has(commit, name, expected))) return undefined;
  }
  return chosen;
}
