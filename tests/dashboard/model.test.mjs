// The lab's model, fed with events as branches tell them. Run: node --test tests/dashboard/
//
// A case is written as a story; `Bank` gives its events numbers, clocks and times as branches do.

import assert from "node:assert/strict";
import { test } from "node:test";

import { build, fateAt, stateAt } from "../../bridge/assets/lab/model.js";
import { inOrder, isBefore, NUMBERS_RESERVED } from "../../bridge/assets/lab/order.js";
import { rupees } from "../../bridge/assets/lab/money.js";
import { readTyped } from "../../bridge/assets/money.js";
import { sentence } from "../../bridge/assets/lab/words.js";

const TXID = "Mumbai-1";

class Bank {
  events = [];
  clocks = {};
  sent = {};
  now = 1_000;

  add(branch, kind, merged = {}) {
    const clock = { ...this.clocks[branch] };
    for (const [name, count] of Object.entries(merged)) clock[name] = Math.max(clock[name] ?? 0, count);
    const number = (this.clocks[branch]?.[branch] ?? 0) + 1;
    clock[branch] = number;
    this.clocks[branch] = clock;
    this.now += 1;
    this.events.push({ number, at_unix_ms: this.now, branch, txid: TXID, clock, kind });
    return this.events.at(-1);
  }
  state(branch, to, from = "unknown") {
    return this.add(branch, { state: { role: branch === "Mumbai" ? "coordinator" : "participant", from, to } });
  }
  record(branch, record, forced = true) {
    return this.add(branch, { recorded: { record, forced } });
  }
  moved(branch, account, amount, what) {
    return this.add(branch, { moved: { account, amount, what } });
  }
  send(branch, to, message) {
    const id = `${branch}:${(this.clocks[branch]?.[branch] ?? 0) + 1}`;
    const event = this.add(branch, { sent: { to, message, text: `${message} ${TXID}`, id } });
    this.sent[id] = { from: branch, message, text: `${message} ${TXID}`, id, clock: event.clock };
    return id;
  }
  receive(branch, id) {
    const { clock, ...body } = this.sent[id];
    return this.add(branch, { received: body }, clock);
  }
  lose(branch, id) {
    const { clock: _, ...body } = this.sent[id];
    return this.add(branch, { lost: body });
  }
  restart(branch, ...found) {
    this.clocks[branch] = { [branch]: NUMBERS_RESERVED };
    found.forEach((record) => this.add(branch, { note: { text: `found on disk: ${record}` } }));
  }

  begin(...receivers) {
    this.add("Mumbai", { asked: { text: "50.00 from 1001 to Delhi/1002" } });
    this.state("Mumbai", "beginning");
    this.record("Mumbai", "begun");
    this.moved("Mumbai", "1001", "50.00", "held");
    this.state("Mumbai", "voting", "beginning");
    return receivers.map((receiver) => this.send("Mumbai", receiver, "prepare"));
  }
  prepare(branch, id, amount = "50.00") {
    this.receive(branch, id);
    this.state(branch, "preparing");
    this.record(branch, "prepared");
    this.moved(branch, "1002", amount, "reserved");
    this.state(branch, "prepared", "preparing");
    return this.send(branch, "Mumbai", "vote yes");
  }
  decide(...receivers) {
    this.state("Mumbai", "committing", "voting");
    this.record("Mumbai", "committed");
    this.moved("Mumbai", "1001", "50.00", "debited");
    this.state("Mumbai", "delivering", "committing");
    return receivers.map((receiver) => this.send("Mumbai", receiver, "commit"));
  }
  settle(branch, id, amount = "50.00") {
    this.receive(branch, id);
    this.state(branch, "settling(committed)", "prepared");
    this.record(branch, "settled committed");
    this.moved(branch, "1002", amount, "credited");
    this.state(branch, "settled(committed)", "settling(committed)");
    return this.send(branch, "Mumbai", "acknowledged");
  }
  end(...acks) {
    acks.forEach((ack) => this.receive("Mumbai", ack));
    this.state("Mumbai", "ending", "delivering");
    this.record("Mumbai", "ended", false);
    this.state("Mumbai", "ended", "ending");
    this.add("Mumbai", { answered: { text: "transfer_complete, delivery done" } });
  }
}

