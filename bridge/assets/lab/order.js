// One line of events from many branches: no event stands before one that can have caused it; what the vector clocks
// leave open, the time of day decides. Pure: no DOM, no network.
//
// Source of the order: Fidge (1988) and Mattern (1989), as in protocol/src/event.rs.

/** How many numbers a branch reserves at each start; a number from another block is from another life of it. */
export const NUMBERS_RESERVED = 1_000_000;

/** A crash is noticed late: one that shows within this time of a branch's last event is drawn right after that. */
const NOTICED_WITHIN_MS = 1_000;

const FOUND = "found on disk: ";

/** So many resends in a row are shown; of more the first ones and the last. */
const RESENDS_SHOWN = 3;

/** The name of an event's kind: `sent`, `recorded`, … */
export function kindOf(event) {
  return typeof event.kind === "string" ? event.kind : Object.keys(event.kind)[0];
}

/** What stands in an event's kind. */
export function bodyOf(event) {
  return event.kind[kindOf(event)] ?? {};
}

/** What a note says was found on disk at a start, or null. */
export function foundOnDisk(event) {
  const text = kindOf(event) === "note" ? bodyOf(event).text : "";
  return text.startsWith(FOUND) ? text.slice(FOUND.length) : null;
}

function own(event) {
  return event.clock?.[event.branch] ?? event.number;
}

/** Whether `first` can have caused `second`. */
export function isBefore(first, second) {
  if (first.branch === second.branch) return own(first) < own(second);
  const known = second.clock?.[first.branch];
  return known !== undefined && own(first) <= known;
}

/** The events in an order that respects causes. Doubled ones are dropped. */
export function inOrder(events) {
  const queues = new Map();
  for (const event of [...events].sort((a, b) => a.number - b.number)) {
    const queue = queues.get(event.branch) ?? [];
    if (queue.at(-1)?.number !== event.number) queue.push(event);
    queues.set(event.branch, queue);
  }
  const heads = [...queues.values()].map((queue) => ({ queue, next: 0 }));
  const line = [];
  for (;;) {
    const open = heads.filter((head) => head.next < head.queue.length);
    if (open.length === 0) return line;
    const eventOf = (head) => head.queue[head.next];
    const free = open.filter((head) => !open.some((other) => other !== head && isBefore(eventOf(other), eventOf(head))));
    // Clocks that contradict each other, as after a return with an older database, leave no free one.
    const candidates = free.length > 0 ? free : open;
    const earliest = candidates.reduce((best, head) => (isSooner(eventOf(head), eventOf(best), line.at(-1)) ? head : best));
    line.push(eventOf(earliest));
    earliest.next += 1;
  }
}

/**
 * At the same millisecond the branch that is at work goes on, as two prepares leave before one of them arrives; but a
 * crash, which is told in a note where there is no record of it, waits until the others have heard what was sent.
 */
function isSooner(event, other, last) {
  if (event.at_unix_ms !== other.at_unix_ms) return event.at_unix_ms < other.at_unix_ms;
  const rank = (one) => (["note", "crashed", "started"].includes(kindOf(one)) ? 2 : one.branch === last?.branch ? 0 : 1);
  return rank(event) < rank(other);
}

/**
 * The crashes that the events and the known outages tell of, as events of the kind `crashed` and `started`.
 *
 * A branch keeps no events over a crash, so a crash shows by what comes after it: numbers of another block, or notes
 * of what was found on disk. One that is down now shows by `outages` alone: `{branch: [{from, until}]}`, in
 * milliseconds since 1970, `until` null while it lasts.
 */
export function crashes(events, outages = {}) {
  const byBranch = new Map();
  for (const event of [...events].sort((a, b) => a.number - b.number)) {
    byBranch.set(event.branch, [...(byBranch.get(event.branch) ?? []), event]);
  }
  const made = [];
  for (const [branch, own_events] of byBranch) {
    const known = outages[branch] ?? [];
    const told = new Set();
    for (let index = 1; index < own_events.length; index += 1) {
      const [last, first] = [own_events[index - 1], own_events[index]];
      if (!isRestart(last, first)) continue;
      const outage = known.find((out) => out.from >= last.at_unix_ms && out.from <= first.at_unix_ms);
      if (outage) told.add(outage);
      made.push(synthetic(last, "crashed", crashedAt(last, outage), 0.25));
      if (foundOnDisk(first) === null) made.push(synthetic(first, "started", first.at_unix_ms, -0.25));
    }
    const last = own_events.at(-1);
    const later = known.filter((out) => out.from >= last.at_unix_ms && !told.has(out));
    later.forEach((outage, index) => {
      made.push(synthetic(last, "crashed", crashedAt(last, outage), 0.25 + index / 100));
      if (outage.until !== null) made.push(synthetic(last, "started", outage.until, 0.255 + index / 100));
    });
  }
  return made;
}

function crashedAt(last, outage) {
  return outage && outage.from - last.at_unix_ms > NOTICED_WITHIN_MS ? outage.from : last.at_unix_ms;
}

function isRestart(last, first) {
  // The old way's scratch bank takes its numbers from the time of day.
  const block = (event) => (event.branch.startsWith("Old-") ? 0 : Math.floor((event.number - 1) / NUMBERS_RESERVED));
  return block(last) !== block(first) || (foundOnDisk(first) !== null && foundOnDisk(last) === null);
}

function synthetic(beside, kind, at_unix_ms, offset) {
  const number = beside.number + offset;
  return {
    number, at_unix_ms, branch: beside.branch, txid: beside.txid, isInferred: true,
    clock: { ...beside.clock, [beside.branch]: own(beside) + offset }, kind: { [kind]: {} },
  };
}

/**
 * The line without most of what is sent again and again to a branch that is down. Of a row of resends, none of which
 * arrived so far, the first and the last stay. `more` tells of the last how many before it are left out. A row only
 * ever grows to `RESENDS_SHOWN`, so that nothing moves while the resends go on.
 *
 * @param waiting what a stage holds back: it is on its way
 */
export function foldResends(line, waiting = []) {
  const known = new Set(waiting.map((one) => one.id));
  for (const event of line) if (["received", "lost"].includes(kindOf(event))) known.add(bodyOf(event).id);
  const [seen, rows, left, more] = [new Set(), new Map(), new Set(), new Map()];
  const endRows = () => {
    for (const row of rows.values()) {
      const folded = row.slice(RESENDS_SHOWN - 1, -1);
      folded.forEach((event) => left.add(event));
      if (folded.length > 0) more.set(row.at(-1), folded.length);
    }
    rows.clear();
  };
  for (const event of line) {
    const { to, message, id } = bodyOf(event);
    const isSent = kindOf(event) === "sent";
    const key = JSON.stringify([event.branch, to, message]);
    if (!isSent || !seen.has(key) || known.has(id)) endRows();
    else if (rows.has(key)) rows.get(key).push(event);
    else rows.set(key, [event]);
    if (isSent) seen.add(key);
  }
  endRows();
  return { line: line.filter((event) => !left.has(event)), more };
}
