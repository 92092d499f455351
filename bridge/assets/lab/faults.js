// What a lecturer does to a branch: crash it, now or at a point, start it again, cut or slow its links.

import { h, icon, reconcile } from "../dom.js";
import { laneColour } from "./diagram.js";
import { CRASH_POINTS } from "./words.js";

const SLOW_MS = 1_500;
const RESTART_HINT = "It was not started by this program: start it again where it ran, with the same command.";

export class Faults {
  /** `act(branch, name, params)` sends one request of teaching; `restarted(branch)` after a start from here. */
  constructor(app, store, act, restarted) {
    Object.assign(this, { app, store, act, restarted, points: Object.keys(CRASH_POINTS), known: new Set() });
    this.cards = h("div", { class: "lab-branches" });
    this.node = h("section", { class: "lab-faults", "aria-labelledby": "lab-faults-title", hidden: true, "data-test": "faults" },
      h("h2", { id: "lab-faults-title" }, "Break it"), this.cards);
  }

  /** Whether the branch was seen to teach, which it can't say while it is down. */
  knows(name) {
    return this.known.has(name);
  }

  show(branches) {
    this.node.hidden = branches.length === 0;
    for (const branch of branches) this.known.add(branch.name);
    reconcile(this.cards, branches, (branch) => branch.name, (branch) => this.card(branch), (node, branch) => this.update(node, branch));
  }

  card({ name }) {
    const button = (label, picture, test, act, kind = "") => h("button", { class: `button small ${kind}`, type: "button", "data-test": test, onclick: act }, icon(picture), label);
    const parts = {
      state: h("span", { class: "pill" }),
      point: h("select", { "aria-label": `Crash point of ${name}`, "data-test": "crash-point" }, this.points.map((point) => h("option", { value: point }, point.replaceAll("-", " ")))),
      meaning: h("p", { class: "soft lab-meaning" }), links: h("ul", { class: "lab-links" }), armed: h("p", { class: "notice warn lab-armed", role: "status" }),
      stepping: h("input", { type: "checkbox", role: "switch", "data-test": "step-mode" }), hint: h("p", { class: "soft" }, RESTART_HINT),
    };
    const says = () => { parts.meaning.textContent = CRASH_POINTS[parts.point.value] ?? ""; };
    parts.point.addEventListener("change", says);
    parts.stepping.addEventListener("change", () => void this.act(name, "step_mode", { on: parts.stepping.checked }));
    says();
    parts.up = h("div", { class: "stack lab-up" },
      h("label", { class: "lab-switch" }, parts.stepping, h("span", {}, "Messages to it wait")),
      h("div", { class: "row tight" }, button("Crash now", "crash", "crash-now", () => void this.crashNow(name), "danger")),
      h("div", { class: "row tight" }, parts.point, button("Arm", "crash", "crash-arm", () => void this.act(name, "crash", { at: parts.point.value }))),
      parts.meaning, parts.armed, parts.links);
    parts.restart = button("Start again", "restart", "restart", () => void this.restart(name), "primary");
    parts.down = h("div", { class: "stack" }, h("p", {}, "It is down. What it knows is on its disk."), parts.restart, parts.hint);
    const node = h("article", { class: "lab-panel lab-branch", "data-test": `faults-${name}` },
      h("h3", { class: `lane-${laneColour({ name })}` }, name, parts.state), parts.up, parts.down);
    node.parts = parts;
    return node;
  }

  update(node, branch) {
    const { parts } = node;
    const stage = this.store.stages.get(branch.name);
    const isUp = branch.state === "up";
    parts.state.textContent = isUp ? "up" : "down";
    parts.state.className = `pill state-${isUp ? "committed" : "down"}`;
    parts.up.hidden = !isUp;
    parts.down.hidden = isUp;
    parts.restart.hidden = !(branch.restartable ?? this.app.session.can_restart);
    parts.hint.hidden = !parts.restart.hidden;
    if (!stage) return;
    parts.stepping.checked = stage.step_mode;
    const points = stage.crash_points.join();
    if (points !== node.points) {
      node.points = points;
      const chosen = parts.point.value;
      parts.point.replaceChildren(...stage.crash_points.map((point) => h("option", { value: point, selected: point === chosen }, point.replaceAll("-", " "))));
      parts.point.dispatchEvent(new Event("change"));
    }
    this.showArmed(parts, branch.name, stage);
    const peers = (this.app.bank?.branches ?? []).filter((other) => other.name !== branch.name);
    reconcile(parts.links, peers, (peer) => peer.name, (peer) => this.link(branch.name, peer.name), (row, peer) => updateLink(row, stage, peer.name));
  }

  showArmed(parts, name, stage) {
    parts.armed.hidden = !stage.crash_at;
    if (!stage.crash_at || parts.armed.dataset.at === stage.crash_at) return;
    parts.armed.dataset.at = stage.crash_at;
    parts.armed.replaceChildren(h("span", {}, `Crashes at: ${stage.crash_at.replaceAll("-", " ")}. `),
      h("button", { class: "button small", type: "button", "data-test": "crash-disarm", onclick: () => void this.act(name, "crash", { at: "never" }) }, "Disarm"));
  }

  link(name, peer) {
    const button = (fault, label) => h("button", { class: "button small", type: "button", "data-fault": fault, "data-peer": peer,
      "data-test": `link-${fault}`, "aria-label": `${label} the link between ${name} and ${peer}`,
      onclick: () => void this.act(name, "fault", { peer, fault, ...(fault === "slow" ? { delay_ms: SLOW_MS } : {}) }) }, label);
    return h("li", {}, h("span", { class: "lab-link-name" }), button("cut", "Cut"), button("slow", "Slow"), button("heal", "Heal"));
  }

  async crashNow(name) {
    await this.act(name, "crash", { at: "now" });
  }

  async restart(name) {
    if (!(await this.act(name, "restart", {}))) return;
    this.app.toast(`${name} starts again.`, "info");
    await this.restarted(name);
  }
}

function updateLink(row, stage, peer) {
  const fault = stage.faults.find((fault) => fault.peer === peer)?.fault ?? "heal";
  const words = { cut: "cut", slow: "slow", heal: "whole" }[fault];
  row.querySelector(".lab-link-name").textContent = `Link to ${peer}: ${words}`;
  row.classList.toggle("is-faulty", fault !== "heal");
  for (const button of row.querySelectorAll("button")) {
    const isPresent = button.dataset.fault === fault;
    button.disabled = isPresent && fault === "heal";
    button.setAttribute("aria-pressed", String(isPresent && fault !== "heal"));
  }
}