function committed() {
  const bank = new Bank();
  const [prepare] = bank.begin("Delhi");
  bank.receive("Mumbai", bank.prepare("Delhi", prepare));
  const [commit] = bank.decide("Delhi");
  bank.end(bank.settle("Delhi", commit));
  return bank;
}

const shuffled = (list) => list.map((item, index) => [(index * 7919) % list.length, index, item]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , item]) => item);
const at = (model, kind, what) => model.steps.findIndex((step) => step.kind === kind && (step.record ?? step.message?.name ?? kind) === what);
const states = (model, position) => Object.fromEntries(model.lanes.map((lane) => [lane.name, stateAt(lane, position)]));
const holds = ({ free, held, transit, received }) => [free, held, transit, received].map(rupees);

/** What must hold of every model. */
function checkInvariants(model) {
  for (const [index, step] of model.steps.entries()) {
    for (const later of model.steps.slice(index + 1)) {
      assert.ok(!isBefore(later.event, step.event), `step ${later.index} stands below what it caused, step ${index}`);
    }
    assert.ok(sentence(step, model.lanes).length > 10);
  }
  if (model.isOldWay) return;
  for (const place of model.places) {
    assert.equal(place.free + place.held + place.transit + place.received, place.total, "money was lost or made");
  }
}

test("a commit: lanes, states, the commit point and the money", () => {
  const model = build(shuffled(committed().events));
  checkInvariants(model);
  assert.deepEqual(model.lanes.map((lane) => `${lane.name} ${lane.role}`), ["Client client", "Mumbai coordinator", "Delhi participant"]);
  assert.deepEqual([model.outcome, model.isOver], ["committed", true]);
  const decision = at(model, "record", "committed");
  assert.deepEqual([model.commit.step, model.commit.isInferred], [decision, false]);
  assert.deepEqual(states(model, decision), { Client: "waits", Mumbai: "active", Delhi: "doubt" });
  assert.deepEqual(states(model, decision + 1), { Client: "waits", Mumbai: "committed", Delhi: "doubt" });
  assert.deepEqual(states(model, at(model, "record", "prepared") + 1).Delhi, "prepared", "not in doubt before its vote");
  assert.deepEqual(states(model, at(model, "received", "commit") + 1).Delhi, "committed", "in doubt no longer once it knows");
  assert.deepEqual(states(model, model.steps.length), { Client: "told", Mumbai: "committed", Delhi: "committed" });
  assert.deepEqual(holds(model.places[0]), ["50.00", "0.00", "0.00", "0.00"]);
  assert.deepEqual(holds(model.places[decision]), ["0.00", "50.00", "0.00", "0.00"]);
  assert.deepEqual(holds(model.places[decision + 1]), ["0.00", "0.00", "50.00", "0.00"]);
  assert.deepEqual(holds(model.places.at(-1)), ["0.00", "0.00", "0.00", "50.00"]);
  assert.deepEqual(model.steps.filter((step) => step.kind === "record").map((step) => [step.record, step.forced]),
    [["begun", true], ["prepared", true], ["committed", true], ["settled committed", true], ["ended", false]]);
});

test("an abort by a no: the hold is released, and there is no commit point", () => {
  const bank = new Bank();
  const [prepare] = bank.begin("Delhi");
  bank.receive("Delhi", prepare);
  bank.state("Delhi", "preparing");
  bank.add("Delhi", { note: { text: "refused by the ledger: there is no account 1002 at this branch" } });
  bank.state("Delhi", "unknown", "preparing");
  bank.receive("Mumbai", bank.send("Delhi", "Mumbai", "vote no"));
  bank.state("Mumbai", "aborting", "voting");
  bank.record("Mumbai", "aborted", false);
  bank.moved("Mumbai", "1001", "50.00", "released");
  bank.state("Mumbai", "unknown", "aborting");
  const model = build(shuffled(bank.events));
  checkInvariants(model);
  assert.deepEqual([model.outcome, model.isOver, model.commit], ["aborted", true, null]);
  assert.deepEqual(states(model, model.steps.length), { Client: "waits", Mumbai: "aborted", Delhi: "aborted" });
  assert.ok(!model.lanes[2].segments.some((segment) => segment.state === "doubt"), "who refused was never in doubt");
  assert.deepEqual(holds(model.places.at(-1)), ["50.00", "0.00", "0.00", "0.00"]);
});

