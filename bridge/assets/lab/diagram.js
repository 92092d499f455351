// The space-time diagram: draws a model (model.js) at a position, and lets a reader point at, focus and choose marks.
//
// Owns the picture in its scroll box. Keeps true: what comes after the position is not on the page, and a redraw keeps
// the focused mark focused. Leaves out: what a mark means in words beyond its label (words.js, detail.js).

import { clear, h, svg } from "../dom.js";
import { cross, definitions, disk, flash, restart } from "./glyphs.js";
import { along, boxed, labelPoint, layout, meets, messageLines, present } from "./layout.js";
import { fateAt, stateAt } from "./model.js";
import { askedWords, family, markLabel, messageLabel, movements, sentence, shorten, STATES, toldWords } from "./words.js";

const PREFIX = "lab";

/** Makes a diagram in `root`. `actions`: `{point(key|null), choose(item), waitingButtons(waiting) → node|null}`. */
export class Diagram {
  constructor(root, actions) {
    this.actions = actions;
    this.heads = h("div", { class: "lab-heads", "data-test": "lanes" });
    this.picture = h("div", { class: "lab-picture" });
    this.overlay = h("div", { class: "lab-overlay" });
    this.sheet = h("div", { class: "lab-sheet" }, this.heads, this.picture, this.overlay);
    this.box = h("div", { class: "lab-box", "data-test": "diagram" }, this.sheet);
    root.append(this.box);
    this.box.addEventListener("keydown", (event) => this.onKey(event));
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.box);
    this.chosen = null;
  }

  unmount() {
    this.observer.disconnect();
  }

  /** Draws the first `position` steps. `isFresh`: the last of them has just happened, so it may move. */
  show(model, position, isFresh = false) {
    Object.assign(this, { model, position, isFresh });
    this.draw();
    this.follow();
  }

  redraw() {
    const width = this.box.clientWidth;
    if (!this.model || width === this.drawnWidth) return;
    this.isFresh = false;
    this.draw();
  }

  draw() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
    this.drawnWidth = this.box.clientWidth;
    this.place = layout(this.model, this.drawnWidth || 960, rem, this.position);
    this.items = [];
    const focused = this.picture.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.box.classList.toggle("is-narrow", this.place.isNarrow);
    this.sheet.style.width = `${this.place.width}px`;
    this.drawHeads();
    clear(this.overlay);
    clear(this.picture).append(this.drawPicture());
    this.makeRoving(focused);
  }

  drawHeads() {
    clear(this.heads).append(...this.model.lanes.map((lane) => {
      const state = stateAt(lane, this.position);
      const head = h("div", { class: `lab-head role-${lane.role}`, "data-lane": lane.name },
        h("span", { class: "lab-head-name" }, lane.name),
        h("span", { class: `pill state-${state}`, "data-test": `state-${lane.name}` }, STATES[state] ?? state));
      head.style.left = `${this.place.x[lane.index]}px`;
      head.classList.add(`lane-${lane.role === "client" ? "client" : laneColour(lane)}`);
      return head;
    }));
  }

  drawPicture() {
    const { place, model, position } = this;
    const shown = model.steps.slice(0, position);
    const label = `Diagram of the transfer: ${shown.length} of ${model.steps.length} steps`;
    const root = svg("svg", { class: "lab-svg", width: place.width, height: place.height, role: "group", "aria-label": label,
      viewBox: `0 0 ${place.width} ${place.height}` }, definitions(PREFIX, place.rem));
    root.append(...this.nowBand(), ...model.lanes.flatMap((lane) => this.lane(lane)), ...this.commitLine());
    // Marks first: their labels have but one place, those of arrows move out of the way.
    const marks = shown.map((step) => this.mark(step));
    const parts = [...model.messages.map((message) => this.message(message)), ...marks].filter((part) => part !== null);
    root.append(...parts.sort((a, b) => a.order - b.order).map((part) => part.node));
    root.append(...this.labels);
    return root;
  }

  nowBand() {
    this.labels = [];
    this.taken = [];
    const step = this.model.steps[this.position - 1];
    if (!step) return [];
    const y = this.place.y[step.index] - this.place.row / 2;
    return [svg("rect", { class: "now-band", x: 0, y, width: this.place.width, height: this.place.row, rx: this.place.rem / 3 })];
  }

  lane(lane) {
    const { place, position } = this;
    const x = place.x[lane.index];
    const now = present(place, position);
    const nodes = [svg("line", { class: `lane-line lane-${lane.role === "client" ? "client" : laneColour(lane)}`, x1: x, x2: x, y1: 0, y2: now })];
    for (const segment of lane.segments.filter((segment) => segment.from < position)) {
      const y1 = place.y[segment.from];
      const y2 = segment.to !== null && segment.to < position ? place.y[segment.to] : now;
      const width = place.rem * 0.62;
      nodes.push(svg("rect", { class: `segment state-${segment.state}`, x: x - width / 2, y: y1, width, height: Math.max(0, y2 - y1), rx: width / 3,
        ...(segment.state === "doubt" ? { fill: `url(#${PREFIX}-hatch)` } : {}) }));
      if (segment.state === "doubt" && this.model.steps[segment.from].kind === "sent") this.outside(lane, y1, STATES.doubt, "doubt-label");
    }
    return nodes;
  }

  /** A label on the side of a lane that has no other lane, or as far from the arrows as can be. */
  outside(lane, y, text, kind, second = null) {
    const { place } = this;
    const isLeft = lane.role === "coordinator";
    const x = place.x[lane.index] + (isLeft ? -1 : 1) * 0.95 * place.rem;
    const anchor = isLeft ? "end" : "start";
    this.write(text, kind, x, y + (second ? -0.12 : 0.3) * place.rem, anchor);
    if (second) this.write(second, "money-label", x, y + 0.78 * place.rem, anchor);
  }

  write(text, kind, x, y, anchor) {
    this.taken.push(boxed({ x, y }, this.widthOf(text), this.place.rem, anchor));
    this.labels.push(svg("text", { class: `label ${kind}`, x, y, "text-anchor": anchor }, text));
  }

  /** About how wide a label is; near enough to keep labels apart. */
  widthOf(text) {
    return text.length * 0.5 * this.place.rem;
  }

  commitLine() {
    const { commit } = this.model;
    if (!commit || commit.shownFrom >= this.position) return [];
    const { place } = this;
    const y = place.y[commit.step] + place.row / 2;
    const text = commit.isInferred ? "COMMIT POINT: on disk before the crash" : "COMMIT POINT";
    const words = place.isNarrow ? "COMMIT POINT" : text;
    return [svg("g", { class: "commit-point", "data-test": "commit-point" },
      svg("line", { x1: place.rem / 2, x2: place.width - place.rem / 2, y1: y, y2: y }),
      svg("text", { class: "label commit-label", x: place.width - place.rem / 2, y: y - 0.35 * place.rem, "text-anchor": "end" }, words))];
  }

  message(message) {
    const fate = fateAt(message, this.position, this.model.steps.length);
    if (fate === "none") return null;
    const { place, model } = this;
    const kind = family(message.name);
    const node = this.item(message.key, `arrow ${kind}`, this.describe(message, fate), () => message.sentStep ?? message.arrivals[0]?.step);
    node.dataset.fate = fate;
    node.dataset.message = message.name;
    const lines = messageLines(message, place, this.position, fate);
    const named = lines.find((drawn) => drawn.how === "waiting") ?? lines[0];
    lines.forEach((drawn) => {
      const open = ["flight", "waiting"].includes(drawn.how) ? "-open" : "";
      const head = drawn.how === "lost" || drawn.how === "gone" ? null : `url(#${PREFIX}-${kind}${open})`;
      const isNew = this.isFresh && drawn.step === this.position - 1;
      node.append(svg("line", { class: "hit", ...drawn.line }),
        svg("line", { class: `shaft how-${drawn.how}${isNew ? " fresh" : ""}`, ...drawn.line, pathLength: isNew ? 1 : null, "marker-end": head }));
      const tip = along(drawn.line, 1);
      if (drawn.how === "lost") node.append(cross(tip.x, tip.y, place.rem * 0.4));
      if (drawn.how === "gone") node.append(svg("circle", { class: "gone-end", cx: tip.x, cy: tip.y, r: place.rem * 0.25 }));
      if (drawn.how === "waiting") this.waits(node, drawn, tip, message);
      if (drawn === named || drawn.isAgain) this.arrowLabel(drawn, message, kind);
    });
    return { node, order: message.sentStep ?? model.messages.indexOf(message) };
  }

  arrowLabel(drawn, message, kind) {
    const { place } = this;
    const outer = Math.max(message.from, message.to);
    const room = place.x[outer] - place.x[outer - 1] - 1.2 * place.rem;
    const long = messageLabel(message);
    const name = place.isNarrow || this.widthOf(long) > room ? messageLabel(message, place.isNarrow ? "short" : "name") : long;
    const text = drawn.isAgain ? `${message.name} ×2` : name;
    const point = labelPoint(drawn.line, message, place, this.widthOf(text), this.taken);
    this.labels.push(svg("text", { class: `label arrow-label ${kind}`, x: point.x, y: point.y, "text-anchor": "middle" }, text));
    const fate = { lost: "lost", gone: "never arrives" }[drawn.how];
    if (!fate || place.isNarrow) return;
    const side = Math.sign(drawn.line.x2 - drawn.line.x1);
    const x = drawn.line.x2 + side * (drawn.how === "gone" ? 0.5 : -0.8) * place.rem;
    const anchor = (side > 0) === (drawn.how === "gone") ? "start" : "end";
    this.write(fate, "fate-label", x, drawn.line.y2 + (drawn.how === "gone" ? 0.3 : 0.95) * place.rem, anchor);
  }

  waits(node, drawn, tip, message) {
    const { rem } = this.place;
    node.append(svg("circle", { class: "pulse", cx: tip.x, cy: tip.y, r: rem * 0.55 }));
    const buttons = this.actions.waitingButtons(drawn.waiting);
    if (!buttons) return;
    const outer = Math.max(message.from, message.to);
    buttons.style.top = `${drawn.line.y2 + 0.6 * rem}px`;
    this.overlay.append(buttons);
    const half = buttons.offsetWidth / 2 + 0.2 * rem;
    const middle = (this.place.x[outer] + this.place.x[outer - 1]) / 2;
    this.taken.push({ left: middle - half, right: middle + half, top: drawn.line.y2 + 0.6 * rem, bottom: drawn.line.y2 + 0.6 * rem + buttons.offsetHeight });
    buttons.style.left = `${Math.min(this.place.width - half, Math.max(half, middle))}px`;
  }

  describe(message, fate) {
    const [from, to] = [this.model.lanes[message.from].name, this.model.lanes[message.to].name];
    const how = { received: message.arrivals.length > 1 ? "received twice" : "received", lost: "lost", gone: "never arrives",
      waiting: "waits to be delivered", flight: "on its way" }[fate];
    return `${message.name} from ${from} to ${to}: ${how}`;
  }

  mark(step) {
    if (step.kind === "asked" || step.kind === "answered") return this.clientArrow(step);
    if (!["record", "refused", "crashed", "started", "note", "memory"].includes(step.kind)) return null;
    const { place, model } = this;
    const lane = model.lanes[step.lane];
    const [x, y] = [place.x[step.lane], place.y[step.index]];
    const node = this.item(`s${step.index}`, `mark ${step.kind}`, sentence(step, model.lanes), () => step.index);
    node.append(svg("circle", { class: "hit-area", cx: x, cy: y, r: place.rem * 0.95 }), this.shape(step, x, y));
    if (this.isFresh && step.index === this.position - 1) node.classList.add("fresh");
    const kind = step.kind === "record" ? `record-label${step.forced ? " is-forced" : ""}` : `${step.kind}-label`;
    const money = movements(step, place.isNarrow);
    const found = step.found?.length > 0 ? (place.isNarrow ? step.found.at(-1) : `on disk: ${step.found.at(-1)}`) : null;
    const second = found ?? (money.length > 1 ? `${money[0]} +${money.length - 1}` : money[0] ?? null);
    this.outside(lane, y, markLabel(step, place.isNarrow), kind, second);
    return { node, order: step.index + 0.5 };
  }

  shape(step, x, y) {
    const size = this.place.rem;
    switch (step.kind) {
      case "record": return disk(x, y, size * 1.15, step.forced);
      case "crashed": return flash(x, y, size * 0.85);
      case "started": return restart(x, y, size * 0.55);
      case "refused": return cross(x, y, size * 0.4);
      default: return svg("circle", { class: "dot", cx: x, cy: y, r: size * 0.28 });
    }
  }

  clientArrow(step) {
    const client = this.model.lanes.find((lane) => lane.role === "client");
    const { place } = this;
    const isAsked = step.kind === "asked";
    const [from, to] = isAsked ? [client.index, step.lane] : [step.lane, client.index];
    const side = Math.sign(place.x[to] - place.x[from]) || 1;
    const y = place.y[step.index];
    const line = { x1: place.x[from] + side * 0.45 * place.rem, x2: place.x[to] - side * 0.5 * place.rem, y1: y - 0.25 * place.row, y2: y + 0.1 * place.row };
    const node = this.item(`s${step.index}`, `arrow client ${step.kind}`, sentence(step, this.model.lanes), () => step.index);
    node.append(svg("line", { class: "hit", ...line }), svg("line", { class: "shaft how-received", ...line, "marker-end": `url(#${PREFIX}-client)` }));
    const text = place.isNarrow ? (isAsked ? "asks" : "told") : shorten(isAsked ? askedWords(step.text) : toldWords(step.text, true), 24);
    const spots = [-0.4, 1.1].map((rise) => boxed({ x: (line.x1 + line.x2) / 2, y: (line.y1 + line.y2) / 2 + rise * place.rem }, this.widthOf(text), place.rem, "middle"));
    const spot = spots.find((spot) => !this.taken.some((other) => meets(spot, other))) ?? spots[0];
    this.write(text, "client-label", spot.x, spot.y, "middle");
    return { node, order: step.index };
  }

  /** A mark that can be pointed at, focused and chosen. */
  item(key, kind, label, stepOf) {
    const node = svg("g", { class: kind, "data-key": key, role: "button", "aria-label": label, tabindex: "-1" });
    const item = { key, node, step: stepOf() };
    this.items.push(item);
    node.addEventListener("pointerenter", () => this.actions.point(key));
    node.addEventListener("pointerleave", () => this.actions.point(null));
    node.addEventListener("focus", () => {
      this.actions.point(key);
      this.rove(item);
    });
    node.addEventListener("blur", () => this.actions.point(null));
    node.addEventListener("click", () => this.actions.choose(item));
    return node;
  }

  makeRoving(focused) {
    this.items.sort((a, b) => a.step - b.step);
    const kept = this.items.find((item) => item.key === focused);
    this.rove(kept ?? this.items.at(-1));
    kept?.node.focus({ preventScroll: true });
  }

  rove(item) {
    for (const other of this.items) other.node.setAttribute("tabindex", other === item ? "0" : "-1");
  }

  onKey(event) {
    const at = this.items?.findIndex((item) => item.node === event.target) ?? -1;
    if (at < 0) return;
    if (event.key === "Enter") this.actions.choose(this.items[at]);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      this.items[at + (event.key === "ArrowDown" ? 1 : -1)]?.node.focus();
    } else return;
    event.preventDefault();
  }

  /** Keeps the last step in the scroll box, without moving the page. */
  follow() {
    const y = this.place.y[this.position - 1];
    if (y === undefined) return;
    const heads = this.heads.offsetHeight;
    const isLast = this.position >= this.model.steps.length;
    const [top, bottom] = [this.box.scrollTop, this.box.scrollTop + this.box.clientHeight - heads];
    if (isLast && this.place.height > bottom) this.box.scrollTop = this.place.height;
    else if (y + 2 * this.place.row > bottom) this.box.scrollTop = y + 3 * this.place.row - (this.box.clientHeight - heads);
    else if (y - this.place.row < top) this.box.scrollTop = Math.max(0, y - 2 * this.place.row);
  }
}

/** Which of the six lane colours: branches keep theirs from one transfer to the next. */
export function laneColour(lane) {
  let sum = 0;
  const name = lane.name.replace(/^Old-/, "");
  const known = ["Mumbai", "Delhi", "Pune"].indexOf(name);
  if (known >= 0) return known + 1;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return (sum % 6) + 1;
}
