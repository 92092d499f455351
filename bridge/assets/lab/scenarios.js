// The lessons: a list, and the one that runs with its text, its question before its answer, and one big button.

import { clear, h, icon } from "../dom.js";

/** The seed of whoever names none (teaching/src/lessons/order.rs). */
const USUAL_SEED = 1;

export class Scenarios {
  /** `onState(state)` whenever the running lesson moves; `onAddress()` when the address should name another. */
  constructor(app, { onState, onAddress }) {
    Object.assign(this, { app, onState, onAddress, list: [], state: null, name: null, wanted: null, isBusy: false });
    this.running = h("div", { class: "lab-lesson", "data-test": "scenario" });
    this.choices = h("ul", { class: "lab-lessons" });
    this.chooser = h("details", { "data-test": "scenario-list" }, h("summary", {}, "Lessons"), this.choices);
    this.node = h("section", { class: "lab-panel", "aria-label": "Lessons", hidden: true }, this.running, this.chooser);
  }

  async load(named) {
    this.want(named);
    if (!this.app.session?.teaching) return;
    try {
      [this.list, this.state] = await Promise.all([this.app.api.get("/scenarios"), this.app.api.get("/scenarios/current").catch(() => null)]);
    } catch {
      this.list = [];
    }
    this.name = this.state?.name ?? (this.list.some((one) => one.name === named) ? named : null);
    this.draw();
    if (named && !this.state) this.chooser.open = true;
  }

  /** The address names another lesson: it is offered, not started, as starting it acts on the bank. */
  async point(named) {
    this.want(named);
    if (!named || named === this.name || this.isRunning()) return;
    this.name = this.list.some((one) => one.name === named) ? named : null;
    this.chooser.open = true;
    this.draw();
  }

  isRunning() {
    return this.state !== null && this.state !== undefined && !this.state.finished;
  }

  /** Keeps what the address names: it is written anew before the lesson is started. */
  want(named) {
    if (named) this.wanted = { name: named, seed: seedInAddress() };
  }

  /** What an address needs to repeat the order of messages; null where it is the usual one. */
  seed() {
    const seed = this.state?.seed ?? this.wantedSeed(this.name);
    return seed === null || seed === USUAL_SEED ? null : seed;
  }

  wantedSeed(name) {
    return this.wanted?.name === name ? this.wanted.seed : null;
  }

  /** Whether the class is to answer first: what would tell must wait. */
  isAsking() {
    return this.isRunning() && Boolean(this.state.question) && !this.state.answer;
  }

  take(state) {
    const wasShown = this.isRunning();
    this.state = state?.name ? state : null;
    if (this.state) this.name = this.state.name;
    else if (wasShown) this.name = null;
    this.draw();
    this.onState(this.state);
    this.onAddress();
  }

  async ask(path, params = {}) {
    if (this.isBusy) return;
    this.isBusy = true;
    this.draw();
    try {
      const state = await this.app.api.post(path, params);
      this.isBusy = false;
      this.take(state);
    } catch (error) {
      this.isBusy = false;
      this.app.toast(error.message, "bad");
      this.draw();
    }
  }

  draw() {
    this.node.hidden = this.list.length === 0 && !this.state;
    this.running.hidden = !this.state;
    const hadFocus = this.running.contains(document.activeElement);
    clear(this.running).append(...(this.state ? this.lesson(this.state).filter(Boolean) : []));
    if (hadFocus) this.running.querySelector(".lab-next")?.focus();
    clear(this.choices).append(...this.list.map((one) => this.choice(one)));
  }

  lesson(state) {
    const isAsking = this.isAsking();
    const isLast = state.position >= state.of && !isAsking;
    const label = state.finished ? "Finished" : isAsking ? "Reveal the answer" : isLast ? "Finish" : "Next";
    return [
      h("div", { class: "lab-lesson-head" }, h("h2", { "data-test": "scenario-title" }, state.title),
        h("span", { class: "soft", "data-test": "scenario-position" }, `${state.position} / ${state.of}`)),
      h("div", { class: "lab-say", role: "status", "data-test": "scenario-say" }, prose(state.say)),
      state.question && h("p", { class: "lab-question", "data-test": "scenario-question" }, state.question),
      state.answer && h("div", { class: "lab-answer", role: "status", "data-test": "scenario-answer" }, prose(state.answer)),
      state.error && h("p", { class: "notice bad", role: "alert", "data-test": "scenario-error" }, state.error),
      h("div", { class: "row" },
        !state.finished && h("button", { class: "button primary lab-next", type: "button", disabled: this.isBusy, "data-test": "scenario-next",
          onclick: () => void this.ask("/scenarios/next") }, this.isBusy ? "…" : label, icon("forward")),
        h("button", { class: "button", type: "button", "data-test": "scenario-stop", disabled: this.isBusy,
          onclick: () => (state.finished ? this.take(null) : void this.ask("/scenarios/stop")) }, state.finished ? "Close" : "Stop the lesson")),
    ];
  }

  choice(one) {
    const isNamed = one.name === this.name && !this.state;
    return h("li", { class: isNamed ? "is-named" : null }, h("div", {}, h("strong", {}, one.title), h("span", { class: "soft" }, one.teaches)),
      h("button", { class: `button small${isNamed ? " primary" : ""}`, type: "button", disabled: this.isBusy, "data-test": `scenario-start-${one.name}`,
        "aria-label": `Start the lesson ${one.title}`, onclick: () => void this.begin(one.name) }, icon("play"), "Start"));
  }

  async begin(name) {
    this.chooser.open = false;
    const seed = this.wantedSeed(name);
    await this.ask(`/scenarios/${encodeURIComponent(name)}`, seed === null ? {} : { seed });
    if (!this.isRunning()) return;
    // The list that was clicked on is below the lesson; its beginning may be a page up.
    this.running.querySelector(".lab-next")?.focus({ preventScroll: true });
    this.running.querySelector(".lab-lesson-head").scrollIntoView({ block: "nearest" });
  }
}

function seedInAddress() {
  const seed = new URLSearchParams(location.hash.split("?")[1] ?? "").get("seed");
  return seed !== null && /^\d{1,6}$/.test(seed) ? Number(seed) : null;
}

/** Text as paragraphs; one whose lines are aligned by blanks is a table, and keeps them. */
export function prose(text) {
  return text.split(/\n{2,}/).map((part) => (/\S {2,}\S/.test(part) ? h("pre", { tabindex: "0" }, part) : h("p", {}, part)));
}
