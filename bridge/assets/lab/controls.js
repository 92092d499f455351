// What a lecturer does to the protocol: step mode, the fate of each waiting message, the passing of time.
//
// Owns the panel beside the diagram and the buttons at its waiting arrows. Shown only where a branch teaches; the
// bridge refuses everything here to anyone but the administrator, so nothing is hidden for safety's sake.
// Leaves out: crashes and links (faults.js), the form that starts a transfer (start.js).

import { h, icon, reconcile } from "../dom.js";
import { Faults } from "./faults.js";
import { StartForm } from "./start.js";

/** What can become of a waiting message. */
const FATES = [
  { how: "deliver", label: "Deliver", picture: "step", says: "The branch receives it." },
  { how: "drop", label: "Drop", picture: "drop", says: "The branch never receives it." },
  { how: "duplicate", label: "Double", picture: "copy", says: "The branch receives it, and a copy goes on waiting." },
  { how: "delay", label: "Delay", picture: "clock", says: "The branch receives it in two seconds.", delay_ms: 2_000 },
];
const TIMES = [["0.5 s", 500], ["2 s", 2_000], ["6 s", 6_000]];

export class Controls {
  /** `hooks`: `expect()` before a transfer is started here, `changed()` when a stage did. */
  constructor(app, store, hooks) {
    Object.assign(this, { app, store, hooks, busy: new Set(), asked: new Set() });
    this.faults = new Faults(app, store, (branch, name, params) => this.act(branch, name, params), (branch) => this.restarted(branch));
    this.start = new StartForm(app, hooks.expect);
    this.build();
    this.node = this.faults.node;
    this.show();
  }

  build() {
    this.stepping = h("input", { type: "checkbox", role: "switch", "data-test": "step-all", onchange: () => void this.stepAll(this.stepping.checked) });
    this.next = h("button", { class: "button primary", type: "button", "data-test": "deliver-next", title: "Key: N", onclick: () => this.deliverNext() },
      icon("step"), "Deliver next");
    this.waits = h("ul", { class: "lab-waits", "data-test": "waiting" });
    this.none = h("p", { class: "soft" });
    this.times = h("div", { class: "row tight", role: "group", "aria-label": "Let time pass" }, h("span", {}, "Let time pass"),
      TIMES.map(([label, milliseconds]) => h("button", { class: "button small", type: "button", "data-test": `pass-${milliseconds}`,
        title: "Time-outs expire and messages are sent again", onclick: () => void this.passTime(milliseconds) }, label)));
    this.teaching = h("div", { class: "lab-teaching" },
      h("div", { class: "row lab-step-row" }, h("label", { class: "lab-switch" }, this.stepping, h("span", {}, "Step by step")), this.next),
      this.waits, this.none, this.times);
    this.quick = h("section", { class: "lab-panel", "aria-labelledby": "lab-quick-title" },
      h("h2", { id: "lab-quick-title" }, "Run it"), this.start.node, this.teaching);
  }

  unmount() {}

  /** The branches that teach, as far as they are known. */
  branches() {
    return (this.app.bank?.branches ?? []).filter((branch) => branch.teaching || this.store.stages.has(branch.name) || this.faults.knows(branch.name));
  }

  /** Asks the branches for their stages; `onlyMissing`: those that none is known of. */
  async load({ onlyMissing = false } = {}) {
    if (!this.app.session?.teaching) return;
    const names = (this.app.bank?.branches ?? []).filter((branch) => branch.teaching && branch.state === "up").map((branch) => branch.name)
      .filter((name) => !(onlyMissing && (this.store.stages.has(name) || this.asked.has(name))));
    if (names.length === 0) return;
    await Promise.all(names.map(async (branch) => {
      this.asked.add(branch);
      try {
        this.store.takeStage({ branch, stage: await this.app.api.get(`/teaching/${encodeURIComponent(branch)}`) });
      } catch {
        // One that is gone just now tells of itself when it is back.
      } finally {
        this.asked.delete(branch);
      }
    }));
    this.show();
    this.hooks.changed();
  }

