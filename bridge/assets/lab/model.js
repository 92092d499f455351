// A transfer's events as a diagram: lanes, steps, messages, the parties' states, the commit point, the money. Pure.
//
// Keeps true: a step never stands above its cause; each message is one entry, however often it arrives, but for many
// resends in a row that nobody hears, of which the last stands for the others; what the
// model says of a step depends on the steps up to it alone, so that a player can stop anywhere.
// Leaves out: where anything is drawn (diagram.js) and how it is said (words.js).

import { bodyOf, crashes, foldResends, foundOnDisk, inOrder, kindOf } from "./order.js";
import { accounts, paise, timeline } from "./money.js";

/** The client's lane, which is no branch. */
export const CLIENT = "Client";

/** States that follow the record they stand behind, and those that come before the record that makes them true. */
const AFTER_RECEIPT = /^(preparing|settling|confirming|mixing)/;
const BEFORE_RECORD = /^(beginning|committing|aborting|ending)/;
/** Notices of the machines that say what the records say already. */
const SAID_TWICE = /^(decided|delivered|confirmed|forgotten) /;
/** Branches of the old way's scratch bank, which tell of themselves in notes. */
const OLD = /^Old-/;
const OLD_NOTES = [[/^crashes/, "crashed"], [/^is started again/, "started"], [/^prepared in memory/, "memory"]];

/**
 * The model of one transfer.
 *
 * @param events its events, in any order, from any number of branches
 * @param options `waiting`: what the stages hold back (all transfers'); `outages`: see `crashes`;
 *   `aliases`: `{address: name}` for branches that events call by address; `isOldWay`: no rules to rely on; `isForeign`:
 *   events of another program, of whose texts nothing is known
 */
export function build(events, options = {}) {
  const { waiting = [], outages = {}, aliases = {} } = options;
  const isForeign = options.isForeign === true;
  const all = inOrder(isForeign ? events : [...events, ...crashes(events, outages)]);
  const { line, more } = isForeign ? { line: all, more: new Map() } : foldResends(all, waiting);
  const builder = new Builder(line, more, aliases, isForeign);
  line.forEach((event) => builder.add(event));
  return builder.finish(waiting, options.isOldWay ?? events.some((event) => OLD.test(event.branch)));
}

class Builder {
  constructor(line, more, aliases, isForeign) {
    this.line = line;
    this.isForeign = isForeign;
    this.more = more;
    this.txid = line.find((event) => event.txid)?.txid ?? null;
    this.aliases = { ...aliases, ...aliasesByMessages(line) };
    this.lanes = [];
    this.steps = [];
    this.messages = [];
    this.byId = new Map();
    this.current = new Map();
    this.pending = new Map();
    this.makeLanes();
  }

  makeLanes() {
    const has = (kind) => this.line.some((event) => kindOf(event) === kind);
    const coordinator = coordinatorOf(this.line, this.txid);
    if (has("asked") || has("answered")) this.addLane(CLIENT, "client");
    if (coordinator) this.addLane(this.name(coordinator), "coordinator");
    for (const event of this.line) {
      this.addLane(event.branch, "participant");
      const { to, from } = bodyOf(event);
      if (["sent", "received", "lost"].includes(kindOf(event))) this.addLane(this.name(to ?? from), "participant");
    }
  }

  name(called) {
    return this.aliases[called] ?? called;
  }

  addLane(name, role) {
    if (this.lanes.some((lane) => lane.name === name)) return;
    this.lanes.push({ index: this.lanes.length, name, role, segments: [], outages: [] });
  }

  lane(called) {
    return this.lanes.findIndex((lane) => lane.name === this.name(called));
  }

  add(event) {
    const kind = kindOf(event);
    const body = bodyOf(event);
    const lane = this.lane(event.branch);
    switch (kind) {
      case "state": return this.addState(event, lane, body);
      case "moved": return this.attach(event, lane, this.canTake(lane, ["record", "started"]));
      case "note": return this.addNote(event, lane, body.text);
      case "recorded": return this.step(event, lane, "record", { record: body.record, forced: body.forced });
      case "sent": return this.addSent(event, lane, body);
      case "received": return this.addReceived(event, lane, body);
      case "lost": return this.addLost(event, lane, body);
      case "asked": case "answered": return this.step(event, lane, kind, { text: body.text });
      case "crashed":
        // What was on its way to the disk did not get there.
        this.pending.delete(lane);
        return this.step(event, lane, kind, {});
      case "started": return this.step(event, lane, kind, { found: [] });
      default: return this.step(event, lane, "note", { text: kind });
    }
  }

