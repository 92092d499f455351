// The 2PC lab: one transfer as a picture that can be played, stepped, broken and shared.
//
// Owns what is shown (which transfer, at which step) and wires the parts together; each part draws itself from the
// same model, so picture, money, logs and words never disagree. Leaves out: the shell around it (app.js).

import { clear, h, svg } from "../dom.js";
import { isForPage } from "../keys.js";
import { Controls } from "./controls.js";
import { Detail } from "./detail.js";
import { Diagram } from "./diagram.js";
import { exportMenu } from "./export.js";
import { cross, definitions, disk, flash } from "./glyphs.js";
import { Logs } from "./logs.js";
import { build } from "./model.js";
import { MoneyView } from "./money_view.js";
import { OpenFile } from "./open_file.js";
import { Player, PLAYER_KEYS } from "./player.js";
import { Scenarios } from "./scenarios.js";
import { Store } from "./store.js";
import { Transfers } from "./transfers.js";
import { outcomeWords, sentence } from "./words.js";

/** The lab's keys, for the page's list. */
export const labKeys = [...PLAYER_KEYS, ["N", "In step mode: deliver the next message"]];

/** For so long after a transfer was asked for here, the next new one is taken for it. */
const EXPECT_MS = 15_000;
/** Records after which the list may have another outcome to tell. */
const END_RECORDS = ["committed", "aborted", "ended"];
const NOTHING_YET = "No transfer between branches yet. Start one, here or under Operate, and it appears as it happens.";

/** Mounts the lab; see the shell's description of views. */
export function mountLab(root, app, params) {
  const lab = new Lab(root, app);
  void lab.open(params ?? {});
  return { unmount: () => lab.unmount(), update: (next) => void lab.update(next ?? {}) };
}

class Lab {
  constructor(root, app) {
    Object.assign(this, { root, app, txid: null, model: null, pointed: null, chosen: null, frame: 0, expectUntil: 0, isGone: false });
    this.store = new Store(app.api);
    this.player = new Player((position, isFresh) => this.moved(position, isFresh));
    this.transfers = new Transfers(app, (txid) => void this.select(txid, {}), () => this.listed());
    this.money = new MoneyView(app.money);
    this.detail = new Detail();
    this.logs = new Logs();
    this.controls = new Controls(app, this.store, { expect: () => this.expect(), changed: () => this.changed() });
    this.scenarios = new Scenarios(app, { onState: (state) => this.lessonMoved(state), onAddress: () => this.address() });
    this.build();
    this.offs = [
      app.on("happened", (event) => this.happened(event)),
      app.on("stage", (message) => this.staged(message)),
      app.on("bank", (bank) => this.banked(bank)),
      app.on("scenario", (state) => this.scenarios.take(state)),
      app.on("connection", (connection) => connection === "live" && void this.again()),
    ];
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
  }

  build() {
    this.title = h("h1", { tabindex: "-1" }, "2PC lab");
    this.outcome = h("span", { class: "lab-outcome", "data-test": "outcome" });
    this.count = h("span", { "data-test": "step-count" });
    this.since = h("span", { class: "since", title: "Since the first event" });
    this.words = h("p", { role: "status", "data-test": "narration" });
    this.canvas = h("div");
    this.empty = h("p", { class: "lab-empty", "data-test": "lab-empty", hidden: true });
    this.text = h("ol", { "data-test": "steps" });
    this.textBox = h("details", { class: "lab-panel lab-text" }, h("summary", {}, "The steps as text"), this.text);
    this.textBox.addEventListener("toggle", () => this.drawText());
    this.stage = h("section", { class: "lab-stage", "aria-label": "The transfer" },
      this.narration = h("div", { class: "lab-narration" }, h("span", { class: "count" }, this.count, this.since), this.words, this.outcome), this.canvas, this.empty, this.player.node);
    clear(this.root).append(
      h("div", { class: "lab-top" }, this.title, this.transfers.node, exportMenu(this.app, () => this.model, () => this.share())),
      h("div", { class: "lab-main" },
        h("div", { class: "lab-left" }, this.stage, this.logs.node, legend()),
        h("div", { class: "lab-side" }, this.scenarios.node, this.controls.quick, this.money.node, this.detail.node)),
      this.controls.node, this.textBox);
    this.file = new OpenFile(this.app, this.root, [...this.root.children]);
    this.root.querySelector(".lab-top").append(this.file.node);
    this.diagram = new Diagram(this.canvas, {
      point: (key) => this.point(key),
      choose: (item) => this.choose(item),
      waitingButtons: (waiting) => this.controls.buttonsFor(waiting),
    });
  }

