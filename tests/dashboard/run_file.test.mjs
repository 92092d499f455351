// What the lab opens from files: its own pages and events, the simulator's, logs of other programs; and what it refuses.
// Run: node --test tests/dashboard/

import assert from "node:assert/strict";
import { test } from "node:test";
import { readFileSync, readdirSync } from "node:fs";

import { build } from "../../bridge/assets/lab/model.js";
import { FORMAT, NotARun, readRun } from "../../bridge/assets/lab/run_file.js";
import { EVENTS_SHOWN } from "../../bridge/assets/lab/foreign_log.js";

const GOLDEN = new URL("../../teaching/tests/golden_trace/", import.meta.url);
const golden = (ending) => readdirSync(GOLDEN).filter((name) => name.endsWith(ending)).map((name) => [name, readFileSync(new URL(name, GOLDEN), "utf8")]);
const read = (text, held = null) => readRun(text, () => held);
const refused = (text, words) => assert.throws(() => read(text), (error) => error instanceof NotARun && words.test(error.message), `${text.slice(0, 60)}: ${words}`);
const event = (more = {}) => ({ number: 1, at_unix_ms: 5, branch: "Mumbai", txid: "T", clock: { Mumbai: 1 }, kind: { note: { text: "x" } }, ...more });
const run = (more = {}) => JSON.stringify({ format: FORMAT, transfers: [{ txid: "T", events: [event()] }], ...more });
const modelOf = (run) => build(run.transfers[0].events, run);
const stepsOf = (run) => modelOf(run).steps;

test("what bank-client and the bridge write as JSON is opened, and is the same transfer", () => {
  const traces = golden(".json");
  assert.ok(traces.length >= 8);
  for (const [name, text] of traces) {
    const opened = read(text);
    assert.equal(opened.transfers.length, 1, name);
    assert.deepEqual(opened.transfers[0].events, JSON.parse(text).events.map((one) => ({ ...one, kind: one.kind.moved
      ? { moved: { ...one.kind.moved, amount: Number(one.kind.moved.amount).toFixed(2) } } : one.kind })), name);
    const { result } = read(JSON.stringify({ status: "ok", result: JSON.parse(text) })).transfers;
    assert.equal(result, undefined);
  }
});

test("a page gives what its element holds, and a page of another is none", () => {
  const text = run({ title: "A <b>title</b>", verdict: "seed 7: wrong", log: ["one", "two"], outages: { Mumbai: [{ from: 1, until: null }] } });
  const opened = read("<!doctype html>…", text);
  assert.deepEqual([opened.title, opened.verdict, opened.log.length, opened.outages.Mumbai[0].until], ["A <b>title</b>", "seed 7: wrong", 2, null]);
  refused("<html></html>", /no run/);
});

test("a lesson keeps its questions and how far each was seen", () => {
  const lesson = { name: "n", title: "t", seed: 3, beats: [
    { say: "s", question: "q?", answer: "a", txid: "T", seen: { Mumbai: 1 }, seenAnswered: { Mumbai: 2 } }, { say: "end", txid: null }] };
  const opened = read(run({ lesson })).lesson;
  assert.deepEqual(opened.beats[0], lesson.beats[0]);
  assert.deepEqual([opened.seed, opened.beats[1].question, opened.beats[1].txid, opened.beats[1].seenAnswered], [3, null, null, null]);
});

test("what is damaged, too large or of another form is refused in words", () => {
  refused("", /empty/);
  refused("hello", /no run/);
  refused(run().slice(0, -9), /broken off/);
  refused("[]", /no run|There is no run/);
  refused(JSON.stringify({ a: 1 }), /no events/);
  refused(JSON.stringify({ format: "bank-run-9", transfers: [] }), /bank-run-9/);
  const one = (more) => JSON.stringify({ format: FORMAT, transfers: [{ txid: "T", events: [event(more)] }] });
  refused(one({ number: -1 }), /number/);
  refused(one({ number: "1" }), /number/);
  refused(one({ branch: "x".repeat(100) }), /branch/);
  refused(one({ branch: "a\u0000b" }), /branch/);
  refused(one({ clock: JSON.parse('{"__proto__": 1}') }), /__proto__/);
  refused(one({ kind: { exploded: {} } }), /kind/);
  refused(one({ kind: JSON.parse('{"__proto__": {}}') }), /kind/);
  refused(one({ kind: "constructor" }), /kind/);
  refused(one({ kind: { moved: { account: "1", amount: "1e9", what: "held" } } }), /amount/);
  refused(JSON.stringify({ format: FORMAT, transfers: [{ txid: "T", events: Array.from({ length: 20_001 }, () => 0) }] }), /20001 events/);
  refused(run({ lesson: { name: "n", title: "t", beats: [{}] } }), /lesson/);
});