  canTake(lane, kinds) {
    return kinds.includes(this.current.get(lane)?.kind);
  }

  addState(event, lane, { to }) {
    const after = AFTER_RECEIPT.test(to) ? ["received", "started"] : ["record", "refused", "started"];
    this.attach(event, lane, !BEFORE_RECORD.test(to) && this.canTake(lane, after));
  }

  addNote(event, lane, text) {
    if (this.isForeign) return this.step(event, lane, "note", { text });
    const found = foundOnDisk(event);
    if (found !== null) {
      if (!this.canTake(lane, ["started"])) this.step(event, lane, "started", { found: [] });
      this.current.get(lane).found.push(found);
      return this.attach(event, lane, true);
    }
    const [, told] = OLD.test(event.branch) ? OLD_NOTES.find(([pattern]) => pattern.test(text)) ?? [] : [];
    if (told) return this.step(event, lane, told, told === "started" ? { found: [], text } : { text });
    if (SAID_TWICE.test(text)) return this.attach(event, lane, this.current.has(lane));
    const kind = text.startsWith("refused by the ledger: ") ? "refused" : "note";
    return this.step(event, lane, kind, { text: text.replace("refused by the ledger: ", "") });
  }

  /** Puts an event to the lane's last step, or keeps it for the next one. */
  attach(event, lane, isBack) {
    if (isBack) this.take(this.current.get(lane), event);
    else this.pending.set(lane, [...(this.pending.get(lane) ?? []), event]);
  }

  take(step, event) {
    if (!step.events.includes(event)) step.events.push(event);
    if (kindOf(event) === "moved") {
      const { account, amount, what } = bodyOf(event);
      step.money.push({ account: String(account), amount: paise(amount), what });
    }
    if (kindOf(event) === "state") step.states.push(bodyOf(event));
  }

  step(event, lane, kind, more) {
    const step = {
      index: this.steps.length, kind, lane, event, at_unix_ms: event.at_unix_ms, events: [], money: [], states: [], ...more,
    };
    this.steps.push(step);
    this.current.set(lane, step);
    const held = this.pending.get(lane) ?? [];
    this.pending.delete(lane);
    for (const earlier of [...held, event]) this.take(step, earlier);
    return step;
  }

  message(body, from, to, id) {
    const text = withoutTxid(body.text, this.txid);
    const message = {
      key: `m${this.messages.length}`, id, name: body.message, text, fullText: body.text, from, to,
      sentStep: null, arrivals: [], lostStep: null, goneStep: null, waiting: [], isAgain: false, more: 0,
    };
    this.messages.push(message);
    if (id) this.byId.set(id, message);
    return message;
  }

  addSent(event, lane, body) {
    const to = this.lane(body.to);
    // What another program says again is another message.
    const isAgain = !this.isForeign && this.messages.some((other) => other.name === body.message && other.from === lane && other.to === to);
    const message = this.message(body, lane, to, body.id);
    Object.assign(message, { isAgain, more: this.more.get(event) ?? 0, sentStep: this.steps.length });
    this.step(event, lane, "sent", { message, isReply: this.canTake(lane, ["received"]) });
  }

  /** The message of a receipt; one that nobody saw leave is made here. */
  arriving(lane, body) {
    return this.byId.get(body.id) ?? this.message(body, this.lane(body.from), lane, body.id);
  }

  addReceived(event, lane, body) {
    const message = this.arriving(lane, body);
    const isAgain = message.arrivals.length > 0;
    message.arrivals.push({ step: this.steps.length, isAgain });
    this.step(event, lane, "received", { message, isAgain });
  }

  addLost(event, lane, body) {
    const message = this.arriving(lane, body);
    message.lostStep = this.steps.length;
    this.step(event, lane, "lost", { message });
  }

  finish(waiting, isOldWay) {
    for (const one of waiting) this.byId.get(one.id)?.waiting.push(one);
    const commit = this.commitPoint();
    for (const lane of this.lanes) {
      lane.outages = outagesOf(this.steps, lane.index);
      lane.segments = lane.role === "client" ? clientSegments(this.steps, this.lanes)
        : branchSegments(this.steps, lane, commit);
    }
    const { outcome, isOver, overStep } = ending(this.steps, this.lanes, commit, isOldWay);
    for (const message of this.messages) message.goneStep = goneStep(message, this.messages, this.lanes, overStep);
    const isImplied = (index) => commit?.isInferred === true && commit.shownFrom === index;
    const places = timeline(this.steps, isImplied, (index) => isOldWay && overStep !== null && index >= overStep);
    return {
      txid: this.txid, lanes: this.lanes, steps: this.steps, messages: this.messages, commit, outcome, isOver, isOldWay,
      places, accounts: accounts(this.steps, this.lanes), startedAt: this.steps[0]?.at_unix_ms ?? null,
    };
  }

