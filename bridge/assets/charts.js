// Small line charts over the last minutes, drawn as SVG. A chart keeps no points: it draws those that it is given,
// each `{at, value}` with `at` in milliseconds. A gap in time is left as a gap, not bridged by a line.

import { clear, freshId, h, setText, svg } from "./dom.js";

const WINDOW_MS = 5 * 60_000;
/** The bridge tells of the bank at least every 5 s; twice that without a word is a gap. */
const GAP_MS = 12_000;
const MARGIN = { top: 8, right: 10, bottom: 22 };

/** Makes a chart: `{node, update(points)}`. `isStepped` draws counts, which don't slide from one value to the next. */
export function makeChart({ title, unit, colour, isStepped = false, digits = 0 }) {
  const titleId = freshId("chart");
  const now = h("span", { class: "chart-now" }, "–");
  const canvas = svg("svg", { class: `chart-canvas ${colour}`, role: "img" });
  const node = h(
    "section",
    { class: "card chart", "aria-labelledby": titleId },
    h("div", { class: "spread" }, h("h2", { id: titleId }, title), h("p", { class: "chart-value" }, now, " ", unit)),
    h("div", { class: "chart-box" }, canvas),
  );
  let points = [];
  const draw = () => drawLines(canvas, points, { title, unit, isStepped, digits });
  const resized = new ResizeObserver(draw);
  resized.observe(canvas);
  return {
    node,
    update(newPoints) {
      points = newPoints;
      setText(now, points.length === 0 ? "–" : shown(points[points.length - 1].value, digits));
      draw();
    },
    unmount: () => resized.disconnect(),
  };
}

/** Points that a chart can still show. */
export function trimmed(points) {
  const oldest = Date.now() - WINDOW_MS;
  return points.filter((point) => point.at >= oldest);
}

/** Points seen here and points told: what was told counts for its time, what was seen before and after it stays. */
export function merged(seen, told) {
  if (told.length === 0) {
    return seen;
  }
  const [from, to] = [told[0].at, told[told.length - 1].at];
  return trimmed([...seen.filter(({ at }) => at < from), ...told, ...seen.filter(({ at }) => at > to)]);
}

function drawLines(canvas, points, { title, unit, isStepped, digits }) {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (width === 0 || height === 0) {
    return;
  }
  clear(canvas);
  canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
  const bottom = height - MARGIN.bottom * (rem / 16);
  const top = niceTop(Math.max(...points.map((point) => point.value), 0));
  const left = rem * (0.9 + 0.5 * shown(top, digits).length);
  const right = width - MARGIN.right;
  const end = points.length === 0 ? Date.now() : Math.max(Date.now(), points[points.length - 1].at);
  const x = (at) => right - ((end - at) / WINDOW_MS) * (right - left);
  const y = (value) => bottom - (value / top) * (bottom - MARGIN.top);

  for (const value of [0, top / 2, top]) {
    canvas.append(svg("line", { class: "chart-grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
    if (Number.isInteger(value) || digits > 0) {
      const label = svg("text", { class: "chart-label", x: left - 6, y: y(value), "text-anchor": "end", dy: "0.32em" });
      canvas.append(fillText(label, shown(value, digits)));
    }
  }
  for (const [minutes, anchor] of [
    [5, "start"],
    [2.5, "middle"],
    [0, "end"],
  ]) {
    const label = svg("text", {
      class: "chart-label",
      x: x(end - minutes * 60_000),
      y: height - 4,
      "text-anchor": anchor,
    });
    canvas.append(fillText(label, minutes === 0 ? "now" : `${minutes} min ago`));
  }
  for (const run of runs(points)) {
    const path = pathOf(run, x, y, isStepped);
    canvas.append(svg("path", { class: "chart-area", d: `${path}V${bottom}H${x(run[0].at)}Z` }));
    canvas.append(svg("path", { class: "chart-line", d: path }));
  }
  const last = points[points.length - 1];
  if (last !== undefined) {
    canvas.append(svg("circle", { class: "chart-dot", cx: x(last.at), cy: y(last.value), r: 4 }));
  }
  canvas.setAttribute("aria-label", summary(title, unit, points, digits));
}

/** Points without a gap between them. */
function runs(points) {
  const all = [];
  let previous = null;
  for (const point of points) {
    if (previous === null || point.at - previous.at > GAP_MS) {
      all.push([]);
    }
    all[all.length - 1].push(point);
    previous = point;
  }
  return all;
}

function pathOf(run, x, y, isStepped) {
  const [first, ...rest] = run;
  const steps = rest.map((point) => {
    const across = x(point.at).toFixed(1);
    const down = y(point.value).toFixed(1);
    return isStepped ? `H${across}V${down}` : `L${across} ${down}`;
  });
  return `M${x(first.at).toFixed(1)} ${y(first.value).toFixed(1)}${steps.join("")}`;
}

/** The next of 2, 4, 10, 20, 40, 100, …: its half is a whole number too. */
function niceTop(most) {
  let power = 1;
  for (;;) {
    for (const factor of [2, 4, 6, 10]) {
      if (factor * power >= most) {
        return factor * power;
      }
    }
    power *= 10;
  }
}

function shown(value, digits) {
  return value.toLocaleString("en-IN", { maximumFractionDigits: value >= 100 ? 0 : digits });
}

function summary(title, unit, points, digits) {
  if (points.length === 0) {
    return `${title}: nothing is known yet.`;
  }
  const most = Math.max(...points.map((point) => point.value));
  const last = points[points.length - 1].value;
  return `${title}: now ${shown(last, digits)} ${unit}, at most ${shown(most, digits)} in the last five minutes.`;
}

function fillText(node, text) {
  node.textContent = text;
  return node;
}