  unmount() {
    this.isGone = true;
    this.file.unmount();
    this.offs.forEach((off) => off());
    document.removeEventListener("keydown", this.onKey);
    cancelAnimationFrame(this.frame);
    [this.player, this.transfers, this.diagram, this.controls].forEach((part) => part.unmount());
  }

  async open({ txid, scenario }) {
    if (this.app.bank) this.store.takeBank(this.app.bank);
    const step = stepInAddress();
    await Promise.all([this.transfers.load(), this.controls.load(), this.scenarios.load(scenario)]);
    if (this.isGone || (this.txid && !txid)) return;
    const shown = txid ?? this.scenarios.state?.txid ?? this.transfers.list[0]?.txid;
    if (shown) await this.select(shown, { step });
    else this.changed();
  }

  async update({ txid, scenario }) {
    await this.scenarios.point(scenario);
    if (txid && txid !== this.txid) await this.select(txid, { step: stepInAddress() });
    else this.address();
  }

  /** After the connection came back: what was missed. */
  async again() {
    await Promise.all([this.transfers.load(), this.controls.load(), this.txid ? this.load(this.txid) : null]);
    this.changed();
  }

  async load(txid) {
    try {
      await this.store.load(txid);
    } catch (error) {
      // One that has only just begun can be here before the bridge tells of it.
      if (this.store.events(txid).length === 0) this.app.toast(error.message, "bad");
    }
  }

  /** Shows a transfer. `isNew`: it is happening now, so it is played from its first step. */
  async select(txid, { step = null, isNew = false }) {
    this.txid = txid;
    Object.assign(this, { chosen: null, pointed: null });
    this.transfers.mark(txid);
    if (!this.transfers.has(txid)) this.transfers.refresh();
    if (!isNew) await this.load(txid);
    if (this.isGone || this.txid !== txid) return;
    this.model = this.modelNow();
    const length = this.model.steps.length;
    this.player.open(length, isNew ? 0 : step ?? length, isNew || step === null);
    this.store.trim(txid);
    this.address();
  }

  modelNow() {
    return build(this.store.events(this.txid), {
      waiting: this.store.waiting().filter((one) => one.txid === this.txid), outages: this.store.outages, aliases: this.store.aliases,
    });
  }

  happened(event) {
    const isNew = this.store.take(event);
    if (event.txid === this.txid) this.changed();
    else if (isNew && event.txid && !this.transfers.has(event.txid) && this.follows()) void this.select(event.txid, { isNew: true });
    const isListed = this.transfers.has(event.txid);
    if (event.txid && (!isListed || END_RECORDS.includes(event.kind.recorded?.record))) this.transfers.refresh();
  }

  /** Whether a new transfer takes the place of the one that is shown. */
  follows() {
    if (performance.now() < this.expectUntil) {
      this.expectUntil = 0;
      return true;
    }
    if (this.scenarios.isRunning()) return false;
    const isNothing = this.model === null || this.model.steps.length === 0;
    const isNewest = (this.transfers.list[0]?.txid ?? this.txid) === this.txid;
    return this.player.isLive && (isNothing || (isNewest && this.model.isOver && this.player.position >= this.model.steps.length));
  }

  expect() {
    this.expectUntil = performance.now() + EXPECT_MS;
  }

  staged(message) {
    if (!this.store.takeStage(message)) return;
    this.controls.show();
    this.changed();
  }

  banked(bank) {
    const before = JSON.stringify(this.store.outages);
    this.store.takeBank(bank);
    this.controls.show();
    void this.controls.load({ onlyMissing: true });
    if (before !== JSON.stringify(this.store.outages)) this.changed();
  }

  listed() {
    if (this.txid === null && this.transfers.list.length > 0) void this.select(this.transfers.list[0].txid, {});
  }

  lessonMoved(state) {
    if (state?.txid && state.txid !== this.txid) {
      const isNew = this.store.events(state.txid).length > 0;
      void this.select(state.txid, { isNew });
    } else this.changed();
  }