  /** The coordinator's forced record of its decision; or, when nobody saw it written, the crash before it was found. */
  commitPoint() {
    const isCommitted = (name) => /^(committed|decided)\b/.test(name);
    const seen = this.steps.find((step) => step.kind === "record" && step.forced && isCommitted(step.record));
    if (seen) return { step: seen.index, lane: seen.lane, shownFrom: seen.index, isInferred: false };
    const found = this.steps.find((step) => step.kind === "started" && step.found.some(isCommitted));
    if (!found) return null;
    const crash = this.steps.findLast((step) => step.kind === "crashed" && step.lane === found.lane && step.index < found.index);
    return { step: crash?.index ?? found.index, lane: found.lane, shownFrom: found.index, isInferred: true };
  }
}

/** Names for addresses, by messages that one side calls by an address and the other by its name. */
function aliasesByMessages(line) {
  const senders = new Map();
  const aliases = {};
  for (const event of line) {
    const { id, to } = bodyOf(event);
    if (kindOf(event) === "sent") senders.set(id, { to, branch: event.branch });
  }
  for (const event of line.filter((event) => ["received", "lost"].includes(kindOf(event)))) {
    const { id, from } = bodyOf(event);
    const sent = senders.get(id);
    if (sent && sent.to !== event.branch) aliases[sent.to] = event.branch;
    const sender = sent?.branch ?? id?.split(":")[0];
    if (sender && from !== sender && from.includes(":")) aliases[from] = sender;
  }
  return aliases;
}

function coordinatorOf(line, txid) {
  const asks = line.find((event) => kindOf(event) === "state" && bodyOf(event).role === "coordinator")
    ?? line.find((event) => kindOf(event) === "sent" && bodyOf(event).message === "prepare")
    ?? line.find((event) => kindOf(event) === "asked");
  if (asks) return asks.branch;
  const told = line.find((event) => kindOf(event) === "received" && bodyOf(event).message === "prepare");
  if (told) return bodyOf(told).from;
  const prefix = txid?.slice(0, txid.lastIndexOf("-"));
  return line.find((event) => event.branch === prefix)?.branch ?? null;
}

/** The text without the id, which stands in the title. */
export function withoutTxid(text, txid) {
  return text.split(" ").filter((word) => word !== txid).join(" ");
}

function outagesOf(steps, lane) {
  const outages = [];
  for (const step of steps.filter((step) => step.lane === lane)) {
    const open = outages.at(-1)?.to === null ? outages.at(-1) : null;
    if (step.kind === "crashed" && !open) outages.push({ from: step.index, to: null });
    else if (open && step.kind !== "crashed") open.to = step.index;
  }
  return outages;
}

/** The states of a lane as `{state, from, to}`, `from` the step that brings it, `to` the one that ends it or null. */
class Segments {
  list = [];
  add(state, from) {
    const last = this.list.at(-1);
    if (last?.state === state) return;
    if (last) last.to = from;
    if (last?.from === from) this.list.pop();
    this.list.push({ state, from, to: null });
  }
  get state() {
    return this.list.at(-1)?.state ?? "idle";
  }
}

function clientSegments(steps, lanes) {
  const segments = new Segments();
  for (const step of steps) {
    if (step.kind === "asked") segments.add("waits", step.index);
    if (step.kind === "answered") segments.add("told", step.index);
    if (step.kind === "crashed" && lanes[step.lane].role === "coordinator" && segments.state === "waits") segments.add("unsure", step.index);
  }
  return segments.list;
}

function branchSegments(steps, lane, commit) {
  const segments = new Segments();
  for (const step of steps.filter((step) => step.lane === lane.index)) {
    if (step.kind === "crashed") segments.add("down", step.index);
    if (step.kind === "started") segments.add(stateFound(step.found), step.index);
    for (const change of step.states) segments.add(partyState(change, segments.state), step.index);
    if (OLD.test(lane.name)) oldState(step, segments);
    if (step.kind === "sent" && step.message.name === "vote yes" && segments.state === "prepared") {
      segments.add("doubt", step.index);
    }
    if (commit && !commit.isInferred && commit.step === step.index) segments.add("committed", step.index);
  }
  return segments.list;
}

