// The accounts of a branch: found by number or name, opened, closed. The list follows what happens at the branch.

import { withQuery } from "../api.js";
import { debounced, h, icon, setText, throttled } from "../dom.js";
import { branchChoice, field, outcome } from "../fields.js";
import { count } from "../format.js";
import { sheet } from "../frame.js";
import { order } from "../orders.js";
import { makePager, makeTable } from "../table.js";

const PAGE = 25;
const FOLLOW_MS = 2_000;
const TYPING_MS = 250;

/** Shows the accounts; `params.branch` says of which branch. */
export function mountAccounts(root, app, params) {
  const told = outcome("accounts-result");
  const search = field({
    id: "accounts-search",
    label: "Search",
    type: "search",
    placeholder: "name or number",
    oninput: debounced(() => void pager.first(), TYPING_MS),
  });
  const branch = branchChoice(app, {
    id: "accounts-branch",
    label: "Branch",
    wanted: params.branch,
    onchange: changed,
  });
  const total = h("p", { class: "soft" });
  const table = makeTable({
    caption: "Accounts",
    columns: columns(app, (line) => void close(line)),
    keyOf: (line) => line.account_no,
    test: "accounts-table",
  });
  const pager = makePager({
    test: "accounts",
    load: async (after) => {
      const query = { branch: branch.value(), after, limit: PAGE, q: search.input.value.trim() };
      const { result, next } = await app.api.getPage(withQuery("/list_accounts", query));
      return { rows: result.map((line) => ({ ...line, branch: query.branch })), next };
    },
    show: (rows) => {
      told.hide();
      table.show(rows, search.input.value.trim() === "" ? "This branch has no accounts yet." : "No account matches.");
    },
    failed: (error) => told.show("bad", error.message),
  });

  root.append(
    h(
      "div",
      { class: "spread" },
      h("h1", { tabindex: "-1" }, "Accounts"),
      h(
        "button",
        { class: "button primary", id: "open-account", onclick: () => openDialog(app, branch.value(), pager) },
        icon("plus"),
        "Open an account",
      ),
    ),
    h(
      "form",
      { class: "filters", role: "search", "aria-label": "Accounts", onsubmit: (event) => event.preventDefault() },
      branch.node,
      search.node,
    ),
    told.node,
    h("section", { class: "card flush", "aria-label": "List of accounts" }, table.node),
    h("div", { class: "spread" }, total, pager.node),
  );

  function changed(name) {
    app.replaceHash(withQuery("#accounts", { branch: name }));
    tally();
    void pager.first();
  }

  function tally() {
    const card = app.bank?.branches.find((one) => one.name === branch.value() && one.role !== "replica");
    const isKnown = card !== undefined && (card.accounts ?? null) !== null;
    setText(
      total,
      isKnown ? `${count(card.accounts)} open in ${card.name}, holding ${app.money.format(card.balances)}` : "",
    );
  }

  async function close(line) {
    const agreed = await app.confirm({
      title: `Close account ${line.account_no}?`,
      text: [
        `${line.name}, branch ${line.branch}. The balance of ${app.money.format(line.balance)} is paid out in cash.`,
        "A closed account takes part in nothing any more; its history stays.",
      ],
      action: "Close the account",
      danger: true,
    });
    if (!agreed) {
      return;
    }
    try {
      const { paid_out } = await app.api.post("/close_account", { branch: line.branch, account: line.account_no });
      app.toast(`Account ${line.account_no} is closed; ${app.money.format(paid_out)} paid out.`, "good");
    } catch (error) {
      app.toast(error.message, "bad");
    }
    void pager.again();
  }

  let seen = "";
  const follow = throttled(() => void pager.again(), FOLLOW_MS);
  const off = app.on("bank", () => {
    tally();
    const card = app.bank.branches.find((one) => one.name === branch.value());
    const state = `${card?.state} ${card?.transactions} ${card?.accounts} ${card?.in_doubt}`;
    if (state !== seen) {
      seen = state;
      follow();
    }
  });
  branch.refresh();
  return {
    update(newParams) {
      if (newParams.branch !== undefined && newParams.branch !== branch.value()) {
        branch.input.value = newParams.branch;
        tally();
        void pager.first();
      }
    },
    unmount() {
      off();
      branch.off();
      follow.cancel();
    },
  };
}

