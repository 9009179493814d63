import type { Dataset, Row } from '@user-llm/datasets';
import { EventTokenizer, eventSchema, text, type EventColumns } from '@user-llm/event-tokenizer';
import { Random } from '@user-llm/onnx-autograd';

const titleField = 'title';
/** Users asked about at most. */
const mostCases = 2000;

/** A user whose next item, after the events that are left, is one that nothing was trained on. */
export interface NewItemCase {
  /** Index in `events`. */
  readonly user: number;
  /** Place of the true item in `items`. */
  readonly target: number;
  /** Places in `items` of what the user has met. */
  readonly met: readonly number[];
}

/** A log without some of its items, and the moments at which users met those. */
export interface NewItems {
  readonly tokenizer: EventTokenizer;
  /** What may be learned from: events of the other items, of every user up to the moment that is asked about. */
  readonly events: EventColumns;
  /** One row of each item, known ones first; the tokenizer knows the first `known` of them. */
  readonly items: readonly Row[];
  readonly known: number;
  /** The items as events, in their order. */
  readonly catalogue: EventColumns;
  readonly cases: readonly NewItemCase[];
  /** Which fields describe an item. */
  readonly fields: readonly string[];
}

/**
 * Takes a share of the items out of a log. The moment that is asked about is a user's last meeting with such an item before the test
 * item (the user's last event, which is used for nothing); what the user did afterwards is not learned from. The tokenizer is fitted on what
 * is left, with the title as a text where there is one. Null where nothing describes an item.
 */
export async function newItems(dataset: Dataset, share: number, seed: number): Promise<NewItems | null> {
  const byUser = await usersInOrder(dataset);
  const rowOf = new Map<string, Row>();
  for (const rows of byUser.values()) for (const row of rows) if (!rowOf.has(String(row.item))) rowOf.set(String(row.item), row);
  const titled = [...rowOf.values()].some((row) => typeof row.title === 'string');
  const fields = [...('categories' in dataset.schema.fields ? ['categories'] : []), ...(titled ? [titleField] : [])];
  if (fields.length === 0) return null;
  const order = Random.of(seed, 'new items').shuffle([...rowOf.keys()]);
  const fresh = new Set(order.slice(0, Math.ceil(share * order.length)));
  const histories: Row[][] = [];
  const asked: (string | undefined)[] = [];
  for (const rows of byUser.values()) {
    const before = rows.slice(0, -1);
    const at = before.findLastIndex(
      (row, i) => fresh.has(String(row.item)) && before.slice(0, i).some((r) => !fresh.has(String(r.item))),
    );
    asked.push(at < 0 ? undefined : String(before[at].item));
    histories.push((at < 0 ? before : before.slice(0, at)).filter((row) => !fresh.has(String(row.item))));
  }
  const { user, time, fields: given } = dataset.schema;
  const schema = eventSchema({
    user,
    ...(time && { time }),
    fields: { ...given, ...(titled && { [titleField]: text('title') }) },
  });
  const learned = histories.flat();
  const tokenizer = await EventTokenizer.fit(schema, () => learned, { minCount: 1 });
  const events = await tokenizer.encode(learned);
  const left = new Set(learned.map((row) => String(row.item)));
  const known = order.filter((item) => left.has(item));
  const ids = [...known, ...order.filter((item) => fresh.has(item))];
  const items = ids.map((item) => rowOf.get(item)!);
  const placeOf = new Map(ids.map((item, place) => [item, place]));
  const userOf = new Map(events.users.map((name, index) => [name, index]));
  const names = [...byUser.keys()];
  const cases = asked.flatMap((item, i): NewItemCase[] => {
    const index = userOf.get(names[i]);
    if (item === undefined || index === undefined) return [];
    const met = new Set(histories[i].map((row) => placeOf.get(String(row.item))!));
    return [{ user: index, target: placeOf.get(item)!, met: [...met] }];
  });
  return {
    tokenizer,
    events,
    items,
    known: known.length,
    // An order of their own, for events are sorted by time.
    catalogue: await tokenizer.encode(items.map((row, place) => ({ ...row, user: 'catalogue', time: place }))),
    cases: Random.of(seed, 'cases').shuffle(cases).slice(0, mostCases),
    fields,
  };
}

/** The rows of every user, oldest first, equal times in the order of the file; unreadable ones left out. */
async function usersInOrder(dataset: Dataset): Promise<Map<string, Row[]>> {
  const byUser = new Map<string, Row[]>();
  for await (const row of dataset.events) {
    if (row.user === undefined || row.item === undefined) continue;
    const rows = byUser.get(String(row.user));
    if (rows) rows.push(row);
    else byUser.set(String(row.user), [row]);
  }
  for (const rows of byUser.values()) rows.sort((a, b) => Number(a.time) - Number(b.time));
  return byUser;
}
