import { InvalidOptionError } from './errors.js';
import type { OpenOptions } from './open-dataset.js';
import type { SourceReader } from './source-reader.js';
import { sourceTimeUnits } from './values.js';

type Option = keyof OpenOptions;

/** Of every data set. */
const common: readonly Option[] = ['name', 'checksum', 'signal'];
/** Of some layouts; which of them a reader uses, it says in `honours`. */
const ofLayouts = [
  'columns',
  'itemColumns',
  'timeUnit',
  'categorySeparator',
  'delimiter',
  'metadata',
  'normaliseTitles',
] as const satisfies readonly Option[];

export type LayoutOption = (typeof ofLayouts)[number];

/** Checked here for all readers: an unknown option is most often a misspelt one. @throws InvalidOptionError */
export function checkOptions(given: OpenOptions): void {
  checkNames('', given, [...common, ...ofLayouts]);
  const { columns, itemColumns, timeUnit, delimiter, categorySeparator } = given;
  checkColumns('columns', columns);
  checkColumns('itemColumns', itemColumns);
  checkNames('itemColumns.', itemColumns ?? {}, ['id', 'title', 'categories']);
  if (timeUnit !== undefined && !sourceTimeUnits.includes(timeUnit))
    throw new InvalidOptionError('timeUnit', timeUnit, `one of ${sourceTimeUnits.join(', ')}`);
  if (delimiter !== undefined && !(typeof delimiter === 'string' && /^[^"\r\n]+$/.test(delimiter)))
    throw new InvalidOptionError('delimiter', delimiter, 'one or more characters, no quotes and no line breaks');
  if (categorySeparator !== undefined && !(typeof categorySeparator === 'string' && categorySeparator !== ''))
    throw new InvalidOptionError('categorySeparator', categorySeparator, 'one or more characters');
}

/** An option that changes nothing was meant to change something. @throws InvalidOptionError */
export function checkHonoured(given: OpenOptions, { layout, honours }: SourceReader): void {
  for (const option of ofLayouts) {
    const value = given[option];
    if (value !== undefined && value !== false && !honours.includes(option))
      throw new InvalidOptionError(option, value, `left out: nothing in these data (layout ${layout}) is read by it`);
  }
}

function checkNames(before: string, options: object, known: readonly string[]): void {
  for (const [name, value] of Object.entries(options)) {
    if (!known.includes(name) && value !== undefined)
      throw new InvalidOptionError(before + name, value, `left out: the options are ${known.join(', ')}`);
  }
}

function checkColumns(option: Option, columns: object | undefined): void {
  if (columns === undefined) return;
  if (typeof columns !== 'object' || columns === null || Array.isArray(columns))
    throw new InvalidOptionError(option, columns, 'an object that names columns, such as { title: "name" }');
  for (const [role, column] of Object.entries(columns))
    if (column !== undefined && typeof column !== 'string')
      throw new InvalidOptionError(`${option}.${role}`, column, 'the name of a column');
}