test("a lost acknowledgement: the decision is sent again, and the money moves once", () => {
  const bank = new Bank();
  const [prepare] = bank.begin("Delhi");
  bank.receive("Mumbai", bank.prepare("Delhi", prepare));
  const [commit] = bank.decide("Delhi");
  bank.lose("Mumbai", bank.settle("Delhi", commit));
  bank.receive("Delhi", bank.send("Mumbai", "Delhi", "commit"));
  bank.end(bank.send("Delhi", "Mumbai", "acknowledged"));
  const model = build(shuffled(bank.events));
  checkInvariants(model);
  const [first, second] = model.messages.filter((message) => message.name === "acknowledged");
  const all = model.steps.length;
  assert.deepEqual([fateAt(first, all, all), fateAt(second, all, all), second.isAgain], ["lost", "received", true]);
  assert.equal(fateAt(first, first.lostStep, all), "flight", "lost only once it is");
  assert.equal(sentence(model.steps[first.lostStep], model.lanes), "The acknowledgement from Delhi to Mumbai is lost on its way.");
  assert.deepEqual(holds(model.places.at(-1)), ["0.00", "0.00", "0.00", "50.00"]);
});

test("a doubled message is one arrow that arrives twice", () => {
  const bank = committed();
  const commit = Object.values(bank.sent).find((message) => message.message === "commit");
  bank.receive("Delhi", commit.id);
  const model = build(shuffled(bank.events));
  checkInvariants(model);
  const message = model.messages.find((message) => message.name === "commit");
  assert.deepEqual(message.arrivals.map((arrival) => arrival.isAgain), [false, true]);
  assert.equal(model.messages.filter((message) => message.name === "commit").length, 1);
});

test("a crash after the vote: in doubt again at the start, and what was sent meanwhile is gone", () => {
  const bank = new Bank();
  const [prepare] = bank.begin("Delhi");
  const vote = bank.prepare("Delhi", prepare);
  bank.receive("Mumbai", vote);
  const [missed] = bank.decide("Delhi");
  bank.restart("Delhi", "prepared");
  bank.receive("Mumbai", bank.send("Delhi", "Mumbai", "inquiry"));
  bank.end(bank.settle("Delhi", bank.send("Mumbai", "Delhi", "commit")));
  const model = build(shuffled(bank.events));
  checkInvariants(model);
  const [crash, start] = [at(model, "crashed", "crashed"), at(model, "started", "started")];
  assert.ok(crash > at(model, "sent", "vote yes") && start > crash);
  assert.equal(states(model, crash + 1).Delhi, "down");
  assert.equal(states(model, start + 1).Delhi, "doubt");
  assert.deepEqual(model.steps[start].found, ["prepared"]);
  const all = model.steps.length;
  assert.equal(fateAt(model.messages.find((message) => message.id === missed), all, all), "gone");
  assert.equal(model.isOver, true);
});

test("many resends that nobody hears are a few arrows, and nothing moves while they go on", () => {
  const story = (resends, meanwhile = () => {}) => {
    const bank = new Bank();
    const [prepare] = bank.begin("Delhi");
    bank.receive("Mumbai", bank.prepare("Delhi", prepare));
    bank.decide("Delhi");
    const sent = [];
    for (let count = 0; count < resends; count += 1) {
      sent.push(bank.send("Mumbai", "Delhi", "commit"));
      meanwhile(bank, count);
    }
    return { bank, sent };
  };
  const commits = (model) => model.messages.filter((message) => message.name === "commit").map((message) => message.more);
  const drawn = (resends, waiting) => {
    const { bank, sent } = story(resends);
    const model = build(shuffled(bank.events), { waiting: waiting ? [{ id: sent[waiting], text: "commit" }] : [] });
    checkInvariants(model);
    return model;
  };
  assert.deepEqual([2, 3, 4, 40].map((resends) => commits(drawn(resends))), [[0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 37]]);
  assert.equal(drawn(3).steps.length, drawn(40).steps.length);
  const last = drawn(40).steps.at(-1);
  assert.equal(sentence(last, drawn(40).lanes), "Mumbai sends the commit to Delhi 38 times more: it has heard nothing since.");
  // One that waits on a stage, or has come after all, is not among those that nobody hears; nor are they one row then.
  assert.deepEqual(commits(drawn(9, 4)), [0, 0, 0, 1, 0, 0, 0, 1]);
  const { bank, sent } = story(9);
  bank.end(bank.settle("Delhi", sent[8]));
  const model = build(shuffled(bank.events));
  checkInvariants(model);
  assert.deepEqual(commits(model), [0, 0, 0, 5, 0]);
  assert.deepEqual([model.outcome, model.isOver], ["committed", true]);
  // What happens in between ends a row.
  assert.deepEqual(commits(build(story(8, (bank, count) => count === 3 && bank.add("Mumbai", { note: { text: "x" } })).bank.events)),
    [0, 0, 0, 1, 0, 0, 1]);
});