  /** Something about the shown transfer is different; the page follows with its next frame. */
  changed() {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (this.isGone) return;
      if (this.txid === null) {
        this.moved(0, false);
        return;
      }
      this.model = this.modelNow();
      this.player.grow(this.model.steps.length);
    });
  }

  moved(position, isFresh) {
    const model = this.model?.steps.length > 0 ? this.model : null;
    const step = model?.steps[position - 1];
    this.empty.textContent = this.txid === null ? NOTHING_YET : `Nothing is known of the transfer ${this.txid}: the branches keep the last events alone.`;
    this.empty.hidden = model !== null;
    this.narration.hidden = model === null;
    this.canvas.hidden = model === null;
    this.player.node.hidden = model === null;
    if (model) this.diagram.show(model, position, isFresh);
    this.count.textContent = model ? `${position} / ${model.steps.length}` : "";
    this.since.textContent = step ? sinceStart(step, model) : "";
    const words = step ? sentence(step, model.lanes) : model ? "Before the first step." : "";
    if (this.words.textContent !== words) this.words.textContent = words;
    this.showOutcome(model !== null && position >= model.steps.length && !this.scenarios.isAsking());
    this.money.show(model, position, this.scenarios.isAsking());
    this.logs.show(model, position);
    this.showDetail();
    this.drawText();
    this.address();
  }

  /** How it ended shows at the end alone: before that, the class is to guess. */
  showOutcome(isAtEnd) {
    this.outcome.hidden = !isAtEnd;
    if (!isAtEnd) return;
    const words = outcomeWords(this.model);
    const kind = words.includes("doubt") ? "warn" : { committed: "good", aborted: "bad", complete: "good", lost: "bad" }[this.model.outcome] ?? "info";
    this.outcome.textContent = words;
    this.outcome.className = `lab-outcome badge ${kind}`;
  }

  drawText() {
    if (!this.textBox.open || !this.model) return;
    const { steps, lanes } = this.model;
    clear(this.text).append(...steps.slice(0, this.player.position).map((step) =>
      h("li", {}, h("button", { type: "button", "aria-current": step.index === this.player.position - 1 ? "step" : null,
        onclick: () => this.player.go(step.index + 1) }, sentence(step, lanes)))));
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

  /** Writes what is shown into the address, so that it can be shared. */
  address() {
    const parts = new URLSearchParams();
    if (this.scenarios.name) parts.set("scenario", this.scenarios.name);
    if (this.scenarios.seed() !== null) parts.set("seed", String(this.scenarios.seed()));
    if (this.txid) parts.set("txid", this.txid);
    if (this.model && this.player.position < this.model.steps.length && !this.player.isLive && !this.player.isPlaying) parts.set("step", String(this.player.position));
    const hash = `#lab${parts.size > 0 ? `?${parts}` : ""}`;
    if (location.hash !== hash) this.app.replaceHash(hash);
  }

  share() {
    this.address();
    return location.href;
  }

  key(event) {
    if (this.file.isOpen() || !this.model || !isForPage(event)) return;
    const isDone = /^n$/i.test(event.key) ? this.controls.deliverNext() : this.player.key(event);
    if (isDone) event.preventDefault();
  }
}

function stepInAddress() {
  const step = new URLSearchParams(location.hash.split("?")[1] ?? "").get("step");
  return step !== null && /^\d{1,5}$/.test(step) ? Number(step) : null;
}

function sinceStart(step, model) {
  const milliseconds = Math.max(0, Number(step.at_unix_ms) - Number(model.startedAt));
  return milliseconds < 1_000 ? `+${milliseconds} ms` : `+${(milliseconds / 1_000).toFixed(1)} s`;
}

/** What the shapes mean. */
function legend() {
  const small = (...shapes) => svg("svg", { viewBox: "0 0 24 20", "aria-hidden": "true" }, shapes);
  const line = (kind) => small(svg("line", { class: kind, x1: 1, y1: 10, x2: 23, y2: 10 }));
  return h("div", { class: "lab-legend" }, svg("svg", { class: "lab-definitions", "aria-hidden": "true" }, definitions("legend", 16)),
    h("span", {}, small(disk(12, 10, 16, true)), "forced to disk"), h("span", {}, small(disk(12, 10, 16, false)), "written, not forced"),
    h("span", {}, small(svg("rect", { class: "segment state-doubt", x: 8, y: 0, width: 9, height: 20, fill: "url(#legend-hatch)" })), "in doubt"),
    h("span", {}, line("shaft how-lost"), "lost, or never arrives"), h("span", {}, small(cross(12, 10, 5)), "thrown away, refused"),
    h("span", {}, small(flash(12, 10, 9)), "crash"));
}
