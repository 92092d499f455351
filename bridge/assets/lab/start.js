// A form that starts a transfer and lets the page go on: in step mode its answer can take minutes.

import { h, icon } from "../dom.js";

const ID_BYTES = 16;

export class StartForm {
  /** `expect()` is called before each, so that the lab follows the new transfer. */
  constructor(app, expect) {
    Object.assign(this, { app, expect, names: "" });
    const field = (label, name, value, more = {}) => h("label", {}, h("span", {}, label), h("input", { name, value, "data-test": `start-${name}`, autocomplete: "off", ...more }));
    const branch = (label, name) => h("label", {}, h("span", {}, label), h("select", { name, "data-test": `start-${name}` }));
    this.outcome = h("p", { class: "notice", role: "status", hidden: true, "data-test": "start-outcome" });
    this.node = h("form", { class: "lab-start", "data-test": "start-form", onsubmit: (event) => this.submit(event) },
      branch("From", "src_branch"), field("Account", "src_account", "1001", { inputmode: "numeric" }), branch("To", "dest_branch"),
      field("Account", "dest_account", "1002", { inputmode: "numeric" }), field("Rs", "amount", "50.00", { inputmode: "decimal" }),
      h("button", { class: "button primary", type: "submit", "data-test": "start" }, icon("play"), "Transfer"), this.outcome);
  }

  show(branches) {
    const names = branches.map((branch) => branch.name);
    if (names.join() === this.names) return;
    this.names = names.join();
    ["src_branch", "dest_branch"].forEach((name, index) => {
      const select = this.node.elements[name];
      const chosen = select.value || names[Math.min(index, names.length - 1)];
      select.replaceChildren(...names.map((branch) => h("option", { value: branch, selected: branch === chosen }, branch)));
    });
  }

  submit(event) {
    event.preventDefault();
    const typed = this.app.money.readTyped(this.node.elements.amount.value);
    if (typed.problem !== undefined) {
      this.tell(typed.problem, "bad");
      return;
    }
    const order = { ...Object.fromEntries(new FormData(this.node)), amount: typed.amount, request_id: freshId() };
    this.outcome.hidden = true;
    this.expect();
    // Not awaited: the diagram tells what happens; this tells how it ended.
    this.app.api.post("/transfer", order).then(
      (result) => this.tell(told(result, order), "good"),
      (error) => this.tell(error.message, "bad"),
    );
  }

  tell(text, kind) {
    this.outcome.className = `notice ${kind}`;
    this.outcome.textContent = text;
    this.outcome.hidden = false;
  }
}

function told(result, { amount, src_branch, src_account, dest_branch, dest_account }) {
  const end = result?.delivery === "pending" ? " It is decided, and still on its way." : "";
  return `Rs ${amount} went from ${src_branch}:${src_account} to ${dest_branch}:${dest_account}.${end}`;
}

/** The same order sent again by a browser is carried out once. */
function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(ID_BYTES));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
