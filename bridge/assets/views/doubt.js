// Transfers in doubt: a branch voted yes and does not know the outcome. Here one sees how old they are, who decides
// and whether that branch answers; and here, when it is gone for good, a person settles one by hand.

import { withQuery } from "../api.js";
import { h, icon, setText, throttled } from "../dom.js";
import { outcome } from "../fields.js";
import { counted, duration } from "../format.js";
import { sheet } from "../frame.js";
import { makeTable } from "../table.js";

const FOLLOW_MS = 1_000;
const SHORTEST_REASON = 3;

const STATES = {
  prepared: { word: "in doubt", kind: "warn", isInDoubt: true, isForPeople: true },
  deciding: { word: "deciding", kind: "info", isInDoubt: false, isForPeople: false },
  delivering: { word: "decided, being delivered", kind: "info", isInDoubt: false, isForPeople: true },
  contradicted: { word: "contradicted", kind: "bad", isInDoubt: true, isForPeople: true },
};

/** Shows the transfers in doubt at all branches. */
export function mountDoubt(root, app) {
  const told = outcome("doubt-result");
  const summary = h("p", { class: "doubt-summary", role: "status", "data-test": "doubt-summary" }, "…");
  const table = makeTable({
    caption: "Transfers in doubt",
    columns: columns((row) => resolveDialog(app, row, load)),
    keyOf: (row) => `${row.branch} ${row.txid} ${row.state}`,
    test: "doubt-table",
  });
  root.append(
    h("h1", { tabindex: "-1" }, "In doubt"),
    h(
      "p",
      { class: "lead" },
      "A branch that voted yes has promised to follow the coordinator, and may not decide alone. Until it knows the outcome it keeps the money held and asks again and again. When the coordinator is back, the doubt ends by itself.",
    ),
    summary,
    told.node,
    h("section", { class: "card flush", "aria-label": "List of transfers in doubt" }, table.node),
  );

  async function load() {
    try {
      const { result: rows, missing = [], more = [] } = await app.api.getPage("/pending");
      const inDoubt = rows.filter((row) => state(row).isInDoubt).length;
      told.hide();
      const unknown =
        (missing.length === 0 ? "" : ` ${missing.join(", ")} could not be asked.`) +
        (more.length === 0 ? "" : ` There are more at ${more.join(", ")} than can be listed.`);
      setText(
        summary,
        `${inDoubt === 0 ? "Nothing is in doubt." : `${counted(inDoubt, "transfer")} in doubt.`}${unknown}`,
      );
      summary.classList.toggle("lit", inDoubt > 0 || missing.length > 0);
      table.show(rows, "No transfer waits for a decision or a delivery.");
    } catch (error) {
      told.show("bad", error.message);
    }
  }
  const follow = throttled(() => void load(), FOLLOW_MS);
  follow();
  const offs = [app.on("bank", follow), app.on("connection", (connection) => connection === "live" && follow())];
  return {
    unmount() {
      offs.forEach((off) => off());
      follow.cancel();
    },
  };
}

function state(row) {
  return STATES[row.state] ?? { word: row.state, kind: "info", isInDoubt: false, isForPeople: false };
}

function columns(resolve) {
  return [
    { title: "Branch", cell: (row) => h("strong", null, row.branch) },
    {
      title: "Transfer",
      cell: (row) => h("a", { class: "mono", href: withQuery("#lab", { txid: row.txid }) }, row.txid),
    },
    {
      title: "State",
      cell: (row) => [
        h("span", { class: `badge ${state(row).kind}` }, icon("clock"), state(row).word),
        row.why === undefined ? "" : h("div", { class: "soft" }, row.why),
      ],
    },
    { title: "What it does there", cell: (row) => row.legs.map((leg) => h("div", null, leg)) },
    { title: "Age", isNumber: true, cell: (row) => duration(row.age_seconds) },
    { title: "Coordinator", cell: (row) => coordinator(row) },
    {
      title: "What can be done",
      isAction: true,
      cell: (row) =>
        state(row).isForPeople
          ? h(
              "button",
              {
                class: "button small danger",
                "data-test": `resolve-${row.txid}`,
                "aria-label": `Settle ${row.txid} by hand`,
                onclick: () => resolve(row),
              },
              "Settle by hand…",
            )
          : "",
    },
  ];
}

