// The small shapes of the diagram: disks, arrow heads, crosses, the hatching of doubt. Meaning never hangs on colour
// alone: forced is filled and unforced is hollow, each family of messages has a head of its own.

import { svg } from "../dom.js";

/** A disk as databases are drawn; filled when the record was forced. */
export function disk(x, y, size, isForced) {
  const [w, top] = [size * 0.5, size * 0.22];
  const body = `M${x - w} ${y - size / 2 + top}v${size - 2 * top}a${w} ${top} 0 0 0 ${2 * w} 0v${-(size - 2 * top)}`
    + `a${w} ${top} 0 0 0 ${-2 * w} 0`;
  const lid = `M${x - w} ${y - size / 2 + top}a${w} ${top} 0 0 0 ${2 * w} 0`;
  return svg("g", { class: isForced ? "disk forced" : "disk unforced" }, svg("path", { class: "disk-body", d: `${body}z` }),
    svg("path", { class: "disk-lid", d: lid }));
}

export function cross(x, y, size) {
  const d = `M${x - size} ${y - size}L${x + size} ${y + size}M${x + size} ${y - size}L${x - size} ${y + size}`;
  return svg("g", {}, svg("path", { class: "cross-halo", d }), svg("path", { class: "cross", d }));
}

/** A flash, for a crash. */
export function flash(x, y, size) {
  const at = (dx, dy) => `${x + dx * size} ${y + dy * size}`;
  const d = `M${at(0.15, -1)}L${at(-0.65, 0.15)}L${at(-0.05, 0.15)}L${at(-0.2, 1)}L${at(0.65, -0.2)}L${at(0.05, -0.2)}z`;
  return svg("path", { class: "flash", d });
}

/** A ring with an arrow, for a start. */
export function restart(x, y, size) {
  const d = `M${x + size * 0.7} ${y - size * 0.5}A${size * 0.85} ${size * 0.85} 0 1 0 ${x + size * 0.85} ${y + size * 0.2}`;
  const head = `M${x + size * 0.95} ${y - size}L${x + size * 0.8} ${y - size * 0.25}L${x + size * 0.1} ${y - size * 0.55}z`;
  return svg("g", { class: "restart" }, svg("circle", { class: "restart-ground", cx: x, cy: y, r: size * 1.2 }),
    svg("path", { class: "restart-ring", d }), svg("path", { class: "restart-head", d: head }));
}

const HEADS = {
  ask: [["M2 1L11 6L2 11L4.5 6z", ""]],
  yes: [["M1 1L11 6L1 11z", ""]],
  no: [["M1 1L8 6L1 11z", ""], ["M10 0.5V11.5", "bar"]],
  commit: [["M0 1.5L6 6L0 10.5z", ""], ["M5 1L12 6L5 11z", ""]],
  inquiry: [["M1.5 6L6.5 2L11.5 6L6.5 10z", "hollow"]],
  client: [["M2 1L11 6L2 11", "bar"]],
  open: [["M2 1L11 6L2 11", "bar"]],
};
/** How arrows look by family; the same class is on the arrow and in its head. */
export const FAMILIES = ["ask", "yes", "no", "commit", "inquiry", "client"];

/** The definitions that the arrows and bars refer to; `prefix` keeps two pictures on one page apart. */
export function definitions(prefix, rem) {
  const size = rem * 0.8;
  const marker = (id, family, shapes) => svg("marker", {
    id: `${prefix}-${id}`, viewBox: "-1 -1 14 14", refX: 11, refY: 6, markerWidth: size, markerHeight: size,
    markerUnits: "userSpaceOnUse", orient: "auto", class: `head ${family}`,
  }, shapes.map(([d, kind]) => svg("path", { d, class: `head-shape ${kind}` })));
  return svg("defs", {},
    FAMILIES.map((family) => marker(family, family, HEADS[family])),
    FAMILIES.map((family) => marker(`${family}-open`, family, HEADS.open)),
    svg("pattern", { id: `${prefix}-hatch`, width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { class: "hatch-ground", width: 8, height: 8 }), svg("rect", { class: "hatch-stripe", width: 3, height: 8 })));
}
