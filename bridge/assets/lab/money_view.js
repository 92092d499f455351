// Who holds the money now: the amount of one transfer as a bar, and as lines whose sum does not move.

import { clear, h } from "../dom.js";

const PARTS = [
  ["free", (who) => `At ${who.paying}, free to spend`],
  ["held", (who) => `At ${who.paying}, held`],
  ["transit", () => "On its way: taken, not yet paid in"],
  ["received", (who) => `At ${who.receiving}`],
  ["vanished", () => "Vanished"],
  ["made", () => "Made from nothing"],
];
/** Parts that only the old way can have: shown when they are not zero. */
const ONLY_WHEN_SOME = ["vanished", "made"];
const WIDTH = 1000n;

export class MoneyView {
  constructor(money) {
    this.money = money;
    this.bar = h("div", { class: "lab-money-bar", role: "img", "data-test": "money-bar" });
    this.segments = PARTS.map(([name]) => h("div", { class: `money-${name}` }));
    this.bar.append(...this.segments);
    this.list = h("dl");
    this.note = h("p", { class: "soft", "data-test": "money-note" });
    this.node = h("section", { class: "lab-panel lab-money", "aria-labelledby": "lab-money-title" },
      h("h2", { id: "lab-money-title" }, "Who holds the money now?"), this.bar, this.list, this.note);
  }

  /** `isVeiled`: the class is being asked, so nothing is shown until the answer is. */
  show(model, position, isVeiled = false) {
    const places = model?.places[position];
    const total = isVeiled ? 0n : places?.total ?? 0n;
    this.bar.hidden = total === 0n;
    this.list.hidden = total === 0n;
    this.note.hidden = total !== 0n;
    this.note.textContent = isVeiled ? "It is shown with the answer to the lesson's question." : model ? "No money was set aside in this transfer." : "";
    if (total === 0n) return;
    const who = { paying: nameOf(model.accounts.paying, "the payer"), receiving: nameOf(model.accounts.receiving, "the receiver") };
    PARTS.forEach(([name], index) => {
      // A share of the bar's width, not an amount: whole thousandths.
      this.segments[index].style.flexGrow = String((places[name] * WIDTH) / total);
      this.segments[index].style.flexBasis = "0";
    });
    const rows = PARTS.filter(([name]) => places[name] > 0n || !ONLY_WHEN_SOME.includes(name));
    clear(this.list).append(...rows.flatMap(([name, label]) => this.row(name, label(who), places[name])), ...this.sum(places, total));
    this.bar.setAttribute("aria-label", rows.filter(([name]) => places[name] > 0n)
      .map(([name, label]) => `${label(who)}: ${this.money.format(places[name])}`).join("; "));
  }

  row(name, label, amount) {
    const zero = amount === 0n ? "is-zero" : "";
    return [h("div", { class: `swatch money-${name}` }), h("dt", { class: zero }, label),
      h("dd", { class: zero, "data-test": `money-${name}` }, this.money.plain(amount))];
  }

  sum(places, total) {
    const there = places.free + places.held + places.transit + places.received;
    const isRight = there === total;
    return [h("div", {}), h("dt", { class: "sum" }, isRight ? "Sum: as before, as ever" : "Sum: it should be " + this.money.plain(total)),
      h("dd", { class: "sum", "data-test": "money-sum" }, this.money.plain(there))];
  }
}

function nameOf(accounts, otherwise) {
  return accounts.length === 0 ? otherwise : accounts.length <= 2 ? accounts.join(" and ") : `${accounts.length} accounts`;
}