function coordinator(row) {
  if ((row.coordinator ?? null) === null) {
    return h("span", { class: "soft" }, "an outside program");
  }
  const answers = row.coordinator_answers === true;
  return h(
    "div",
    { class: "row tight" },
    row.coordinator,
    h(
      "span",
      { class: `badge ${answers ? "good" : "bad"}` },
      icon(answers ? "check" : "warning"),
      answers ? "answers" : "does not answer",
    ),
  );
}

/** What settling this by hand means. */
function warning(row) {
  if (row.state === "prepared") {
    return [
      h("p", null, h("strong", null, "You decide in the place of the coordinator.")),
      h(
        "p",
        null,
        "If it decided otherwise, the two branches disagree: money was taken on one side alone, or appears on one side alone. The bank then marks the transfer as mixed and books the difference on a suspense account, and the audit reports it.",
      ),
      row.coordinator_answers === true
        ? h("p", null, h("strong", null, `${row.coordinator} answers.`), " Wait: it will tell the outcome by itself.")
        : h("p", null, "Do it only when the coordinator is gone for good, and you know what it decided."),
    ];
  }
  const isContradicted = row.state === "contradicted";
  return [
    h("p", null, h("strong", null, "This is decided, and stays so. Settling it ends its delivery.")),
    isContradicted
      ? h(
          "p",
          null,
          "The other branch can't follow: one of the two has lost what it wrote. The difference goes to this branch's suspense account, whichever you choose; say by your choice what is to become of it.",
        )
      : h(
          "p",
          null,
          "The other branch is only silent, and may have carried it out: it can be settled as committed alone. Should it come back, it is told the outcome all the same.",
        ),
  ];
}

/** Asks how to settle, and why; says first what it may cost. */
function resolveDialog(app, row, settled) {
  const reason = h("textarea", { id: "resolve-reason", rows: "3", required: true, "aria-describedby": "resolve-hint" });
  const told = outcome("resolve-result");
  const radio = (value, title, text) => {
    const input = h("input", { type: "radio", name: "resolve-outcome", id: `resolve-${value}`, value });
    return h(
      "label",
      { class: "option", for: `resolve-${value}` },
      input,
      h("span", null, h("strong", null, title), h("span", { class: "soft" }, ` ${text}`)),
    );
  };
  const submit = h("button", { class: "button danger", type: "submit", id: "resolve-submit" }, "Settle it by hand");

  async function give(event) {
    event.preventDefault();
    const chosen = form.querySelector("input[name=resolve-outcome]:checked")?.value;
    if (chosen === undefined) {
      told.show("bad", "Choose how to settle it.");
      return;
    }
    if (reason.value.trim().length < SHORTEST_REASON) {
      told.show("bad", "Write down why: the reason is kept with the transfer.");
      reason.focus();
      return;
    }
    submit.disabled = true;
    try {
      await app.api.post("/resolve", {
        branch: row.branch,
        txid: row.txid,
        outcome: chosen,
        reason: reason.value.trim(),
      });
      dialog.close();
      app.toast(`${row.txid} at ${row.branch} is settled by hand: ${chosen}.`, "good");
      void settled();
    } catch (error) {
      told.show("bad", error.message);
    } finally {
      submit.disabled = false;
    }
  }

  const form = h(
    "form",
    { novalidate: true, onsubmit: give },
    h(
      "p",
      null,
      "At ",
      h("strong", null, row.branch),
      ": ",
      row.legs.join("; "),
      ". Transfer ",
      h("code", null, row.txid),
      ", in doubt for ",
      duration(row.age_seconds),
      ".",
    ),
    h(
      "div",
      { class: "notice bad" },
      icon("warning"),
      h(
        "div",
        { class: "notice-text" },
        ...warning(row),
      ),
    ),
    h(
      "fieldset",
      { class: "options" },
      h("legend", null, "Settle it as"),
      radio("abort", "Abort.", "What was held or reserved here is free again."),
      radio("commit", "Commit.", "The money moves here, for good."),
    ),
    h(
      "div",
      { class: "field" },
      h("label", { for: "resolve-reason" }, "Reason"),
      reason,
      h(
        "p",
        { class: "hint", id: "resolve-hint" },
        "Recorded with the transfer. For example: Mumbai's disk is lost; its last backup says aborted.",
      ),
    ),
    told.node,
    h(
      "div",
      { class: "row end" },
      h("button", { class: "button", type: "button", id: "resolve-cancel", onclick: () => dialog.close() }, "Cancel"),
      submit,
    ),
  );
  form.addEventListener("input", () => told.hide());
  const dialog = sheet("Settle a transfer by hand", [form]);
  dialog.showModal();
}
