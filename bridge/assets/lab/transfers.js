// The list of past transfers: a filter, a choice, older and newer.

import { clear, h, icon, throttled } from "../dom.js";
import { askedWords } from "./words.js";

const LIST_MOST = 300;
/** While transfers pour in, the list is asked for no more often than this. */
const REFRESH_MS = 1_500;

export class Transfers {
  /** `onChoose(txid)`; `onList()` after each refresh. */
  constructor(app, onChoose, onList) {
    Object.assign(this, { app, onChoose, onList, list: [], chosen: null });
    this.filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter transfers", "data-test": "transfer-filter",
      oninput: () => this.draw() });
    this.select = h("select", { "aria-label": "Transfer", "data-test": "transfer-select", onchange: () => this.choose(this.select.value) });
    const button = (name, label, step, test) => h("button", { class: "button icon-only", type: "button", "aria-label": label, title: label,
      "data-test": test, onclick: () => this.move(step) }, icon(name));
    this.older = button("back", "Older transfer", 1, "older");
    this.newer = button("forward", "Newer transfer", -1, "newer");
    this.node = h("div", { class: "lab-picker" }, this.older, this.select, this.newer, this.filter);
    this.refresh = throttled(() => void this.load(), REFRESH_MS);
  }

  unmount() {
    this.refresh.cancel();
  }

  async load() {
    try {
      this.list = await this.app.api.get(`/transfers?limit=${LIST_MOST}`);
      this.draw();
      this.onList();
    } catch (error) {
      this.app.toast(error.message, "bad");
    }
  }

  has(txid) {
    return this.list.some((one) => one.txid === txid);
  }

  mark(txid) {
    this.chosen = txid;
    this.draw();
  }

  choose(txid) {
    if (txid) this.onChoose(txid);
  }

  shown() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    return this.list.filter((one) => {
      const text = `${one.txid} ${one.coordinator} ${one.text} ${one.outcome} ${(one.participants ?? []).join(" ")} ${one.is_old_way ? "old way" : ""}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  move(step) {
    const shown = this.shown();
    const at = shown.findIndex((one) => one.txid === this.chosen);
    this.choose(shown[Math.min(shown.length - 1, Math.max(0, at + step))]?.txid);
  }

  draw() {
    const shown = this.shown();
    const options = shown.map((one) => h("option", { value: one.txid }, label(one)));
    if (this.chosen && !shown.some((one) => one.txid === this.chosen)) options.unshift(h("option", { value: this.chosen }, this.chosen));
    if (options.length === 0) options.push(h("option", { value: "" }, "No transfer between branches yet"));
    clear(this.select).append(...options);
    this.select.value = this.chosen ?? "";
    const at = shown.findIndex((one) => one.txid === this.chosen);
    this.older.disabled = at >= shown.length - 1;
    this.newer.disabled = at <= 0;
  }
}

function label(one) {
  const time = new Date(Number(one.at_unix_ms)).toLocaleTimeString("en-GB");
  return `${time} · ${one.text ? askedWords(one.text) : one.txid} · ${one.is_old_way ? "the old way" : one.outcome}`;
}