test("our own logs for ShiViz come back as pictures with every arrow", () => {
  for (const [name, text] of golden(".shiviz")) {
    const opened = read(text);
    assert.ok(opened.isForeign, name);
    const model = modelOf(opened);
    assert.ok(model.messages.every((message) => message.sentStep !== null && message.arrivals.length === 1), name);
    const events = (text.match(/\n\S+ \{/g) ?? []).length;
    assert.ok(model.steps.length >= events, name);
  }
});

/** GoVector's own form: no expression, the host and its clock, the text on the next line. */
const GOVECTOR = `client {"client":1}
Initialization Complete
client {"client":2}
Sending a message to the server
server {"server":1}
Initialization Complete
server {"client":2, "server":2}
Received message from client
server {"client":2, "server":3}
Sending a response
client {"client":3, "server":3}
Received the response
`;

test("a log of GoVector is drawn: two hosts, two arrows, each text beside its event", () => {
  const opened = read(GOVECTOR);
  const model = modelOf(opened);
  assert.deepEqual(model.lanes.map((lane) => lane.name), ["client", "server"]);
  assert.deepEqual(model.messages.map((message) => message.text), ["Sending a message to the server", "Sending a response"]);
  assert.ok(model.steps.some((step) => step.kind === "note" && step.text === "Received the response"));
  const positions = model.messages.map((message) => [message.sentStep, message.arrivals[0].step]);
  assert.ok(positions.every(([sent, came]) => sent < came));
});

test("an expression says where the text stands, and is not run", () => {
  const evil = "(?<event>(a+)+$)\\n(?<host>\\S*) (?<clock>{.*})";
  const text = `${evil}\n\n${"a".repeat(5_000)}!\nn1 {"n1":1}\nsecond\nn2 {"n2":1,"n1":1}\n`;
  const began = performance.now();
  const steps = stepsOf(read(text));
  assert.ok(performance.now() - began < 1_000);
  assert.equal(steps.at(-1).text, "second");
  const oneLine = `(?<date>\\S+) (?<host>\\S+) (?<clock>{.*}) (?<event>.*)\n\n12:00 a {"a":1} starts\n12:01 b {"a":1,"b":1} hears\n`;
  assert.deepEqual(stepsOf(read(oneLine)).filter((step) => step.kind === "note").map((step) => step.text), ["12:01 hears"]);
});

test("a third host that told of an event draws the arrow, not the first", () => {
  const text = `a {"a":1}\nspeaks\nb {"b":1,"a":1}\nhears a\nc {"c":1,"b":1,"a":1}\nhears b, and so of a\n`;
  const model = modelOf(read(text));
  assert.deepEqual(model.messages.map((message) => [model.lanes[message.from].name, model.lanes[message.to].name]), [["a", "b"], ["b", "c"]]);
});

test("hostile logs are refused or cut, and quickly", () => {
  const began = performance.now();
  refused(`${'{"a":1 '.repeat(200_000)}`, /no run|There is no|JSON|broken/);
  refused(`a {"a":1}\nx\na {"a":1}\nx\n`, /only rise/);
  refused(`${"h".repeat(60)} {"${"h".repeat(60)}":1}\nx\n`, /letters/);
  const many = Array.from({ length: 40 }, (_, index) => `h${index} {"h${index}":1}\nx`).join("\n");
  refused(many, /40 hosts/);
  const long = Array.from({ length: EVENTS_SHOWN + 500 }, (_, index) => `a {"a":${index + 1}}\nx`).join("\n");
  const cut = read(long);
  assert.equal(cut.transfers[0].events.length, EVENTS_SHOWN);
  assert.match(cut.about, /1500 events/);
  const dressed = read(`a {"a":1}\n<img src=x onerror=alert(1)>\u202e\u0007\n`);
  assert.equal(stepsOf(dressed)[0].text, "<img src=x onerror=alert(1)>");
  assert.ok(performance.now() - began < 3_000);
});

test("a failing seed of the simulator shows the transfer that the judge meant", () => {
  const opened = read(readFileSync(new URL("failing_seed.json", import.meta.url), "utf8"));
  assert.match(opened.verdict, /^seed \d+: /);
  assert.ok(opened.verdict.includes(opened.shown), "the verdict names it");
  assert.ok(opened.log.length > 100);
  const { events } = opened.transfers.find((one) => one.txid === opened.shown);
  assert.ok(build(events, opened).steps.length > 5);
});
