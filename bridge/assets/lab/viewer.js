// A run that is kept: played step by step from a file, without any branch. The same diagram, money, logs and words as in
// the lab; beside them a lesson's texts, or what the simulator's judge has found.
//
// Owns which transfer and which beat is shown. Keeps true: while a question of a lesson stands, the picture stops where it
// stopped for the class. Leaves out: where a run comes from (run_file.js, open_file.js, offline.js).

import { clear, h, icon } from "../dom.js";
import * as money from "../money.js";
import { isForPage } from "../keys.js";
import { Detail } from "./detail.js";
import { Diagram } from "./diagram.js";
import { Logs } from "./logs.js";
import { build } from "./model.js";
import { MoneyView } from "./money_view.js";
import { Player } from "./player.js";
import { prose } from "./scenarios.js";
import { askedWords, outcomeWords, sentence } from "./words.js";

const KINDS = { committed: "good", aborted: "bad", complete: "good", lost: "bad" };

export class Viewer {
  /** Shows `run` in `root`; `close` is asked for by a button, where there is one. */
  constructor(root, run, { close = null } = {}) {
    Object.assign(this, { root, run, beat: 0, isAnswered: false, txid: null, pointed: null, chosen: null });
    this.player = new Player((position, fresh) => this.moved(position, fresh));
    this.player.live.hidden = true;
    this.money = new MoneyView(money);
    this.detail = new Detail();
    this.logs = new Logs();
    this.build(close);
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
    if (run.lesson !== null) this.showBeat();
    else this.select(run.shown ?? run.transfers[0]?.txid ?? null);
  }

  build(close) {
    const { run } = this;
    this.title = h("h1", { tabindex: "-1" }, run.lesson?.title ?? run.title ?? "A transfer");
    this.picker = h("select", { "aria-label": "Transfer", "data-test": "run-transfers", onchange: () => this.select(this.picker.value) },
      run.transfers.map((one) => h("option", { value: one.txid }, labelOf(one))));
    this.count = h("span", { "data-test": "step-count" });
    this.words = h("p", { role: "status", "data-test": "narration" });
    this.outcome = h("span", { class: "lab-outcome badge", "data-test": "outcome", hidden: true });
    this.canvas = h("div");
    this.text = h("ol", { "data-test": "steps" });
    this.lesson = h("section", { class: "lab-panel lab-lesson", "aria-label": "The lesson", "data-test": "run-lesson", hidden: run.lesson === null });
    const closing = close === null ? null : h("button", { class: "button", type: "button", "data-test": "run-close", onclick: close }, icon("close"), "Close this file");
    clear(this.root).append(
      h("div", { class: "lab-top" }, this.title, h("div", { class: "lab-picker", hidden: run.transfers.length < 2 }, this.picker), closing),
      ...[run.verdict && h("p", { class: "notice bad run-verdict", "data-test": "run-verdict" }, h("strong", {}, "What the judge saw: "), run.verdict),
        run.about && h("p", { class: "notice run-about", "data-test": "run-about" }, run.about)].filter(Boolean),
      h("div", { class: "lab-main" },
        h("div", { class: "lab-left" },
          h("section", { class: "lab-stage", "aria-label": "The transfer" },
            h("div", { class: "lab-narration" }, h("span", { class: "count" }, this.count), this.words, this.outcome), this.canvas, this.player.node),
          this.logs.node),
        h("div", { class: "lab-side" }, this.lesson, h("div", { hidden: run.isForeign }, this.money.node), this.detail.node)),
      h("details", { class: "lab-panel lab-text" }, h("summary", {}, "The steps as text"), this.text),
      ...(run.log.length > 0 ? [logOf(run.log)] : []));
    this.diagram = new Diagram(this.canvas, { point: (key) => this.point(key), choose: (item) => this.choose(item), waitingButtons: () => null });
  }

  unmount() {
    document.removeEventListener("keydown", this.onKey);
    this.player.unmount();
    this.diagram.unmount();
  }

  /** Shows a transfer from its last step, or from where a class saw it; `seen` is what it had seen, by branch. */
  select(txid, seen = null) {
    const transfer = this.run.transfers.find((one) => one.txid === txid);
    Object.assign(this, { txid, chosen: null, pointed: null });
    this.picker.value = txid ?? "";
    const events = (transfer?.events ?? []).filter((event) => seen === null || event.number <= (seen[event.branch] ?? 0));
    this.model = build(events, { outages: this.run.outages, isForeign: this.run.isForeign });
    this.player.open(this.model.steps.length, this.model.steps.length, false);
  }

