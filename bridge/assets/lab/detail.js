// What is pointed at, in full: the message's text, its way, its ids, the vector clock, the time.

import { clear, h } from "../dom.js";
import { bodyOf, kindOf } from "./order.js";
import { movements, sentence, STATE_MEANINGS, STATES } from "./words.js";

export class Detail {
  constructor() {
    this.body = h("div", { "data-test": "detail" });
    this.node = h("section", { class: "lab-panel lab-detail", "aria-labelledby": "lab-detail-title" },
      h("h2", { id: "lab-detail-title" }, "In full"), this.body);
  }

  /** Shows a step, or a message, by the key of its mark. */
  show(model, key, position) {
    clear(this.body);
    const message = key?.startsWith("m") ? model.messages.find((message) => message.key === key) : null;
    const step = message ? null : model?.steps[key ? Number(key.slice(1)) : position - 1];
    if (message) this.body.append(...messageRows(message, model, position));
    else if (step?.message && !key) this.body.append(...messageRows(step.message, model, position));
    else if (step) this.body.append(...stepRows(step, model));
    else this.body.append(h("p", { class: "soft" }, "Point at an arrow or a mark, or move to it with the keyboard."));
  }
}

function rows(pairs) {
  return h("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function messageRows(message, model, position) {
  const [from, to] = [model.lanes[message.from].name, model.lanes[message.to].name];
  const sent = message.sentStep !== null ? model.steps[message.sentStep] : null;
  const arrivals = message.arrivals.filter((arrival) => arrival.step < position).map((arrival) => model.steps[arrival.step]);
  return [h("p", {}, h("strong", {}, `${message.name}: ${from} → ${to}`)), rows([
    ["Text", h("span", { class: "mono" }, message.fullText)],
    ["Id", h("span", { class: "mono" }, message.id)],
    ["Sent", sent ? when(sent.event) : "unseen: its sender's events are gone"],
    ["Before it", message.more > 0 ? `${message.more} more that did not arrive either` : null],
    ["Clock when sent", sent ? clock(sent.event) : null],
    ...arrivals.flatMap((step) => [[step.isAgain ? "Received again" : "Received", when(step.event)], ["Clock then", clock(step.event)]]),
    ["Lost", message.lostStep !== null && message.lostStep < position ? when(model.steps[message.lostStep].event) : null],
    ["Waits", message.waiting.length > 0 ? `at ${to}${message.waiting.some((one) => one.due_unix_ms) ? ", to be delivered by itself" : ", until it is delivered"}` : null],
  ])];
}

function stepRows(step, model) {
  const states = step.states.map((change) => `${change.role}: ${change.from} → ${change.to}`);
  const state = model.lanes[step.lane].segments.find((segment) => segment.from === step.index)?.state;
  return [h("p", {}, sentence(step, model.lanes)), rows([
    ["Where", model.lanes[step.lane].name],
    ["When", when(step.event)],
    ["Record", step.kind === "record" ? `${step.record}, ${step.forced ? "forced to disk" : "not forced"}` : null],
    ["Money", movements(step).join("; ")],
    ["Machine", states.join("; ")],
    ["State", state ? [STATES[state], STATE_MEANINGS[state]].filter(Boolean).join(": ") : null],
    ["Clock", step.event.isInferred ? null : clock(step.event)],
    ["Events", step.events.filter((event) => !event.isInferred).map((event) => `${event.branch}:${event.number} ${told(event)}`).join(", ")],
  ])];
}

function told(event) {
  const kind = kindOf(event);
  return kind === "note" ? `note “${bodyOf(event).text}”` : kind;
}

function when(event) {
  const at = new Date(Number(event.at_unix_ms));
  const two = (number) => String(number).padStart(2, "0");
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  return event.isInferred ? `about ${time}, as seen by others` : time;
}

function clock(event) {
  const entries = Object.entries(event.clock ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return h("span", { class: "mono" }, `{${entries.map(([name, count]) => `${name}: ${count}`).join(", ")}}`);
}
