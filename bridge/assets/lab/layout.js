// Where everything of the diagram stands, in pixels. Pure: numbers in, numbers out.
//
// Time goes down, one row to a step, because labels are read across and lectures are told in order; lanes stand side
// by side, the client first. Distances are multiples of the root font size, so the text-size control holds here too.

/** Below this width, in rem, labels are short and lanes narrow. */
const NARROW_REM = 38;

const WIDE = { left: 3.2, alone: 11.5, clientGap: 12.2, gap: 10, gapMost: 26, right: 10.4, row: 2.15, top: 0.9 };
const NARROW = { left: 2.4, alone: 5.6, clientGap: 5.4, gap: 6.9, gapMost: 12, right: 6, row: 2.25, top: 0.9 };
/** What a row is higher by for the buttons of a waiting message. */
const WAITING_REM = 2.9;

/** `{width, height, x: [lane], y: [step], bottom, isNarrow, rem}` for a box of `boxWidth` pixels. */
export function layout(model, boxWidth, rem, position) {
  const isNarrow = boxWidth / rem < NARROW_REM;
  const size = isNarrow ? NARROW : WIDE;
  const hasClient = model.lanes[0]?.role === "client";
  const branches = model.lanes.length - (hasClient ? 1 : 0);
  const start = hasClient ? size.left + size.clientGap : size.alone;
  const free = boxWidth / rem - start - size.right;
  const gap = branches > 1 ? Math.min(size.gapMost, Math.max(size.gap, free / (branches - 1))) : 0;
  const x = model.lanes.map((lane, index) => rem * (lane.role === "client" ? size.left : start + gap * (index - (hasClient ? 1 : 0))));
  const y = [];
  let next = size.top * rem + (size.row * rem) / 2;
  const isPresent = position >= model.steps.length;
  for (const step of model.steps) {
    y.push(next);
    const waits = isPresent && step.kind === "sent" ? step.message.waiting.length : 0;
    next += size.row * rem + waits * WAITING_REM * rem;
  }
  const bottom = next - (size.row * rem) / 2 + size.row * rem * 0.6;
  const width = Math.max(boxWidth, (x.at(-1) ?? 0) + size.right * rem);
  return { width, height: bottom, x, y, bottom, isNarrow, rem, row: size.row * rem };
}

/** The y down to which time has gone when `position` steps have happened. */
export function present(place, position) {
  if (position >= place.y.length) return place.bottom;
  return position === 0 ? 0 : (place.y[position - 1] + place.y[position]) / 2;
}

/** The point at the share `t` of a line. */
export function along(line, t) {
  return { x: line.x1 + (line.x2 - line.x1) * t, y: line.y1 + (line.y2 - line.y1) * t };
}

/**
 * A message's lines when `position` steps have happened: `[{line, how, isAgain, step}]`, `how` one of received,
 * flight, waiting, lost, gone. A message that arrives twice has two.
 */
export function messageLines(message, place, position, fate) {
  const [from, to] = [place.x[message.from], place.x[message.to]];
  const side = Math.sign(to - from) || 1;
  const start = { x1: from + side * 0.45 * place.rem };
  const end = to - side * 0.5 * place.rem;
  const y1 = message.sentStep !== null ? place.y[message.sentStep] : null;
  const lines = message.arrivals.filter((arrival) => arrival.step < position).map((arrival) => ({
    how: "received", isAgain: arrival.isAgain, step: arrival.step,
    line: { ...start, x2: end, y1: y1 ?? place.y[arrival.step] - 0.6 * place.row, y2: place.y[arrival.step] },
  }));
  const toY = (share, y2) => ({ ...start, y1, x2: start.x1 + (end - start.x1) * share, y2 });
  // Of a message that was doubled, one copy can arrive and the other be lost.
  if (message.lostStep !== null && message.lostStep < position) {
    const y2 = place.y[message.lostStep];
    lines.push({ how: "lost", step: message.lostStep, line: { ...toY(0.82, y2), y1: y1 ?? y2 - 0.6 * place.row } });
  }
  if (y1 === null) return lines;
  if (fate === "waiting") {
    message.waiting.forEach((waiting, index) => lines.push({
      how: "waiting", waiting, line: toY(0.93, y1 + place.row * 0.55 + index * WAITING_REM * place.rem),
    }));
  } else if (fate === "gone") {
    lines.push({ how: "gone", line: toY(0.5, y1 + place.row * 0.3) });
  } else if (fate === "flight") {
    const arrival = message.arrivals[0]?.step ?? message.lostStep;
    const whole = arrival === undefined || arrival === null ? y1 + place.row : place.y[arrival];
    const share = Math.min(0.85, Math.max(0.35, (present(place, position) - y1) / Math.max(1, whole - y1)));
    lines.push({ how: "flight", line: toY(share, y1 + (whole - y1) * share) });
  }
  return lines;
}

/** Shares of a line at which its label is tried, the best first. */
const SHARES = [0.5, 0.36, 0.62, 0.25, 0.74];

/**
 * Where a line's label stands: above the line, in the gap beside the outer of its two lanes, where no other message of a
 * fan runs, and where it meets no label of `taken` if there is such a place. Adds itself to `taken`.
 */
export function labelPoint(line, message, place, width, taken) {
  const outer = Math.max(message.from, message.to);
  const gap = place.x[outer] - place.x[outer - 1];
  const options = SHARES.map((share) => {
    const x = place.x[outer - 1] + gap * share;
    const t = Math.min(0.9, Math.max(0.1, (x - line.x1) / (line.x2 - line.x1 || 1)));
    const point = along(line, t);
    return boxed({ x: point.x, y: point.y - 0.5 * place.rem }, width, place.rem, "middle");
  });
  const cost = (option) => taken.filter((other) => meets(option, other)).length;
  const best = options.reduce((best, option) => (cost(option) < cost(best) ? option : best));
  taken.push(best);
  return best;
}

/** A text's place with its extent. */
export function boxed(point, width, rem, anchor) {
  const left = anchor === "middle" ? point.x - width / 2 : anchor === "end" ? point.x - width : point.x;
  return { ...point, left, right: left + width, top: point.y - 0.8 * rem, bottom: point.y + 0.2 * rem };
}

/** Whether two texts' extents touch. */
export function meets(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
