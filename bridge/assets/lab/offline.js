// The page of one kept run, as a file: no server, no network. The bridge puts this, what it imports and the styles into
// one HTML file (bridge/src/offline_page.rs), with the run as data beside it.

import { h, remember, remembered } from "../dom.js";
import { ELEMENT, readRun } from "./run_file.js";
import { Viewer } from "./viewer.js";

const SIZES = [1, 2, 3, 4, 5, 6, 7];
const root = document.documentElement;
const content = document.getElementById("content");

function sizes() {
  const apply = (size) => {
    root.dataset.text = String(size);
    remember("text-size", String(size));
  };
  const step = (by) => () => apply(Math.min(SIZES.at(-1), Math.max(SIZES[0], Number(root.dataset.text) + by)));
  apply(SIZES.includes(Number(remembered("text-size", "2"))) ? Number(remembered("text-size", "2")) : 2);
  return [h("button", { class: "button quiet", type: "button", "aria-label": "Smaller text", onclick: step(-1) }, "A−"),
    h("button", { class: "button quiet", type: "button", "aria-label": "Larger text", onclick: step(1) }, "A+")];
}

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    root.dataset.theme = dark.matches ? "dark" : "light";
  };
  dark.addEventListener("change", apply);
  apply();
}

theme();
document.getElementById("sizes").append(...sizes());
try {
  const run = readRun(document.getElementById(ELEMENT).textContent, () => null);
  document.title = run.lesson?.title ?? run.title ?? document.title;
  content.replaceChildren();
  new Viewer(content, run);
} catch (error) {
  content.replaceChildren(h("p", { class: "notice bad" }, error.message));
}
