// Fields that several views share: a labelled field with its error, the choice of a branch, an account with what it
// holds, and the line that tells how an order went.

import { debounced, freshId, h, icon, reconcile, setChildren, setText } from "./dom.js";
import { withQuery } from "./api.js";

const SUGGESTIONS = 200;

/** A label, an input and a place for its error: `{node, input, fail(text)}`; `fail("")` takes the error away. */
export function field({ id, label, hint = null, ...props }) {
  const input = h("input", { id, name: id, autocomplete: "off", ...props });
  return labelled(input, id, label, hint);
}

/** The same around a choice; `options` are `[value, text]`. */
export function choice({ id, label, options, hint = null }) {
  const select = h(
    "select",
    { id, name: id },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  return labelled(select, id, label, hint);
}

function labelled(input, id, label, hint) {
  const hintNode = h("p", { class: "hint", id: `${id}-hint` }, hint);
  const error = h("p", { class: "error", id: `${id}-error`, hidden: true });
  input.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  const node = h("div", { class: "field" }, h("label", { for: id }, label), input, hintNode, error);
  const fail = (text) => {
    setText(error, text);
    error.hidden = text === "";
    input.setAttribute("aria-invalid", String(text !== ""));
    if (text !== "") {
      input.focus();
    }
  };
  input.addEventListener("input", () => fail(""));
  return { node, input, hint: hintNode, fail };
}

/** The branches that take orders, as far as they are known: `[{name, isUp}]`. */
export function knownBranches(app) {
  const told = (app.bank?.branches ?? []).filter((branch) => branch.role !== "replica");
  if (told.length > 0) {
    return told.map((branch) => ({ name: branch.name, isUp: branch.state === "up" }));
  }
  return app.directory.map(({ name, state }) => ({ name, isUp: state === "up" }));
}

/** A choice of a branch that follows what is known of them: `{node, input, fail, value, off}`. */
export function branchChoice(app, { id, label, wanted = null, place = 0, all = null, onchange = () => {} }) {
  const made = choice({ id, label, options: all === null ? [] : [["", all]] });
  let isChosen = false;
  const refresh = () => {
    const branches = knownBranches(app);
    const options = [...(all === null ? [] : [{ name: "", isUp: true }]), ...branches];
    reconcile(
      made.input,
      options,
      (branch) => branch.name,
      (branch) => h("option", { value: branch.name }),
      (node, branch) => setText(node, branch.name === "" ? all : branch.isUp ? branch.name : `${branch.name} (down)`),
    );
    if (!isChosen && branches.length > 0) {
      isChosen = true;
      const first = all === null ? branches[Math.min(place, branches.length - 1)].name : "";
      made.input.value = branches.some((branch) => branch.name === wanted) ? wanted : first;
      onchange(made.input.value);
    }
  };
  made.input.addEventListener("change", () => onchange(made.input.value));
  const off = app.on("bank", refresh);
  return { ...made, refresh, value: () => made.input.value, off };
}

/**
 * A branch and an account, with suggestions and what the account holds. A customer's own is not to be chosen.
 * `{node, value(), problem(), refresh(), off}`; `value()` is `{branch, account}`.
 */
export function accountPicker(app, { id, legend, wanted = {}, place = 0, isOwn = false }) {
  if (isOwn) {
    const { branch, account } = app.session;
    return {
      node: h(
        "p",
        { class: "own" },
        h("span", { class: "soft" }, `${legend}: `),
        h("strong", null, `${branch} ${account}`),
      ),
      value: () => ({ branch, account }),
      isComplete: () => true,
      refresh: () => {},
      off: () => {},
    };
  }
  const isStaff = app.session.role !== "customer";
  const listId = freshId("suggestions");
  const list = h("datalist", { id: listId });
  const account = field({
    id: `${id}-account`,
    label: "Account",
    inputmode: "numeric",
    list: listId,
    required: true,
    placeholder: "1001",
  });
  const branch = branchChoice(app, {
    id: `${id}-branch`,
    label: "Branch",
    wanted: wanted.branch,
    place,
    onchange: () => {
      suggest();
      look();
    },
  });
  account.input.value = wanted.account ?? "";
  account.input.addEventListener(
    "input",
    debounced(() => look(), 250),
  );
  let asked = 0;

  async function suggest() {
    if (!isStaff || knownBranches(app).some((one) => one.name === branch.value() && !one.isUp)) {
      return;
    }
    try {
      const lines = await app.api.get(withQuery("/list_accounts", { branch: branch.value(), limit: SUGGESTIONS }));
      setChildren(
        list,
        lines.map((line) => h("option", { value: line.account_no }, line.name)),
      );
    } catch {
      // Suggestions are a help alone; what is wrong with the branch is told when the order is given.
      setChildren(list);
    }
  }

  /** Shows whose account it is and what can be spent. */
  async function look() {
    const number = account.input.value.trim();
    asked += 1;
    const mine = asked;
    if (!isStaff || number === "" || branch.value() === "") {
      setText(account.hint, "");
      return;
    }
    if (knownBranches(app).some((one) => one.name === branch.value() && !one.isUp)) {
      setText(account.hint, "The branch does not answer.");
      return;
    }
    let text = "";
    try {
      const { name, balance, available } = await app.api.post("/balance", { branch: branch.value(), account: number });
      const held = app.money.toPaise(balance) - app.money.toPaise(available);
      text = `${name} · ${app.money.format(available)}${held > 0n ? ` and ${app.money.format(held)} held` : ""}`;
    } catch (error) {
      text = error.status === 404 || error.code === "no_such_account" ? "No such account here." : "";
    }
    if (mine === asked) {
      setText(account.hint, text);
    }
  }

  branch.refresh();
  return {
    node: h(
      "fieldset",
      { class: "picker" },
      h("legend", null, legend),
      h("div", { class: "picker-fields" }, branch.node, account.node),
      account.hint,
      list,
    ),
    value: () => ({ branch: branch.value(), account: account.input.value.trim() }),
    isComplete() {
      if (account.input.value.trim() === "") {
        account.fail("Enter the account's number.");
        return false;
      }
      return true;
    },
    refresh: () => void look(),
    off: branch.off,
  };
}

/** The place where a form tells how its order went: `{node, show(kind, ...children), hide()}`. */
export function outcome(id) {
  const node = h("div", { class: "outcome", id, role: "status", "aria-live": "polite" });
  const pictures = { good: "check", bad: "warning", warn: "warning", info: "clock" };
  return {
    node,
    show(kind, ...children) {
      setChildren(
        node,
        h("div", { class: `notice ${kind}` }, icon(pictures[kind]), h("div", { class: "notice-text" }, children)),
      );
    },
    hide: () => setChildren(node),
  };
}
