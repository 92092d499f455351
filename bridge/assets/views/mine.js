// A customer's own account: what it holds and what can be spent, followed live, and the latest transactions.

import { withQuery } from "../api.js";
import { h, icon, reconcile, setChildren, setFigure, setText } from "../dom.js";
import { outcome } from "../fields.js";
import { dayAndTime, typeName } from "../format.js";

const LATEST = 6;

/** Shows the account of the customer who is signed in. */
export function mountMine(root, app) {
  const { branch, account } = app.session;
  const { money } = app;
  const name = h("p", { class: "soft", "data-test": "own-name" }, "…");
  const balance = h("p", { class: "figure", "data-test": "own-balance", role: "status" }, "…");
  const note = h("p", { class: "soft", "data-test": "own-note" });
  const told = outcome("own-result");
  const list = h("ol", { class: "ticker latest", "data-test": "own-latest" });
  const empty = h("p", { class: "empty", hidden: true }, "No transactions yet.");
  const away = h("p", { class: "notice warn", hidden: true });

  root.append(
    h("h1", { tabindex: "-1" }, "My account"),
    away,
    told.node,
    h(
      "section",
      { class: "card total", "aria-labelledby": "own-title" },
      h("h2", { id: "own-title" }, `${branch} ${account}`),
      name,
      balance,
      note,
      h(
        "div",
        { class: "row" },
        h("a", { class: "button primary", href: "#operate" }, icon("swap"), "Deposit, withdraw, transfer"),
      ),
    ),
    h(
      "section",
      { class: "card", "aria-labelledby": "latest-title" },
      h(
        "div",
        { class: "spread" },
        h("h2", { id: "latest-title" }, "Latest transactions"),
        h("a", { class: "button small", href: "#transactions" }, "All"),
      ),
      list,
      empty,
    ),
  );

  function show(holds) {
    setFigure(balance, money.format(holds.balance));
    const held = money.toPaise(holds.balance) - money.toPaise(holds.available);
    setText(
      note,
      held === 0n
        ? "All of it can be spent."
        : `${money.format(held)} is held for a transfer under way; ${money.format(holds.available)} can be spent.`,
    );
  }

  async function load() {
    try {
      const holds = await app.api.post("/balance", { branch, account });
      told.hide();
      setText(name, holds.name);
      show(holds);
      await loadLatest();
    } catch (error) {
      told.show("bad", error.message);
    }
  }

  async function loadLatest() {
    const lines = await app.api.get(withQuery("/history", { branch, account, limit: LATEST }));
    empty.hidden = lines.length > 0;
    reconcile(
      list,
      lines,
      (line) => line.transaction_id,
      (line) => h("li", null, makeLine(line)),
    );
  }

  function makeLine(line) {
    const goesOut = line.from_account === account;
    return h(
      "div",
      null,
      h(
        "span",
        { class: "ticker-text" },
        `${typeName(line.type)} ${goesOut ? "to" : "from"} ${goesOut ? line.to_account : line.from_account}`,
      ),
      h("time", { class: "soft", datetime: line.date }, dayAndTime(line.date)),
      h("span", { class: goesOut ? "amount" : "amount comes-in" }, goesOut ? "−" : "+", money.plain(line.amount)),
    );
  }

  function showBranch(bank) {
    const mine = bank.branches.find((one) => one.name === branch);
    const isDown = mine?.state === "down";
    if (away.hidden === isDown) {
      away.hidden = !isDown;
      setChildren(
        away,
        icon("warning"),
        h(
          "span",
          { class: "notice-text" },
          `Your branch ${branch} does not answer. Your money is safe on its disk; what you see is the last that it told.`,
        ),
      );
    }
  }

  if (app.bank !== null) {
    showBranch(app.bank);
  }
  void load();
  const offs = [
    app.on("bank", showBranch),
    app.on("account", (holds) => {
      if (String(holds.account) === String(account)) {
        show(holds);
        void loadLatest().catch(() => {});
      }
    }),
    app.on("connection", (connection) => connection === "live" && void load()),
  ];
  return {
    unmount() {
      offs.forEach((off) => off());
    },
  };
}
