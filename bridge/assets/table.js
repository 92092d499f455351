// Tables that become cards where there is little width, and the buttons that turn the pages of a long list.
// The roles are written out, as a browser forgets that a table is one when it is laid out as cards.

import { h, icon, reconcile, setChildren } from "./dom.js";

/**
 * A table with these columns, `{title, cell(row) → text or node, isNumber?, isAction?}`.
 * `{node, show(rows, emptyText)}`; rows keep their elements as long as their `keyOf` stays.
 */
export function makeTable({ caption, columns, keyOf, test }) {
  const head = h(
    "tr",
    { role: "row" },
    columns.map((column) =>
      h(
        "th",
        { scope: "col", role: "columnheader", class: column.isNumber ? "number" : null },
        column.isAction ? h("span", { class: "visually-hidden" }, column.title) : column.title,
      ),
    ),
  );
  const body = h("tbody", { role: "rowgroup" });
  const empty = h("p", { class: "empty", hidden: true });
  const table = h(
    "table",
    { role: "table", "data-test": test },
    h("caption", { class: "visually-hidden" }, caption),
    h("thead", { role: "rowgroup" }, head),
    body,
  );
  const shown = new WeakMap();
  return {
    node: h("div", { class: "table-box", role: "region", "aria-label": caption, tabindex: "0" }, table, empty),
    show(rows, emptyText) {
      reconcile(
        body,
        rows,
        keyOf,
        () => h("tr", { role: "row" }),
        (node, row) => {
          const text = JSON.stringify(row);
          if (shown.get(node) !== text) {
            shown.set(node, text);
            setChildren(
              node,
              columns.map((column) => makeCell(column, row)),
            );
          }
        },
      );
      empty.textContent = emptyText;
      empty.hidden = rows.length > 0;
      table.hidden = rows.length === 0;
    },
  };
}

function makeCell(column, row) {
  const kind = column.isNumber ? "number" : column.isAction ? "action" : null;
  return h(
    "td",
    { role: "cell", class: kind, "data-label": column.isAction ? null : column.title },
    h("div", null, column.cell(row)),
  );
}

/**
 * Pages of a list whose answers name where it goes on. `load(after)` gives `{rows, next}`; `show(rows, isMore)` shows them.
 * `{node, first(), again(), isFirst()}`: to the first page, or the page that is shown anew.
 */
export function makePager({ load, show, failed, test }) {
  const starts = [null];
  let next = null;
  let asked = 0;
  const where = h("span", { class: "soft", role: "status" });
  const older = h(
    "button",
    { class: "button small", "data-test": `${test}-next`, onclick: () => go(() => starts.push(next)) },
    "Next",
    icon("right"),
  );
  const newer = h(
    "button",
    { class: "button small", "data-test": `${test}-previous`, onclick: () => go(() => starts.pop()) },
    icon("left"),
    "Previous",
  );
  const node = h("div", { class: "pager", hidden: true }, newer, where, older);

  function go(turn) {
    turn();
    return again();
  }

  async function again() {
    asked += 1;
    const mine = asked;
    try {
      const page = await load(starts[starts.length - 1]);
      if (mine !== asked) {
        return;
      }
      next = page.next;
      show(page.rows, next !== null);
      where.textContent = `Page ${starts.length}`;
      older.disabled = next === null;
      newer.disabled = starts.length === 1;
      node.hidden = next === null && starts.length === 1;
    } catch (error) {
      if (mine === asked) {
        failed(error);
      }
    }
  }

  return {
    node,
    first: () => go(() => starts.splice(1)),
    again,
    isFirst: () => starts.length === 1,
  };
}
