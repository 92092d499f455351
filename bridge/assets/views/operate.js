// Deposit, withdraw, transfer: at one branch, or between two by two-phase commit. Each form gives its order once
// (orders.js) and tells how it went beside its button. A customer operates on the own account alone.

import { withQuery } from "../api.js";
import { h, icon, throttled } from "../dom.js";
import { accountPicker, field, outcome } from "../fields.js";
import { order } from "../orders.js";

export { forgetOrders } from "../orders.js";

/** An order that takes longer waits for another branch, or for somebody to deliver its messages. */
const SLOW_MS = 2_500;
const FOLLOW_MS = 1_500;

/** Shows the forms; `params.branch` and `params.account` are filled in as the own or the paying account. */
export function mountOperate(root, app, params) {
  const isOwn = app.session.role === "customer";
  const forms = [
    transferForm(app, params, isOwn),
    counterForm(app, params, isOwn, "deposit"),
    counterForm(app, params, isOwn, "withdraw"),
  ];
  root.append(
    h("h1", { tabindex: "-1" }, "Operate"),
    h(
      "div",
      { class: "operate" },
      forms.map((form) => form.node),
    ),
  );
  let seen = "";
  const follow = throttled(() => forms.forEach((form) => form.refresh()), FOLLOW_MS);
  const off = app.on("bank", (bank) => {
    const state = bank.branches
      .map((branch) => `${branch.name} ${branch.state} ${branch.transactions} ${branch.in_doubt}`)
      .join();
    if (state !== seen) {
      seen = state;
      follow();
    }
  });
  return {
    unmount() {
      off();
      follow.cancel();
      forms.forEach((form) => form.unmount());
    },
  };
}

function counterForm(app, params, isOwn, kind) {
  const isDeposit = kind === "deposit";
  const picker = accountPicker(app, { id: kind, legend: isDeposit ? "Into" : "From", wanted: params, isOwn });
  return orderForm(app, {
    kind,
    path: `/${kind}`,
    title: isDeposit ? "Deposit" : "Withdraw",
    picture: kind,
    action: isDeposit ? "Deposit" : "Withdraw",
    pickers: [picker],
    bodyOf: (amount) => ({ ...picker.value(), amount }),
    say: (result, body) =>
      `${app.money.format(body.amount)} ${isDeposit ? "deposited to" : "withdrawn from"} ${body.branch} ${body.account}. The balance is ${app.money.format(result.balance)}.`,
    tell: () => null,
  });
}

function transferForm(app, params, isOwn) {
  const from = accountPicker(app, { id: "transfer-from", legend: "From", wanted: params, isOwn });
  const to = accountPicker(app, { id: "transfer-to", legend: "To", place: 1 });
  return orderForm(app, {
    kind: "transfer",
    path: "/transfer",
    title: "Transfer",
    picture: "swap",
    action: "Transfer",
    pickers: [from, to],
    bodyOf: (amount) => {
      const [payer, payee] = [from.value(), to.value()];
      return {
        src_branch: payer.branch,
        src_account: payer.account,
        dest_branch: payee.branch,
        dest_account: payee.account,
        amount,
      };
    },
    say: (result, body) => sayTransfer(app, result, body),
    tell: (result) =>
      result.txid === undefined || isOwn
        ? null
        : h(
            "a",
            { class: "button small", href: withQuery("#lab", { txid: result.txid }), "data-test": "transfer-lab" },
            icon("lab"),
            "See it in the lab",
          ),
  });
}

function sayTransfer(app, result, body) {
  const what = `${app.money.format(body.amount)} transferred from ${body.src_branch} ${body.src_account} to ${body.dest_branch} ${body.dest_account}.`;
  if (result.txid === undefined) {
    return result.from?.balance === undefined
      ? what
      : `${what} The payer's balance is ${app.money.format(result.from.balance)}.`;
  }
  return result.delivery === "pending"
    ? `${what} It is decided; ${body.dest_branch} is told as soon as it answers.`
    : `${what} Both branches have committed.`;
}