function columns(app, close) {
  const { money } = app;
  const link = (hash, line, text, label) =>
    h(
      "a",
      {
        class: "button small quiet",
        href: withQuery(hash, { branch: line.branch, account: line.account_no }),
        "aria-label": `${label} ${line.account_no}`,
      },
      text,
    );
  return [
    { title: "Account", cell: (line) => h("strong", { class: "mono" }, line.account_no) },
    { title: "Name", cell: (line) => line.name },
    {
      title: "Balance (Rs)",
      isNumber: true,
      cell: (line) => h("span", { class: "amount" }, money.plain(line.balance)),
    },
    {
      title: "Held (Rs)",
      isNumber: true,
      cell: (line) =>
        h("span", { class: money.toPaise(line.held) > 0n ? "amount lit" : "amount soft" }, money.plain(line.held)),
    },
    {
      title: "Available (Rs)",
      isNumber: true,
      cell: (line) =>
        h("span", { class: "amount" }, money.plain(money.toPaise(line.balance) - money.toPaise(line.held))),
    },
    {
      title: "What can be done",
      isAction: true,
      cell: (line) => [
        link("#operate", line, "Operate", "Operate on account"),
        link("#transactions", line, "Transactions", "Transactions of account"),
        h(
          "button",
          {
            class: "button small quiet warns",
            "data-test": `close-${line.account_no}`,
            "aria-label": `Close account ${line.account_no}`,
            onclick: () => close(line),
          },
          "Close…",
        ),
      ],
    },
  ];
}

/** The form of a new account, in a dialog. */
function openDialog(app, wantedBranch, pager) {
  const opening = order("open");
  const told = outcome("open-result");
  const branch = branchChoice(app, { id: "open-branch", label: "Branch", wanted: wantedBranch });
  const name = field({ id: "open-name", label: "Name", required: true, maxlength: 100 });
  const balance = field({ id: "open-balance", label: "Opening balance (Rs)", inputmode: "decimal", value: "1000.00" });
  const account = field({
    id: "open-number",
    label: "Account number",
    inputmode: "numeric",
    hint: "Empty: the next free one.",
  });
  const aadhaar = field({
    id: "open-aadhaar",
    label: "Aadhaar number",
    inputmode: "numeric",
    hint: "12 digits; may be empty.",
  });
  const phone = field({ id: "open-phone", label: "Phone", inputmode: "tel", hint: "10 digits; may be empty." });
  const password = field({
    id: "open-password",
    label: "Password",
    type: "password",
    autocomplete: "new-password",
    hint: "4 to 128 characters; without one, nobody can sign in to the account.",
  });
  const sms = h("input", { type: "checkbox", id: "open-sms" });
  const submit = h("button", { class: "button primary", type: "submit", id: "open-submit" }, "Open the account");
  const cancel = h(
    "button",
    { class: "button", type: "button", id: "open-cancel", onclick: () => dialog.close() },
    "Cancel",
  );
  branch.refresh();

  function give(event) {
    event.preventDefault();
    const amount = app.money.readTyped(balance.input.value === "" ? "0" : balance.input.value, { zero: true });
    if (name.input.value.trim() === "") {
      name.fail("Enter the customer's name.");
      return;
    }
    if (amount.problem !== undefined) {
      balance.fail(amount.problem);
      return;
    }
    const optional = { account, aadhar_num: aadhaar, phone_num: phone };
    const body = { branch: branch.value(), name: name.input.value.trim(), balance: amount.amount };
    for (const [key, one] of Object.entries(optional)) {
      if (one.input.value.trim() !== "") {
        body[key] = one.input.value.trim();
      }
    }
    if (password.input.value !== "") {
      body.password = password.input.value;
    }
    if (sms.checked) {
      body.sms = true;
    }
    opening.give(app, "/create_account", body, saidOpened);
  }

  const form = h(
    "form",
    { novalidate: true, onsubmit: give },
    h(
      "div",
      { class: "form-grid" },
      branch.node,
      name.node,
      balance.node,
      account.node,
      aadhaar.node,
      phone.node,
      password.node,
    ),
    h("label", { class: "check", for: "open-sms" }, sms, " A text message after each movement"),
    told.node,
    h("div", { class: "row end" }, cancel, submit),
  );
  const dialog = sheet("Open an account", [form]);
  opening.listen({
    changed(state) {
      submit.disabled = state === "under-way";
    },
    done(result, body) {
      dialog.close();
      app.toast(saidOpened(result, body), "good");
      void pager.again();
    },
    failed(error, isUnsure) {
      told.show("bad", error.message, isUnsure ? " Press the button again: the account is opened once." : null);
    },
  });
  submit.disabled = opening.state === "under-way";
  dialog.addEventListener("close", () => {
    opening.listen(null);
    branch.off();
  });
  dialog.showModal();
  name.input.focus();
}

function saidOpened(result, body) {
  return `Account ${result.account_no} is open at ${body.branch} for ${body.name}.`;
}