test("a coordinator that dies right after its decision: the commit point lies before the crash, and shows at the start", () => {
  const bank = new Bank();
  const [prepare] = bank.begin("Delhi");
  bank.receive("Mumbai", bank.prepare("Delhi", prepare));
  bank.state("Mumbai", "committing", "voting");
  bank.restart("Mumbai", "begun", "committed");
  bank.settle("Delhi", bank.send("Mumbai", "Delhi", "commit"));
  const model = build(shuffled(bank.events));
  checkInvariants(model);
  const start = at(model, "started", "started");
  assert.deepEqual(model.commit, { step: at(model, "crashed", "crashed"), lane: 1, shownFrom: start, isInferred: true });
  assert.deepEqual(states(model, start), { Client: "unsure", Mumbai: "down", Delhi: "doubt" });
  assert.deepEqual(holds(model.places[start]), ["0.00", "50.00", "0.00", "0.00"]);
  assert.deepEqual(holds(model.places[start + 1]), ["0.00", "0.00", "50.00", "0.00"]);
});

test("a branch that is down now shows as down, without an event to tell of it", () => {
  const bank = new Bank();
  const [prepare] = bank.begin("Delhi");
  bank.prepare("Delhi", prepare);
  const model = build(bank.events, { outages: { Delhi: [{ from: bank.now + 5, until: null }] } });
  checkInvariants(model);
  assert.equal(states(model, model.steps.length).Delhi, "down");
  assert.equal(model.steps.at(-1).kind, "crashed");
});

test("a crash stands where it happened, not where it was noticed", () => {
  const bank = new Bank();
  const [prepare] = bank.begin("Delhi");
  bank.receive("Mumbai", bank.prepare("Delhi", prepare));
  const last = bank.now;
  bank.decide("Delhi");
  const crashStep = (from) => at(build(bank.events, { outages: { Delhi: [{ from, until: null }] } }), "crashed", "crashed");
  const decision = at(build(bank.events), "record", "committed");
  assert.ok(crashStep(last + 200) <= decision, "noticed a moment later: right after its last event");
  assert.ok(crashStep(last + 60_000) > decision, "a minute later: by the time of day");
});

test("two participants: each in doubt until it hears, and the money arrives in parts", () => {
  const bank = new Bank();
  const [toDelhi, toPune] = bank.begin("Delhi", "Pune");
  const [delhi, pune] = [bank.prepare("Delhi", toDelhi, "30.00"), bank.prepare("Pune", toPune, "20.00")];
  bank.receive("Mumbai", pune);
  bank.receive("Mumbai", delhi);
  const [commitDelhi, commitPune] = bank.decide("Delhi", "Pune");
  const ackPune = bank.settle("Pune", commitPune, "20.00");
  bank.end(ackPune, bank.settle("Delhi", commitDelhi, "30.00"));
  const model = build(shuffled(bank.events));
  checkInvariants(model);
  assert.deepEqual(model.lanes.map((lane) => lane.name), ["Client", "Mumbai", "Delhi", "Pune"]);
  const paid = model.steps.findIndex((step) => step.record === "settled committed" && model.lanes[step.lane].name === "Pune");
  assert.deepEqual([states(model, paid + 1).Delhi, states(model, paid + 1).Pune], ["doubt", "committed"]);
  assert.deepEqual(holds(model.places[paid + 1]), ["0.00", "0.00", "30.00", "20.00"]);
});

