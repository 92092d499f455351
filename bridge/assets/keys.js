// The page's keys: which press of a key is meant for the page, and not for what has the focus or for the browser.

import { remembered } from "./dom.js";

const TYPED_INTO = "input:not([type=checkbox], [type=radio], [type=range]), select, textarea, [contenteditable]";
const PRESSED_BY_SPACE = "button, a, summary, input";
const MOVED_BY_ARROWS = "input[type=radio], input[type=range]";

/** Whether a press of a key is the page's. Keys that write a character can be switched off (WCAG 2.2, 2.1.4). */
export function isForPage(event) {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return false;
  if (document.querySelector("dialog[open]") !== null) return false;
  const { key, target } = event;
  if (/^\S$/.test(key) && remembered("keys", "on") === "off") return false;
  if (!(target instanceof Element)) return true;
  if (target.closest(TYPED_INTO) !== null) return false;
  if (key === " ") return target.closest(PRESSED_BY_SPACE) === null;
  return !(/^(Arrow|Page|Home|End)/.test(key) && target.closest(MOVED_BY_ARROWS) !== null);
}
