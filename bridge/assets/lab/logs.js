// The branches' logs side by side: what each wrote, whether it was on disk before anything was sent, and what was
// found there after a crash. In step with the player.

import { clear, h, svg } from "../dom.js";
import { laneColour } from "./diagram.js";
import { disk, flash, restart } from "./glyphs.js";
import { movements } from "./words.js";

export class Logs {
  constructor() {
    this.node = h("section", { class: "lab-logs", "aria-label": "The branches' logs", "data-test": "logs" });
  }

  show(model, position) {
    const lanes = (model?.lanes ?? []).filter((lane) => lane.role !== "client");
    clear(this.node).append(...lanes.map((lane) => this.log(lane, model, position)));
  }

  log(lane, model, position) {
    const steps = model.steps.slice(0, position).filter((step) => step.lane === lane.index && ["record", "crashed", "started"].includes(step.kind));
    const lines = steps.map((step) => entry(step, step.index === position - 1));
    return h("div", { class: `lab-log lane-${laneColour(lane)}`, "data-test": `log-${lane.name}` },
      h("h3", {}, `${lane.name}'s log`, h("span", { class: "soft" }, lane.role)),
      lines.length > 0 ? h("ol", {}, lines) : h("p", { class: "empty" }, "Nothing on disk yet."));
  }
}

function entry(step, isNow) {
  const attributes = { class: isNow ? "is-now" : null, "aria-current": isNow ? "step" : null };
  if (step.kind === "crashed") {
    return h("li", attributes, picture(flash(12, 12, 9)), h("span", { class: "crash" }, "crash"), h("span", { class: "volatile" }, "memory lost"));
  }
  if (step.kind === "started") {
    const found = step.found.length > 0 ? `found on disk: ${step.found.join(", ")}` : "found nothing on disk";
    return h("li", attributes, picture(restart(12, 12, 7)), h("span", {}, "started again"), h("span", { class: "durable" }, found));
  }
  const money = movements(step);
  return h("li", attributes, picture(disk(12, 12, 16, step.forced)), h("span", { class: "record" }, step.record),
    step.forced ? h("span", { class: "durable" }, "✓ on disk") : h("span", { class: "volatile" }, "not forced"),
    money.length > 0 && h("span", { class: "money" }, money.join("; ")));
}

export function picture(...shapes) {
  return svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, shapes);
}