test("a message that a stage holds back waits, and only at the end", () => {
  const bank = new Bank();
  const [prepare] = bank.begin("Delhi");
  const waiting = [{ number: 1, id: prepare, from: "Mumbai", to: "Delhi", message: "prepare", txid: TXID }];
  const model = build(bank.events, { waiting });
  const [message] = model.messages;
  assert.equal(fateAt(message, model.steps.length, model.steps.length), "waiting");
  assert.equal(fateAt(message, message.sentStep, model.steps.length), "none");
});

test("an address and a name of one branch are one lane", () => {
  const bank = new Bank();
  const [prepare] = bank.begin("127.0.0.1:9101");
  bank.prepare("Delhi", prepare);
  assert.deepEqual(build(bank.events).lanes.map((lane) => lane.name), ["Client", "Mumbai", "Delhi"]);
});

test("causes come first, whatever the clocks on the walls say", () => {
  const event = (branch, number, at_unix_ms, clock) => ({ branch, number, at_unix_ms, txid: TXID, clock, kind: { note: { text: "" } } });
  const events = [event("D", 1, 5, { M: 2, D: 1 }), event("M", 2, 1000, { M: 2 }), event("M", 1, 999, { M: 1 }), event("M", 1, 999, { M: 1 })];
  assert.deepEqual(inOrder(events).map((event) => `${event.branch}${event.number}`), ["M1", "M2", "D1"]);
  const contradicting = [event("M", 1, 2, { M: 1, D: 9 }), event("D", 1, 1, { M: 9, D: 1 })];
  assert.equal(inOrder(contradicting).length, 2, "ends all the same");
});

test("the old way: what was taken vanishes with the memory of who was to pay it in", () => {
  const event = (branch, number, kind, clock) => ({ branch, number, at_unix_ms: number, txid: "OldWay-1", clock, kind });
  const prepare = { message: "prepare", text: "prepare", id: "Old-Mumbai:1" };
  const model = build([
    event("Old-Mumbai", 1, { sent: { to: "Old-Delhi", ...prepare } }, { "Old-Mumbai": 1 }),
    event("Old-Delhi", 2, { received: { from: "Old-Mumbai", ...prepare } }, { "Old-Mumbai": 1, "Old-Delhi": 2 }),
    event("Old-Delhi", 3, { note: { text: "prepared in memory alone" } }, { "Old-Mumbai": 1, "Old-Delhi": 3 }),
    event("Old-Mumbai", 4, { recorded: { record: "new balance", forced: false } }, { "Old-Mumbai": 4 }),
    event("Old-Mumbai", 5, { moved: { account: "1001", amount: "50.00", what: "debited" } }, { "Old-Mumbai": 5 }),
    event("Old-Delhi", 6, { note: { text: "crashes" } }, { "Old-Delhi": 6 }),
    event("Old-Delhi", 7, { note: { text: "is started again: nothing is prepared" } }, { "Old-Delhi": 7 }),
  ]);
  checkInvariants(model);
  const start = at(model, "started", "started");
  assert.deepEqual([states(model, start - 1)["Old-Delhi"], states(model, start)["Old-Delhi"], states(model, start + 1)["Old-Delhi"]],
    ["memory", "down", "forgot"]);
  assert.deepEqual([rupees(model.places[start].transit), rupees(model.places[start].vanished)], ["50.00", "0.00"]);
  assert.deepEqual([rupees(model.places[start + 1].transit), rupees(model.places[start + 1].vanished)], ["0.00", "50.00"]);
  assert.deepEqual([model.outcome, model.commit], ["lost", null]);
});

test("an amount may be typed as it is printed, and wrong grouping is refused", () => {
  for (const [typed, amount] of [["1250.5", "1250.50"], ["1,250.50", "1250.50"], ["1,00,000", "100000.00"], ["100,000", "100000.00"], ["Rs 12,34,567.89", "1234567.89"]]) {
    assert.deepEqual(readTyped(typed), { amount });
  }
  for (const typed of ["1,50", "1,,000", "1,00,00", "1234,567", ",100", "100,", "1,0 0,000"]) {
    assert.ok(readTyped(typed).problem.startsWith("The commas"), typed);
  }
});
