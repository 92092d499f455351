// Transactions, newest first, by branch, account, type and time; the same as CSV. The first page follows what
// happens; a page further back stays still, so that it can be read.

import { withQuery } from "../api.js";
import { debounced, h, icon, throttled } from "../dom.js";
import { branchChoice, choice, field, outcome } from "../fields.js";
import { TRANSACTION_TYPES, dayAndTime, typeName } from "../format.js";
import { makePager, makeTable } from "../table.js";

const PAGE = 50;
const FOLLOW_MS = 2_000;
const TYPING_MS = 300;

/** Shows the transactions; `params` may have branch, account, type, from and to. */
export function mountTransactions(root, app, params) {
  const isOwn = app.session.role === "customer";
  const told = outcome("transactions-result");
  const changed = debounced(() => filter(), TYPING_MS);
  const branch = isOwn
    ? null
    : branchChoice(app, {
        id: "transactions-branch",
        label: "Branch",
        all: "All branches",
        wanted: params.branch,
        onchange: changed,
      });
  const account = field({
    id: "transactions-account",
    label: "Account",
    inputmode: "numeric",
    placeholder: "all",
    value: params.account ?? "",
    oninput: changed,
  });
  const type = choice({
    id: "transactions-type",
    label: "Type",
    options: [["", "All types"], ...TRANSACTION_TYPES.map((one) => [one, typeName(one)])],
  });
  const from = field({
    id: "transactions-from",
    label: "From",
    type: "datetime-local",
    step: "1",
    value: params.from ?? "",
    oninput: changed,
  });
  const to = field({
    id: "transactions-to",
    label: "Until",
    type: "datetime-local",
    step: "1",
    value: params.to ?? "",
    oninput: changed,
  });
  const csv = h(
    "a",
    {
      class: "button",
      id: "transactions-csv",
      download: "transactions.csv",
      title: "At most a million rows; a file that is cut says so in its last line.",
    },
    icon("download"),
    "CSV",
  );
  const reset = h(
    "button",
    { class: "button", type: "button", id: "transactions-reset", onclick: clearFilter },
    "Clear",
  );
  const table = makeTable({
    caption: "Transactions",
    columns: columns(app, () => query().account, isOwn),
    keyOf: (line) => `${line.branch} ${line.transaction_id}`,
    test: "transactions-table",
  });
  const pager = makePager({
    test: "transactions",
    load: async (after) => {
      const { result, next } = await app.api.getPage(withQuery("/history", { ...query(), after, limit: PAGE }));
      return { rows: result, next };
    },
    show: (rows, isMore) => {
      told.hide();
      table.show(rows, isMore ? "None of the newest matches. Next looks further back." : "No transaction matches.");
    },
    failed: (error) => told.show("bad", error.message),
  });
  type.input.value = TRANSACTION_TYPES.includes(params.type) ? params.type : "";
  type.input.addEventListener("change", changed);

  root.append(
    h("div", { class: "spread" }, h("h1", { tabindex: "-1" }, isOwn ? "My transactions" : "Transactions"), csv),
    h(
      "form",
      { class: "filters", role: "search", "aria-label": "Transactions", onsubmit: (event) => event.preventDefault() },
      branch?.node,
      isOwn ? null : account.node,
      type.node,
      from.node,
      to.node,
      h("div", { class: "field buttons" }, reset),
    ),
    told.node,
    h("section", { class: "card flush", "aria-label": "List of transactions" }, table.node),
    h("div", { class: "spread" }, h("span"), pager.node),
  );

  function query() {
    const own = isOwn
      ? { branch: app.session.branch, account: app.session.account }
      : { branch: branch.value(), account: account.input.value.trim() };
    return { ...own, type: type.input.value, from: asUtc(from.input.value), to: asUtc(to.input.value) };
  }

  function filter() {
    const now = query();
    csv.href = withQuery("/history", { ...now, format: "csv" });
    csv.download = `transactions-${now.branch || "bank"}${now.account === "" ? "" : `-${now.account}`}.csv`;
    app.replaceHash(
      withQuery(
        "#transactions",
        isOwn
          ? { type: now.type, from: from.input.value, to: to.input.value }
          : { ...now, from: from.input.value, to: to.input.value },
      ),
    );
    void pager.first();
  }

  function clearFilter() {
    for (const one of [account, type, from, to]) {
      one.input.value = "";
    }
    filter();
  }

  const follow = throttled(() => pager.isFirst() && void pager.again(), FOLLOW_MS);
  let seen = null;
  const offs = [
    app.on("bank", (bank) => {
      const state = bank.branches.map((one) => `${one.name} ${one.state} ${one.transactions}`).join();
      if (state !== seen) {
        seen = state;
        follow();
      }
    }),
    app.on("account", follow),
  ];
  branch?.refresh();
  changed.cancel();
  filter();
  return {
    unmount() {
      offs.forEach((off) => off());
      branch?.off();
      follow.cancel();
      changed.cancel();
    },
  };
}

/** A local time of a field as ISO-8601 in UTC. */
function asUtc(local) {
  const date = new Date(local);
  return local === "" || Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

function columns(app, accountOf, isOwn) {
  const party = (name) => h("span", { class: /^\d+$/.test(name) ? "mono" : "" }, name);
  /** From the side of one account, money that goes out has a minus. */
  const signed = (line) => {
    const account = accountOf();
    const sign = account === "" ? "" : line.from_account === account ? "−" : "+";
    return h("span", { class: `amount ${sign === "+" ? "comes-in" : ""}` }, sign, app.money.plain(line.amount));
  };
  const transfer = (line) => {
    if ((line.txid ?? null) === null) {
      return "";
    }
    return isOwn
      ? h("span", { class: "mono soft", title: line.txid }, line.txid)
      : h("a", { href: withQuery("#lab", { txid: line.txid }), class: "mono" }, line.txid);
  };
  return [
    ...(isOwn ? [] : [{ title: "Branch", cell: (line) => line.branch }]),
    { title: "No.", isNumber: true, cell: (line) => String(line.transaction_id) },
    { title: "Time", cell: (line) => h("time", { datetime: line.date, title: line.date }, dayAndTime(line.date)) },
    { title: "Type", cell: (line) => typeName(line.type) },
    { title: "From", cell: (line) => party(line.from_account) },
    { title: "To", cell: (line) => party(line.to_account) },
    { title: "Amount (Rs)", isNumber: true, cell: signed },
    { title: "Between branches", cell: transfer },
  ];
}