  moved(position, fresh) {
    const { model } = this;
    const step = model.steps[position - 1];
    this.diagram.show(model, position, fresh);
    this.count.textContent = `${position} / ${model.steps.length}`;
    this.words.textContent = step ? sentence(step, model.lanes) : model.steps.length === 0 ? "Nothing has happened yet." : "Before the first step.";
    const isTold = position >= model.steps.length && model.steps.length > 0 && !this.run.isForeign && !this.isAsking();
    this.outcome.hidden = !isTold;
    if (isTold) {
      const words = outcomeWords(model);
      this.outcome.textContent = words;
      this.outcome.className = `lab-outcome badge ${words.includes("doubt") ? "warn" : KINDS[model.outcome] ?? "info"}`;
    }
    this.money.show(model, position, this.isAsking());
    this.logs.show(model, position);
    this.showDetail();
    clear(this.text).append(...model.steps.slice(0, position).map((one) => h("li", {}, h("button", { type: "button",
      "aria-current": one.index === position - 1 ? "step" : null, onclick: () => this.player.go(one.index + 1) }, sentence(one, model.lanes)))));
  }

  isAsking() {
    const beat = this.run.lesson?.beats[this.beat];
    return beat !== undefined && beat.question !== null && !this.isAnswered;
  }

  showBeat() {
    const { lesson } = this.run;
    const beat = lesson.beats[this.beat];
    const isAsking = this.isAsking();
    const isLast = this.beat + 1 >= lesson.beats.length && !isAsking;
    const seen = isAsking ? beat.seen : beat.seenAnswered ?? beat.seen;
    const hadFocus = this.lesson.contains(document.activeElement);
    clear(this.lesson).append(...[
      h("div", { class: "lab-lesson-head" }, h("h2", {}, lesson.title), h("span", { class: "soft", "data-test": "run-position" }, `${this.beat + 1} / ${lesson.beats.length}`)),
      h("div", { class: "lab-say", role: "status", "data-test": "run-say" }, prose(beat.say)),
      beat.question && h("p", { class: "lab-question", "data-test": "run-question" }, beat.question),
      beat.question && !isAsking && beat.answer && h("div", { class: "lab-answer", role: "status", "data-test": "run-answer" }, prose(beat.answer)),
      h("div", { class: "row" },
        h("button", { class: "button", type: "button", "data-test": "run-back", disabled: this.beat === 0, onclick: () => this.goBack() }, icon("back"), "Back"),
        h("button", { class: "button primary lab-next", type: "button", "data-test": "run-next", disabled: isLast, onclick: () => this.goOn() },
          isAsking ? "Reveal the answer" : "Next", icon("forward"))),
    ].filter(Boolean));
    if (hadFocus) this.lesson.querySelector(".lab-next").focus();
    this.select(beat.txid ?? this.run.transfers[0]?.txid ?? null, beat.txid === null ? {} : seen);
  }

  goOn() {
    if (this.isAsking()) this.isAnswered = true;
    else if (this.beat + 1 < this.run.lesson.beats.length) Object.assign(this, { beat: this.beat + 1, isAnswered: false });
    this.showBeat();
  }

  goBack() {
    if (this.beat > 0) Object.assign(this, { beat: this.beat - 1, isAnswered: false });
    this.showBeat();
  }

  point(key) {
    this.pointed = key;
    this.showDetail();
  }

  choose(item) {
    this.chosen = this.chosen === item.key ? null : item.key;
    this.showDetail();
  }

  showDetail() {
    this.detail.show(this.model, this.pointed ?? this.chosen, this.player.position);
  }

  key(event) {
    if (isForPage(event) && this.player.key(event)) event.preventDefault();
  }
}

function labelOf({ txid, events }) {
  const asked = events.map((event) => event.kind.asked?.text).find((text) => text !== undefined);
  return asked === undefined ? txid : `${askedWords(asked)} · ${txid}`;
}

function logOf(lines) {
  return h("details", { class: "lab-panel run-log" }, h("summary", {}, `The whole run, line by line (${lines.length})`),
    h("pre", { tabindex: "0", "data-test": "run-log" }, lines.join("\n")));
}
