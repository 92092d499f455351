// Logs for ShiViz that others made, GoVector's among them, as a run that the lab can draw. Pure: text in, data out.
//
// Such a log says for each event its host, the host's vector clock and a text. Which of them stands where is told by a
// regular expression in its first lines, or is GoVector's own order without one. The expression is never run (one that
// somebody else wrote can take for ever): the clock is found by its form, the host is the word beside it, the text is
// the rest. An arrow is drawn where a clock tells that something of another host has become known, from the newest event
// of that host, unless a third host told of it.
//
// Leaves out: several executions in one file, of which the first is taken; the states and the money of a protocol, of
// which such a log says nothing.
//
// Source of the format: <https://bitbucket.org/bestchai/shiviz/wiki/Log%20format>, and GoVector's README.

/** More is not drawn: a picture of a thousand steps is read by nobody. */
export const EVENTS_SHOWN = 1_000;
const HOSTS_MOST = 24;
const HOST_LETTERS = 48;
const TEXT_LETTERS = 300;
const LINE_LETTERS = 20_000;
const CLOCK = /\{\s*(?:"(?:[^"\\]|\\.){1,200}"\s*:\s*\d{1,15}\s*(?:,\s*)?)*\}/;

/** Whether a text looks like such a log: a clock stands in its first lines. */
export function isForeignLog(text) {
  const lines = text.slice(0, 40_000).split(/\r?\n/, 40);
  return lines.some((line) => /\(\?<(event|host|clock)>/.test(line.slice(0, LINE_LETTERS))) || lines.some((line) => {
    const found = clockIn(line);
    return found !== null && found.host !== "";
  });
}

/** The run of a log. `Refused` is the class of what is thrown for a text that can't be read. */
export function readForeignLog(text, Refused) {
  const records = recordsOf(text, Refused);
  const shown = records.slice(0, EVENTS_SHOWN);
  checkClocks(shown, Refused);
  const about = records.length > shown.length ? `The log has ${records.length} events; the first ${shown.length} are drawn.` : null;
  return {
    title: "A log of another program", about, verdict: null, isForeign: true, shown: "log",
    transfers: [{ txid: "log", events: eventsOf(shown) }], lesson: null, log: [], outages: {},
  };
}

/** `{host, clock, text}` of each event, in the file's order. */
function recordsOf(text, Refused) {
  const lines = text.split(/\r?\n/);
  // An expression says on which side of the clock's line the text stands.
  const expression = lines.slice(0, 2).find((line) => /\(\?<clock>/.test(line.slice(0, LINE_LETTERS))) ?? null;
  const isBefore = expression !== null && expression.indexOf("(?<event>") < expression.indexOf("(?<host>") && expression.includes("\\n");
  const isOneLine = expression !== null && !expression.includes("\\n");
  const records = [];
  const clocked = lines.map((line) => (line.length > LINE_LETTERS || line === expression ? null : clockIn(line)));
  clocked.forEach((found, index) => {
    if (found === null || found.host === "") return;
    const beside = lines[index + (isBefore ? -1 : 1)] ?? "";
    const isTaken = (clocked[index + (isBefore ? -1 : 1)] ?? null) !== null;
    const told = isOneLine || isTaken ? found.rest : [beside, found.rest].filter((part) => part.trim() !== "").join(" · ");
    if (found.host.length > HOST_LETTERS) throw new Refused(`Line ${index + 1} has a host of ${found.host.length} letters; the lab takes up to ${HOST_LETTERS}.`);
    records.push({ host: found.host, clock: found.clock, text: cleaned(told).replace(/\s+/g, " ").slice(0, TEXT_LETTERS), line: index + 1 });
  });
  if (records.length === 0) throw new Refused("There is no event with a host and a vector clock in this log.");
  const hosts = new Set(records.map((record) => record.host));
  if (hosts.size > HOSTS_MOST) throw new Refused(`The log has ${hosts.size} hosts; the lab draws up to ${HOSTS_MOST}.`);
  return records;
}

/** The clock in a line, the host beside it, and what else stands there; null without a clock that has entries. */
function clockIn(line) {
  const found = CLOCK.exec(line);
  if (found === null) return null;
  let clock;
  try {
    clock = JSON.parse(found[0].replace(/,\s*\}$/, "}"));
  } catch {
    return null;
  }
  const entries = Object.entries(clock).map(([name, count]) => [cleaned(name), count]);
  if (entries.length === 0 || entries.length > HOSTS_MOST * 4) return null;
  const before = line.slice(0, found.index).trimEnd();
  const word = /(\S+)$/.exec(before)?.[1] ?? "";
  const after = line.slice(found.index + found[0].length);
  // Some write the host behind the clock.
  const names = new Map(entries);
  const behind = /^\s*(\S+)/.exec(after)?.[1] ?? "";
  const host = cleaned(names.has(cleaned(word)) || !names.has(cleaned(behind)) ? word : behind);
  const rest = host === cleaned(word) ? `${before.slice(0, before.length - word.length)} ${after}` : `${before} ${after.replace(behind, "")}`;
  return { host: names.has(host) && host !== "__proto__" ? host : "", clock: names, rest: rest.trim() };
}

/** Without what steers a terminal or can't be seen. */
function cleaned(text) {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/g, "").trim();
}