/** A form around an order: fields, the button, and how it went. */
function orderForm(app, { kind, path, title, picture, action, pickers, bodyOf, say, tell }) {
  const given = order(kind);
  const amount = field({
    id: `${kind}-amount`,
    label: "Amount (Rs)",
    inputmode: "decimal",
    required: true,
    placeholder: "0.00",
  });
  const told = outcome(`${kind}-result`);
  const submit = h(
    "button",
    { class: "button primary wide", type: "submit", id: `${kind}-submit` },
    icon(picture),
    action,
  );
  let slowTimer = 0;

  function give(event) {
    event.preventDefault();
    if (!pickers.every((picker) => picker.isComplete())) {
      return;
    }
    const typed = app.money.readTyped(amount.input.value);
    if (typed.problem !== undefined) {
      amount.fail(typed.problem);
      return;
    }
    given.give(app, path, bodyOf(typed.amount), say);
  }

  function changed(state) {
    clearTimeout(slowTimer);
    submit.disabled = state === "under-way";
    if (state === "under-way") {
      told.show("info", "Under way…");
      slowTimer = setTimeout(tellSlow, SLOW_MS);
    }
  }

  function tellSlow() {
    const isStaff = app.session.role !== "customer";
    told.show(
      "info",
      "Still under way: another branch has not answered yet.",
      isStaff && app.session.teaching
        ? [" In step mode, messages wait until they are delivered in the ", h("a", { href: "#lab" }, "lab"), "."]
        : null,
    );
  }

  function done(result, body) {
    told.show("good", h("p", { "data-test": `${kind}-done` }, say(result, body)), tell(result));
    amount.input.value = "";
    pickers.forEach((picker) => picker.refresh());
  }

  function failed(error, isUnsure) {
    if (!isUnsure) {
      told.show("bad", h("p", { "data-test": `${kind}-failed` }, error.message));
      pickers.forEach((picker) => picker.refresh());
      return;
    }
    const branch = given.body.src_branch ?? given.body.branch;
    tellUnsure(error.code === "outcome_unknown" ? `${branch} broke off before it answered.` : error.message);
  }

  function tellUnsure(reason) {
    told.show(
      "warn",
      h(
        "p",
        null,
        h("strong", null, "Nobody knows yet whether it was carried out."),
        ` ${reason} Send it again: the bank carries it out once, however often it is sent.`,
      ),
      h("p", { class: "soft" }, sayOrder(app, given.body)),
      h(
        "div",
        { class: "row" },
        h(
          "button",
          {
            class: "button small primary",
            type: "button",
            "data-test": `${kind}-again`,
            onclick: () => given.again(app, say),
          },
          icon("restart"),
          "Send it again",
        ),
        h(
          "button",
          { class: "button small", type: "button", "data-test": `${kind}-give-up`, onclick: giveUp },
          "Leave it",
        ),
      ),
    );
  }

  function giveUp() {
    given.giveUp();
    told.show("info", "Look under Transactions whether it was carried out.");
  }

  given.listen({ changed, done, failed });
  if (given.state === "under-way") {
    changed("under-way");
  } else if (given.state === "unsure") {
    tellUnsure("The answer to this order was lost.");
  }
  pickers.forEach((picker) => picker.refresh());
  return {
    node: h(
      "form",
      { class: `card order order-${kind}`, novalidate: true, onsubmit: give, "aria-labelledby": `${kind}-title` },
      h("h2", { id: `${kind}-title` }, icon(picture), title),
      h(
        "div",
        { class: "order-fields" },
        pickers.map((picker) => picker.node),
        h("div", { class: "payment" }, amount.node, submit),
      ),
      told.node,
    ),
    /** Shows anew what the accounts hold. */
    refresh: () => pickers.forEach((picker) => picker.refresh()),
    unmount() {
      clearTimeout(slowTimer);
      given.listen(null);
      pickers.forEach((picker) => picker.off());
    },
  };
}

function sayOrder(app, body) {
  const amount = app.money.format(body.amount);
  return body.src_branch === undefined
    ? `${amount}, ${body.branch} ${body.account}`
    : `${amount}, ${body.src_branch} ${body.src_account} to ${body.dest_branch} ${body.dest_account}`;
}
