import type { Workspace } from '../workspace.js';

/** Prints what a data set holds. */
export async function showData(workspace: Workspace): Promise<void> {
  const { dataset, events, log, split } = await workspace.corpus();
  const lengths = Array.from(log.users, (_, user) => log.offsets[user + 1] - log.offsets[user]).sort((a, b) => a - b);
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
  };
  for (const [name, value] of Object.entries(summary)) workspace.output.print(`${name.padEnd(36)}${String(value)}`);
  for (const note of dataset.provenance.notes) workspace.output.print(`note: ${note}`);
  for (const { line, field, reason } of events.rejected.slice(0, 10))
    workspace.output.print(`rejected: line ${line}${field ? `, ${field}` : ''}: ${reason}`);
  workspace.output.result({
    event: 'data',
    ...summary,
    notes: dataset.provenance.notes,
    rejections: events.rejected.slice(0, 100),
  });
}
