import type { Dataset } from '@user-llm/datasets';
import { checkCatalogue, fitTokenizer, loadCorpus } from '../corpus.js';
import { rejectionInWords } from '../own-words.js';
import type { ConsoleOutput } from '../run/console-output.js';

const usualFields = new Set(['item', 'categories', 'rating', 'text']);

/** Prints what a data set holds; writes nothing. */
export async function showData(dataset: Dataset, output: ConsoleOutput, signal?: AbortSignal): Promise<void> {
  const corpus = await loadCorpus(dataset, await fitTokenizer(dataset, signal), signal);
  checkCatalogue(corpus);
  const { events, log, split } = corpus;
  const lengths = Array.from(log.users, (_, user) => log.offsets[user + 1] - log.offsets[user]).sort((a, b) => a - b);
  const further = Object.keys(dataset.schema.fields).filter((name) => !usualFields.has(name));
  const summary = {
    name: dataset.name,
    simulated: dataset.simulated,
    source: dataset.provenance.source,
    licence: dataset.provenance.licence,
    users: log.users.length,
    items: log.itemIds.length,
    events: events.counts.events,
    rejected: events.counts.rejected,
    'events per user (median, largest)': `${lengths[lengths.length >> 1]}, ${lengths.at(-1)}`,
    'test users': split.test.length,
    split: split.description.split,
    ...(further.length > 0 && { 'columns of your own': further.join(', ') }),
  };
  for (const [name, value] of Object.entries(summary)) output.print(`${name.padEnd(36)}${String(value)}`);
  for (const note of dataset.provenance.notes) output.print(`note: ${note}`);
  for (const rejection of events.rejected.slice(0, 10)) output.print(`rejected: ${rejectionInWords(rejection)}`);
  output.result({
    event: 'data',
    ...summary,
    notes: dataset.provenance.notes,
    rejections: events.rejected.slice(0, 100),
  });
}
