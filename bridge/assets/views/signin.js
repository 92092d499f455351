// The sign-in: branch, account and password; account 0 is the administrator. The passwords of the demonstration are
// told only when the bank says that it is one.

import { branchChoice, field, outcome } from "../fields.js";
import { h, icon, setText } from "../dom.js";

/** Shows the sign-in; `notice` says why it is shown, if there is a reason. */
export function mountSignIn(root, app, { notice }) {
  const branch = branchChoice(app, { id: "signin-branch", label: "Branch" });
  const account = field({
    id: "signin-account",
    label: "Account",
    inputmode: "numeric",
    required: true,
    autocomplete: "username",
    hint: "0 is the administrator.",
  });
  const password = field({
    id: "signin-password",
    label: "Password",
    type: "password",
    required: true,
    autocomplete: "current-password",
  });
  const submit = h(
    "button",
    { class: "button primary wide", id: "signin-submit", type: "submit" },
    icon("lock"),
    "Sign in",
  );
  const told = outcome("signin-result");

  async function offerBranches() {
    try {
      app.directory = await app.api.get("/branches");
      branch.refresh();
    } catch (error) {
      told.show("bad", error.message);
    }
  }

  async function signIn(event) {
    event.preventDefault();
    if (account.input.value.trim() === "") {
      account.fail("Enter the account's number.");
      return;
    }
    submit.disabled = true;
    told.hide();
    try {
      await app.signIn(branch.value(), account.input.value.trim(), password.input.value);
    } catch (error) {
      told.show("bad", error.message);
      password.input.value = "";
      password.input.focus();
    } finally {
      submit.disabled = false;
    }
  }

  const form = h(
    "form",
    { class: "card signin", novalidate: true, onsubmit: signIn },
    branch.node,
    account.node,
    password.node,
    submit,
    told.node,
  );
  root.append(
    h(
      "div",
      { class: "view view-signin" },
      h("h1", { tabindex: "-1" }, "Sign in"),
      notice === null
        ? null
        : h("p", { class: "notice warn", role: "alert" }, icon("clock"), h("span", { class: "notice-text" }, notice)),
      form,
      app.session?.teaching === true ? demoHint(account.input, password.input) : null,
    ),
  );
  account.input.focus();
  void offerBranches();
  return {
    unmount() {
      branch.off();
    },
  };
}

/** The passwords that the demonstration's sample accounts have. */
function demoHint(account, password) {
  const fill = (number, secret) => () => {
    account.value = number;
    password.value = secret;
    document.getElementById("signin-submit").focus();
  };
  const line = (who, number, secret, test) =>
    h(
      "li",
      null,
      h("span", null, `${who}: account `, h("code", null, number), ", password ", h("code", null, secret)),
      h(
        "button",
        {
          class: "button small",
          type: "button",
          "data-test": test,
          onclick: fill(number, secret),
          "aria-label": `Fill in: ${who}`,
        },
        "Fill in",
      ),
    );
  const note = h("p", { class: "soft" });
  setText(note, "This bank is a demonstration. Its sample accounts are:");
  return h(
    "aside",
    { class: "notice info demo", "aria-label": "Passwords of the demonstration" },
    h(
      "div",
      { class: "notice-text" },
      note,
      h(
        "ul",
        null,
        line("Administrator", "0", "root", "fill-administrator"),
        line("A customer", "1001", "1001", "fill-customer"),
      ),
    ),
  );
}