  show() {
    const branches = this.branches();
    this.teaching.hidden = branches.length === 0;
    this.start.show(this.app.bank?.branches ?? []);
    this.faults.show(branches);
    const stages = branches.map((branch) => this.store.stages.get(branch.name)).filter((stage) => stage !== undefined);
    this.stepping.checked = stages.length > 0 && stages.every((stage) => stage.step_mode);
    this.stepping.indeterminate = !this.stepping.checked && stages.some((stage) => stage.step_mode);
    const isStepping = this.stepping.checked || this.stepping.indeterminate;
    const waiting = this.store.waiting();
    reconcile(this.waits, waiting, (one) => `${one.branch}:${one.number}`, (one) => this.waitingItem(one));
    this.next.hidden = !isStepping;
    this.next.disabled = waiting.length === 0;
    this.times.hidden = !isStepping;
    this.none.hidden = waiting.length > 0;
    this.none.textContent = isStepping ? "No message waits. The protocol's clock stands still until you let time pass."
      : "Step by step: every message waits until you deliver, drop, double or delay it.";
  }

  waitingItem(one) {
    return h("li", {}, h("span", {}, h("strong", {}, one.message), ` ${one.from} → ${one.to}`), this.buttons(one, false));
  }

  /** The four buttons of a waiting message, for its arrow in the diagram. */
  buttonsFor(waiting) {
    return h("div", { class: "lab-wait", role: "group", "aria-label": `${waiting.message} to ${waiting.to}` }, this.buttons(waiting, true));
  }

  buttons(one, isSmall) {
    return h("span", { class: "row tight" }, FATES.map((fate) => h("button", {
      class: `button small ${fate.how === "deliver" ? "primary" : ""}`, type: "button", title: fate.says,
      "aria-label": `${fate.label} ${one.message} from ${one.from} to ${one.to}`,
      "data-test": isSmall ? `arrow-${fate.how}` : fate.how, "data-branch": one.branch, "data-number": one.number,
      onclick: () => void this.step(one, fate),
    }, isSmall || fate.how === "deliver" ? icon(fate.picture) : null, !isSmall || fate.how === "deliver" ? h("span", { class: "fate-name" }, fate.label) : null)));
  }

  async step(one, { how, delay_ms }) {
    const key = `${one.branch}:${one.number}`;
    // A second click on the same button meets a message that is gone.
    if (this.busy.has(key)) return;
    this.busy.add(key);
    await this.act(one.branch, "step", { number: one.number, how, ...(delay_ms ? { delay_ms } : {}) });
    this.busy.delete(key);
  }

  /** Delivers the message that waits longest; tells whether there is one. */
  deliverNext() {
    const free = this.store.waiting().filter((one) => !this.busy.has(`${one.branch}:${one.number}`));
    if (free.length === 0) return false;
    void this.step(free[0], FATES[0]);
    return true;
  }

  async stepAll(on) {
    await Promise.all(this.upBranches().map((name) => this.act(name, "step_mode", { on })));
    this.show();
  }

  /** Step mode ended with the process; where the class is stepping, it goes on stepping. */
  async restarted(branch) {
    if (this.stepping.checked || this.stepping.indeterminate) await this.act(branch, "step_mode", { on: true });
  }

  async passTime(milliseconds) {
    await Promise.all(this.upBranches().map((name) => this.act(name, "pass_time", { milliseconds })));
  }

  upBranches() {
    return this.branches().filter((branch) => branch.state === "up").map((branch) => branch.name);
  }

  /** One request of teaching; its answer is the stage. Tells whether it was done. */
  async act(branch, name, params) {
    try {
      const stage = await this.app.api.post(`/teaching/${encodeURIComponent(branch)}/${name}`, params);
      if (stage?.crash_points) this.store.takeStage({ branch, stage });
      this.show();
      this.hooks.changed();
      return true;
    } catch (error) {
      this.app.toast(`${branch}: ${error.message}`, "bad");
      return false;
    }
  }
}