/** The old way has no states to tell of: they show in what a branch does. */
function oldState(step, segments) {
  const isAsked = step.kind === "asked" || (step.kind === "received" && step.message.name === "prepare");
  if (isAsked) segments.add("active", step.index);
  if (step.kind === "memory") segments.add("memory", step.index);
  if (step.money.some((money) => ["debited", "credited"].includes(money.what))) segments.add("committed", step.index);
}

/** What a party is to the class, by the state of its machine. */
function partyState({ role, to }, before) {
  if (/^(mixing|mixed)/.test(to)) return "mixed";
  if (/^(settling|settled|confirming)/.test(to)) return to.includes("committed") ? "committed" : "aborted";
  switch (to) {
    case "beginning": case "voting": case "committing": case "preparing": return "active";
    case "prepared": return "prepared";
    case "delivering": case "ending": case "ended": case "committed": return "committed";
    case "aborting": case "aborted": return "aborted";
    // Forgotten: whoever was not committed by then is out of it.
    case "unknown": return before === "committed" || before === "mixed" ? before : role === "participant" && before === "idle" ? "idle" : "aborted";
    default: return /doubt/.test(to) ? "doubt" : before === "idle" ? "active" : before;
  }
}

/** The state in which a branch is after a start, by the last word its disk has for the transfer. */
function stateFound(found) {
  const has = (pattern) => found.some((record) => pattern.test(record));
  if (has(/^mixed/)) return "mixed";
  if (has(/committed|^ended|^decided/)) return "committed";
  if (has(/aborted/)) return "aborted";
  if (has(/^prepared/)) return "doubt";
  return has(/^begun/) ? "active" : "forgot";
}

const FINAL = ["committed", "aborted", "mixed", "idle"];

/** How the transfer stands: its outcome, and whether every party knows it. */
function ending(steps, lanes, commit, isOldWay) {
  const branches = lanes.filter((lane) => lane.role !== "client");
  const last = (lane) => lane.segments.at(-1)?.state ?? "idle";
  const coordinator = branches.find((lane) => lane.role === "coordinator");
  const isAborted = steps.some((step) => step.kind === "record" && step.record.startsWith("aborted"))
    || (coordinator !== undefined && last(coordinator) === "aborted");
  const outcome = commit ? "committed" : isAborted ? "aborted" : "undecided";
  const ended = steps.find((step) => step.kind === "record" && step.record === "ended");
  const isOver = steps.length > 0 && outcome !== "undecided" && branches.every((lane) => FINAL.includes(last(lane)))
    && (outcome === "aborted" || ended !== undefined);
  if (isOldWay) return oldEnding(steps);
  return { outcome, isOver, overStep: isOver ? steps.length - 1 : null };
}

/** The old way has no outcome but what became of the money; `overStep` is where its second half is lost for good. */
function oldEnding(steps) {
  const has = (what) => steps.some((step) => step.money.some((money) => money.what === what));
  const lost = steps.find((step) => step.kind === "started");
  const answered = steps.find((step) => step.kind === "answered");
  const outcome = has("debited") && has("credited") ? "complete" : has("debited") && lost ? "lost" : "undecided";
  return { outcome, isOver: answered !== undefined || lost !== undefined, overStep: lost?.index ?? null };
}

/** The step from which on it is known that a message will not arrive; null while it still may. */
function goneStep(message, messages, lanes, overStep) {
  if (message.sentStep === null || message.arrivals.length > 0 || message.lostStep !== null) return null;
  if (message.waiting.length > 0) return null;
  const outage = lanes[message.to].outages.find((out) => out.to === null || out.to > message.sentStep);
  const next = messages.find((other) => other.sentStep !== null && other.sentStep > message.sentStep
    && other.from === message.from && other.to === message.to && other.name === message.name);
  const candidates = [next?.sentStep, overStep].filter((step) => step !== undefined && step !== null);
  if (outage) candidates.push(Math.max(outage.from, message.sentStep));
  return candidates.length > 0 ? Math.min(...candidates) : null;
}

/** The state of a lane when `position` steps have happened. */
export function stateAt(lane, position) {
  return lane.segments.findLast((segment) => segment.from < position)?.state ?? "idle";
}

/** What is known of a message when `position` steps have happened: none, flight, waiting, received, lost or gone. */
export function fateAt(message, position, length) {
  const first = message.sentStep ?? message.arrivals[0]?.step ?? message.lostStep;
  if (first >= position) return "none";
  if (message.waiting.length > 0 && position >= length) return "waiting";
  if (message.arrivals.some((arrival) => arrival.step < position)) return "received";
  if (message.lostStep !== null && message.lostStep < position) return "lost";
  return message.goneStep !== null && message.goneStep < position ? "gone" : "flight";
}
