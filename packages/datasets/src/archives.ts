import { InvalidOptionError } from './errors.js';

/** A file to fetch: below the base address, and where its owner publishes a checksum beside it. */
export interface ArchiveFile {
  /** Path below the base address. */
  path: string;
  /** The owner publishes `<path>.md5`: it must be there and must match. */
  md5: boolean;
  unpack: boolean;
}

export interface Archive {
  name: string;
  base: string;
  files: ArchiveFile[];
}

const movieLens = 'https://files.grouplens.org/datasets/movielens/';
/** Released once and never changed, with a checksum; the two `latest` archives are replaced now and then and have none. */
const fixed = ['ml-100k', 'ml-1m', 'ml-10m', 'ml-20m', 'ml-25m', 'ml-32m'];
const changing = ['ml-latest-small', 'ml-latest'];

const families: Record<string, { base: string; files: (category: string) => string[]; example: string }> = {
  'amazon-2014': {
    base: 'https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/',
    files: (category) => [`reviews_${category}_5.json.gz`, `meta_${category}.json.gz`],
    example: 'Musical_Instruments',
  },
  'amazon-2018': {
    base: 'https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/',
    files: (category) => [`categoryFilesSmall/${category}_5.json.gz`, `metaFiles2/meta_${category}.json.gz`],
    example: 'Luxury_Beauty',
  },
  'amazon-2023': {
    base: 'https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/',
    files: (category) => [`review_categories/${category}.jsonl.gz`, `meta_categories/meta_${category}.jsonl.gz`],
    example: 'All_Beauty',
  },
  'google-local': {
    base: 'https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal/',
    files: (state) => [`review-${state}_10.json.gz`, `meta-${state}.json.gz`],
    example: 'Alaska',
  },
};

/** What `download` takes: whole names, and families with a category (`amazon-2023/All_Beauty`). */
export const archiveNames: readonly string[] = [
  ...fixed,
  ...changing,
  ...Object.entries(families).map(([name, { example }]) => `${name}/${example}`),
];

/** @throws InvalidOptionError for a name that is not in the table. */
export function archiveOf(name: string): Archive {
  if (fixed.includes(name)) return { name, base: movieLens, files: [{ path: `${name}.zip`, md5: true, unpack: true }] };
  if (changing.includes(name)) return { name, base: movieLens, files: [{ path: `${name}.zip`, md5: false, unpack: true }] };
  const [family, category, ...rest] = name.split('/');
  const known = Object.hasOwn(families, family) ? families[family] : undefined;
  if (known && rest.length === 0 && category !== undefined && /^[A-Za-z0-9_]+$/.test(category)) {
    return { name, base: known.base, files: known.files(category).map((path) => ({ path, md5: false, unpack: false })) };
  }
  throw new InvalidOptionError('name', name, `one of ${archiveNames.join(', ')} (a category of your choice after the slash)`);
}
