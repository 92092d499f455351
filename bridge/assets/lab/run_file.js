// Runs in files: what the lab can open, and the one form that it makes of all of it. Pure: text in, data out.
//
// A run is `{title, about, verdict, isForeign, shown, transfers: [{txid, events}], lesson, log, outages}`. It comes out
// of one HTML file that the lab has exported, of events as JSON, of the simulator's file of a failing seed, or of a log for
// ShiViz that somebody else made (foreign_log.js).
//
// Keeps true: nothing of a file is run or read as HTML; every text is bounded, every number a number, every event has the
// form that branches give it. What does not fit is refused with a sentence that says what is wrong. Leaves out: reading the
// file (open_file.js) and showing it (viewer.js).

import { isForeignLog, readForeignLog } from "./foreign_log.js";

/** The form's name; a later one has another. */
export const FORMAT = "bank-run-1";
/** The element of an exported page that holds its run. */
export const ELEMENT = "bank-run";
export const FILE_BYTES = 16 * 1024 * 1024;
const EVENTS_MOST = 20_000;
const TRANSFERS_MOST = 2_000;
const BEATS_MOST = 200;
const LOG_LINES_MOST = 5_000;
const TEXT_MOST = 4_000;
const NAME_MOST = 64;

/** What can't be opened, in one sentence for a person. */
export class NotARun extends Error {}

/** The run in a file's text; `parseHtml(text)` gives the text of the element of an exported page, or null. */
export function readRun(text, parseHtml) {
  const trimmed = text.replace(/^\uFEFF/, "").trimStart();
  if (trimmed === "") throw new NotARun("The file is empty.");
  if (trimmed.startsWith("<")) {
    const held = parseHtml(trimmed);
    if (held === null) throw new NotARun("This page holds no run: it was not exported by the lab.");
    return fromJson(held);
  }
  if (trimmed.startsWith("{") && !isForeignLog(trimmed)) return fromJson(trimmed);
  if (isForeignLog(trimmed)) return readForeignLog(trimmed, NotARun);
  throw new NotARun("This is no run: the lab opens its own pages, events as JSON, files of the simulator, and logs for ShiViz.");
}

function fromJson(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new NotARun("The file is broken off or damaged: its JSON can't be read.");
  }
  if (!isObject(data)) throw new NotARun("There is no run in this JSON.");
  if (data.format !== undefined && data.format !== FORMAT) throw new NotARun(`This file has the form ${brief(data.format)}; the lab reads ${FORMAT}.`);
  // What the bridge answers stands in an envelope; what bank-client prints does not.
  const whole = isObject(data.result) ? data.result : data;
  const transfers = Array.isArray(whole.transfers) ? whole.transfers : Array.isArray(whole.events) ? [whole] : null;
  if (transfers === null) throw new NotARun("There are no events in this file.");
  if (transfers.length > TRANSFERS_MOST) throw new NotARun(`The file has ${transfers.length} transfers; the lab opens up to ${TRANSFERS_MOST}.`);
  const counted = transfers.reduce((sum, one) => sum + (Array.isArray(one?.events) ? one.events.length : 0), 0);
  if (counted > EVENTS_MOST) throw new NotARun(`The file has ${counted} events; the lab opens up to ${EVENTS_MOST}.`);
  const read = transfers.map(transferOf);
  return {
    title: optionalText(whole.title), about: optionalText(whole.about), verdict: optionalText(whole.verdict), isForeign: false,
    shown: read.some((one) => one.txid === whole.shown) ? whole.shown : null,
    transfers: read, lesson: whole.lesson === undefined || whole.lesson === null ? null : lessonOf(whole.lesson),
    log: listOf(whole.log ?? [], LOG_LINES_MOST, "lines of the log").map((line) => textOf(line, "a line of the log")),
    outages: outagesOf(whole.outages ?? {}),
  };
}

function transferOf(one) {
  if (!isObject(one) || !Array.isArray(one.events)) throw new NotARun("A transfer of this file has no events.");
  return { txid: nameOf(one.txid ?? one.events[0]?.txid ?? "?", "a transfer's id", 200), events: one.events.map(eventOf) };
}

/** An event as branches tell it, and nothing beside that. */
function eventOf(event) {
  if (!isObject(event)) throw new NotARun("An event of this file is none.");
  const branch = nameOf(event.branch, "a branch's name");
  const clock = {};
  for (const [name, count] of entriesOf(event.clock ?? {}, "clock")) clock[nameOf(name, "a name in a clock")] = numberOf(count, "a clock");
  return {
    number: numberOf(event.number, "an event's number"), at_unix_ms: numberOf(event.at_unix_ms, "an event's time"), branch,
    txid: event.txid === null || event.txid === undefined ? null : nameOf(event.txid, "a transfer's id", 200), clock, kind: kindOf(event.kind),
  };
}

