// Taking a transfer away: as a ShiViz log, a Mermaid diagram, text, JSON or a page that needs no server (made by the
// bridge), as a picture (made here from what is on the page), or as an address; and the lesson that is shown, as such a page.

import { h, icon, svg } from "../dom.js";

const FORMATS = [
  ["shiviz", "ShiViz log", "log", "text/plain"],
  ["mermaid", "Mermaid", "mmd", "text/plain"],
  ["text", "Plain text", "txt", "text/plain"],
  ["json", "Events as JSON", "json", "application/json"],
];
/** What a picture needs of the page's styles to look the same without them. */
const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "font-size", "font-weight",
  "font-family", "letter-spacing", "paint-order", "text-anchor"];

/** The export button with its menu. `model()` gives what is shown, `share()` its address. */
export function exportMenu(app, getModel, share) {
  const menu = h("details", { class: "lab-export", "data-test": "export" });
  const act = (label, picture, test, run) => h("button", { class: "button small", type: "button", "data-test": test, title: label, "aria-label": label, onclick: () => void run() }, icon(picture));
  const guarded = (run) => async () => {
    try {
      await run();
    } catch (error) {
      app.toast(error.message, "bad");
    }
  };
  const row = (label, test, save, copy) => h("li", {}, h("span", {}, label),
    act(`Download: ${label}`, "download", `export-${test}`, guarded(save)), act(`Copy: ${label}`, "copy", `copy-${test}`, guarded(copy)));
  const pageRow = (label, test, save) => h("li", {}, h("span", {}, label), act(`Download: ${label}`, "download", `export-${test}`, guarded(save)));
  const fetched = (format) => app.api.text(`/transfers/${encodeURIComponent(needed(getModel).txid)}/export?format=${format}`);
  menu.append(h("summary", { class: "button" }, icon("download"), "Export"), h("ul", { class: "lab-export-list", tabindex: "-1" },
    FORMATS.map(([format, label, ending, mime]) => row(label, format,
      async () => app.download(`${needed(getModel).txid}.${ending}`, await fetched(format), mime),
      async () => copyText(app, await fetched(format)))),
    pageRow("One page, playable without a server", "page", async () => {
      const { txid } = needed(getModel);
      app.download(`${txid}.html`, await app.api.text(`/transfers/${encodeURIComponent(txid)}/page`), "text/html");
    }),
    pageRow("The lesson as one page, with its questions", "lesson", async () =>
      app.download("lesson.html", await app.api.text("/scenarios/current/page"), "text/html")),
    row("Picture (SVG)", "svg", () => app.download(`${needed(getModel).txid}.svg`, picture(needed(getModel)), "image/svg+xml"),
      () => copyText(app, picture(needed(getModel))))));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  menu.addEventListener("focusout", (event) => {
    if (!menu.contains(event.relatedTarget)) menu.open = false;
  });
  const link = h("button", { class: "button", type: "button", "data-test": "share", title: "Copy the address of this transfer, at this step",
    onclick: guarded(() => copyText(app, share(), "The address is copied.")) }, icon("share"), "Share");
  return h("div", { class: "row tight" }, menu, link);
}

function needed(getModel) {
  const model = getModel();
  if (!model) throw new Error("There is no transfer to take away yet.");
  return model;
}

async function copyText(app, text, told = "Copied.") {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else if (!copyByField(text)) throw new Error("This browser lets no page copy; download it instead.");
  app.toast(told, "good");
}

/** The older way, for pages that are not on a secure origin. */
function copyByField(text) {
  const field = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  field.value = text;
  document.body.append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  return isDone;
}

/** The diagram as it stands, as an SVG file that needs nothing else. */
function picture(model) {
  const shown = document.querySelector(".lab-svg");
  const copy = shown.cloneNode(true);
  const originals = [shown, ...shown.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((node, index) => inline(node, getComputedStyle(originals[index])));
  copy.querySelectorAll(".hit, .hit-area, .now-band").forEach((node) => node.remove());
  const [width, height] = [shown.viewBox.baseVal.width, shown.viewBox.baseVal.height];
  const top = 56;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const heads = [...document.querySelectorAll(".lab-head")].map((head) => {
    const x = parseFloat(head.style.left);
    const state = head.querySelector(".pill").textContent;
    return [svg("text", { x, y: 22, "text-anchor": "middle", "font-weight": 700, fill: colour("--ink") }, head.dataset.lane),
      svg("text", { x, y: 42, "text-anchor": "middle", "font-size": 13, fill: colour("--ink-soft") }, state)];
  });
  const whole = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height: height + top, viewBox: `0 0 ${width} ${height + top}`,
    "font-family": "system-ui, sans-serif", "font-size": 15 },
    svg("title", {}, `Transfer ${model.txid}`), svg("rect", { width, height: height + top, fill: colour("--surface") }), heads.flat());
  copy.setAttribute("y", top);
  whole.append(copy);
  return new XMLSerializer().serializeToString(whole);
}

function inline(node, style) {
  for (const name of STYLES) {
    const value = style.getPropertyValue(name);
    // A reference to a pattern or a head stays as it is written; the computed one names this page.
    if (value && !value.includes("url(")) node.setAttribute(name, value);
  }
  for (const name of ["class", "tabindex", "role", "data-key", "data-fate", "data-message"]) {
    if (name !== "class" || !/hit|now-band/.test(node.getAttribute("class") ?? "")) node.removeAttribute(name);
  }
}