/** Each host's own count rises by one from event to event. */
function checkClocks(records, Refused) {
  const last = new Map();
  for (const { host, clock, line } of records) {
    const before = last.get(host) ?? null;
    const now = clock.get(host);
    if (before !== null && now <= before) throw new Refused(`Line ${line}: the clock of ${host} goes from ${before} to ${now}, and clocks only rise.`);
    last.set(host, now);
  }
}

/** Events as the lab's model takes them: a note for each, and an arrow where one has become known to another host. */
function eventsOf(records) {
  const byPlace = new Map(records.map((record) => [`${record.host} ${record.clock.get(record.host)}`, record]));
  const arrows = new Map(records.map((record) => [record, []]));
  const known = new Map();
  for (const record of records) {
    const before = known.get(record.host) ?? new Map();
    const news = [...record.clock].filter(([name, count]) => name !== record.host && count > (before.get(name) ?? 0));
    const causes = news.map(([name, count]) => byPlace.get(`${name} ${count}`)).filter((cause) => cause !== undefined);
    // What another of them knew already was told by that one.
    const direct = causes.filter((cause) => !causes.some((other) => other !== cause && (other.clock.get(cause.host) ?? 0) >= cause.clock.get(cause.host)));
    direct.forEach((cause) => arrows.get(cause).push(record));
    const after = new Map(before);
    for (const [name, count] of record.clock) after.set(name, Math.max(count, after.get(name) ?? 0));
    known.set(record.host, after);
  }
  const events = [];
  const incoming = new Map();
  for (const [cause, effects] of arrows) for (const effect of effects) incoming.set(effect, [...(incoming.get(effect) ?? []), cause]);
  records.forEach((record, index) => {
    const own = record.clock.get(record.host);
    let part = 0;
    const add = (kind) => {
      // Parts of one event stand between it and the next.
      const number = own + part / 1_000;
      part += 1;
      const clock = { ...Object.fromEntries(record.clock), [record.host]: number };
      for (const name of Object.keys(clock)) if (name !== record.host) clock[name] += 0.999;
      events.push({ number, at_unix_ms: index, branch: record.host, txid: "log", clock, kind });
    };
    const causes = incoming.get(record) ?? [];
    causes.forEach((cause) => add({ received: { from: cause.host, ...messageOf(cause, record) } }));
    const effects = arrows.get(record);
    if (causes.length > 0 || effects.length === 0) add({ note: { text: record.text } });
    effects.forEach((effect) => add({ sent: { to: effect.host, ...messageOf(record, effect) } }));
  });
  return events;
}

/** The message that an arrow stands for: what its sender says of the event. */
function messageOf(cause, effect) {
  const place = ({ host, clock }) => `${host}:${clock.get(host)}`;
  return { message: shortened(cause.text), text: cause.text, id: `${place(cause)} to ${place(effect)}` };
}

function shortened(text) {
  const short = text === "" ? "event" : text;
  return short.length > 24 ? `${short.slice(0, 23)}…` : short;
}