const MESSAGE = { message: "name", text: "text", id: "name" };
/** What stands in each kind of event. */
const KINDS = {
  sent: { to: "name", ...MESSAGE }, received: { from: "name", ...MESSAGE }, lost: { from: "name", ...MESSAGE },
  asked: { text: "text" }, answered: { text: "text" }, note: { text: "text" },
  recorded: { record: "name", forced: "flag" }, state: { role: "name", from: "name", to: "name" },
  moved: { account: "name", amount: "amount", what: "name" },
};
const READERS = {
  name: (value) => nameOf(value, "a name in an event", 200),
  text: (value) => textOf(value, "an event's text"),
  flag: (value) => value === true,
  amount: amountOf,
};

function kindOf(kind) {
  const [name, ...others] = isObject(kind) ? Object.keys(kind) : [];
  const fields = others.length === 0 && Object.hasOwn(KINDS, name ?? "") ? KINDS[name] : null;
  if (fields === null || !isObject(kind[name])) throw new NotARun(`An event of this file is of no known kind: ${brief(name)}.`);
  return { [name]: Object.fromEntries(Object.entries(fields).map(([field, how]) => [field, READERS[how](kind[name][field])])) };
}

function lessonOf(lesson) {
  if (!isObject(lesson)) throw new NotARun("The lesson in this file is none.");
  return {
    name: nameOf(lesson.name, "a lesson's name", 200), title: textOf(lesson.title, "a lesson's title"),
    seed: lesson.seed === undefined || lesson.seed === null ? null : numberOf(lesson.seed, "a lesson's seed"),
    beats: listOf(lesson.beats, BEATS_MOST, "beats of a lesson").map((beat) => {
      if (!isObject(beat)) throw new NotARun("A beat of the lesson in this file is none.");
      return { say: textOf(beat.say, "a lesson's text"), question: optionalText(beat.question), answer: optionalText(beat.answer),
        txid: beat.txid === null || beat.txid === undefined ? null : nameOf(beat.txid, "a transfer's id", 200),
        seen: seenOf(beat.seen ?? {}), seenAnswered: beat.seenAnswered === undefined || beat.seenAnswered === null ? null : seenOf(beat.seenAnswered) };
    }),
  };
}

/** The number of the last event that was seen, by branch. */
function seenOf(seen) {
  return Object.fromEntries(entriesOf(seen, "numbers of events that a class has seen").map(([name, number]) =>
    [nameOf(name, "a branch's name"), numberOf(number, "an event's number")]));
}

function outagesOf(outages) {
  const read = {};
  for (const [name, list] of entriesOf(outages, "outages")) {
    read[nameOf(name, "a branch's name")] = listOf(list, 1_000, "outages").map((one) => ({
      from: numberOf(one?.from, "an outage"), until: one?.until === null || one?.until === undefined ? null : numberOf(one.until, "an outage"),
    }));
  }
  return read;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function entriesOf(value, what) {
  if (!isObject(value) || Object.keys(value).length > 256) throw new NotARun(`The ${what} in this file can't be read.`);
  return Object.entries(value);
}

function listOf(value, most, what) {
  if (!Array.isArray(value)) throw new NotARun(`The ${what} in this file are no list.`);
  if (value.length > most) throw new NotARun(`The file has ${value.length} ${what}; the lab opens up to ${most}.`);
  return value;
}

function numberOf(value, what) {
  if (!Number.isSafeInteger(value) || value < 0) throw new NotARun(`In this file ${what} is no whole number: ${brief(value)}.`);
  return value;
}

/** An amount as branches write it: two decimals, never more digits than an account can hold. */
function amountOf(value) {
  const text = typeof value === "number" ? value.toFixed(2) : value;
  if (typeof text !== "string" || !/^\d{1,14}(\.\d{1,2})?$/.test(text)) throw new NotARun(`In this file an amount is none: ${brief(value)}.`);
  return text;
}

function nameOf(value, what, most = NAME_MOST) {
  const text = typeof value === "number" ? String(value) : value;
  if (typeof text !== "string" || text === "" || text.length > most || /[\u0000-\u001f\u007f]/.test(text)) {
    throw new NotARun(`In this file ${what} can't be read: ${brief(value)}.`);
  }
  // Names become keys of plain objects.
  if (text === "__proto__") throw new NotARun(`In this file ${what} is ${text}.`);
  return text;
}

function textOf(value, what) {
  if (typeof value !== "string") throw new NotARun(`In this file ${what} is no text: ${brief(value)}.`);
  return value.length > TEXT_MOST ? `${value.slice(0, TEXT_MOST)}…` : value;
}

function optionalText(value) {
  return value === undefined || value === null ? null : textOf(value, "a text");
}

function brief(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "nothing";
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}
