// The whole bank on one screen: the one figure that no transfer may move, the audit's verdict, a card for each
// branch, and what happened in the last minutes. Everything comes by itself from the stream of events.

import { makeChart } from "../charts.js";
import { h, icon, reconcile, setChildren, setFigure, setText, throttled } from "../dom.js";
import { count, counted, duration, shortTime } from "../format.js";

const TICKER_LENGTH = 8;
const TICKER_PAUSE_MS = 1_000;

/** Shows the bank. */
export function mountBank(root, app) {
  const figure = makeFigure(app);
  const verdict = makeVerdict(app);
  const cards = h("ul", { class: "cards branches", "data-test": "branch-cards" });
  const throughput = makeChart({ title: "Transactions", unit: "a second", colour: "info", digits: 1 });
  const doubt = makeChart({ title: "In doubt", unit: "now", colour: "warn", isStepped: true });
  const ticker = makeTicker(app);

  root.append(
    h("h1", { class: "visually-hidden", tabindex: "-1" }, "Bank"),
    h("div", { class: "hero" }, figure.node, verdict.node),
    h("section", { "aria-label": "Branches" }, h("h2", { class: "visually-hidden" }, "Branches"), cards),
    h("div", { class: "lower" }, h("div", { class: "stack" }, throughput.node, doubt.node), ticker.node),
  );

  function show(bank) {
    figure.show(bank);
    verdict.show(bank);
    reconcile(
      cards,
      bank.branches,
      (branch) => `${branch.name} ${branch.address}`,
      makeCard,
      (node, branch) => updateCard(node, branch, app),
    );
    showRecent();
  }
  function showRecent() {
    throughput.update(app.recent.map(({ at, transfersPerSecond }) => ({ at, value: transfersPerSecond })));
    doubt.update(app.recent.map(({ at, inDoubt }) => ({ at, value: inDoubt })));
  }
  if (app.bank !== null) {
    show(app.bank);
  }
  const offs = [app.on("bank", show), app.on("recent", showRecent)];
  return {
    unmount() {
      offs.forEach((off) => off());
      throughput.unmount();
      doubt.unmount();
      ticker.unmount();
    },
  };
}

/** The figure, and the sum that it stands in: what is in the branches and under way is what was paid in less out. */
function makeFigure(app) {
  const amount = h("p", { class: "figure", "data-test": "money-total" }, "…");
  const change = h("p", { class: "soft figure-note", role: "status" });
  const part = (label, test) => {
    const value = h("dd", { class: "amount", "data-test": test }, "–");
    return { node: h("div", null, h("dt", null, label), value), value };
  };
  const balances = part("In the accounts", "money-balances");
  const transit = part("In transit", "money-in-transit");
  const suspense = part("In suspense", "money-suspense");
  const paidIn = part("Paid in", "money-paid-in");
  const paidOut = part("Paid out", "money-paid-out");
  suspense.node.hidden = true;
  const sign = (text) => h("span", { class: "sign", "aria-hidden": "true" }, text);
  const node = h(
    "section",
    { class: "card total", "aria-labelledby": "total-title" },
    h("h2", { id: "total-title" }, "Money in all branches"),
    amount,
    h(
      "dl",
      { class: "identity" },
      h("div", { class: "side" }, balances.node, sign("+"), transit.node, suspense.node),
      sign("="),
      h("div", { class: "side" }, paidIn.node, sign("−"), paidOut.node),
    ),
    change,
  );
  let before = null;
  return {
    node,
    show({ totals }) {
      const { money } = app;
      setFigure(amount, money.format(totals.money));
      setText(balances.value, money.format(totals.balances));
      setText(transit.value, money.format(totals.in_transit));
      setText(suspense.value, money.format(totals.suspense ?? "0.00"));
      setText(paidIn.value, money.format(totals.paid_in));
      setText(paidOut.value, money.format(totals.paid_out));
      transit.node.classList.toggle("lit", money.toPaise(totals.in_transit) !== 0n);
      suspense.node.hidden = money.toPaise(totals.suspense ?? "0.00") === 0n;
      const now = money.toPaise(totals.money);
      if (before !== null && now !== before) {
        const difference = now - before;
        setText(
          change,
          `${difference > 0n ? "Rose" : "Fell"} by ${money.format(difference > 0n ? difference : -difference)} at ${shortTime(Date.now())}.`,
        );
      } else if (before === null) {
        setText(change, "No transfer may move it: only money paid in or out does.");
      }
      before = now;
    },
  };
}

function makeVerdict(app) {
  const picture = h("span", { class: "verdict-mark" });
  const title = h("p", { class: "verdict-title", "data-test": "verdict" }, "…");
  const text = h("p", { class: "soft" });
  const findings = h("ul", { class: "findings", "data-test": "findings" });
  const button = h(
    "button",
    { class: "button small", "data-test": "audit", onclick: () => void auditNow() },
    icon("check"),
    "Audit now",
  );
  const node = h(
    "section",
    { class: "card verdict", "aria-labelledby": "verdict-heading" },
    h("h2", { id: "verdict-heading" }, "The audit says"),
    h("div", { role: "status", class: "verdict-said" }, picture, h("div", null, title, text)),
    findings,
    h("div", { class: "row" }, button),
  );
  let shown = "";

  function show({ verdict, branches }) {
    const gone = branches.filter((branch) => branch.state === "down").map((branch) => branch.name);
    const said = sayVerdict(verdict, gone);
    const key = JSON.stringify([said, verdict.findings]);
    if (key === shown) {
      return;
    }
    shown = key;
    node.className = `card verdict ${said.kind}`;
    setChildren(picture, icon(said.picture));
    setText(title, said.title);
    setText(text, said.text);
    setChildren(
      findings,
      (verdict.findings ?? []).map((finding) => h("li", null, finding)),
    );
  }

  async function auditNow() {
    button.disabled = true;
    try {
      const audit = await app.api.get("/audit");
      show({ verdict: audit, branches: app.bank?.branches ?? [] });
      const said = sayVerdict(audit, []);
      app.toast(`${said.title} ${said.text}`, audit.ok === true ? "good" : audit.ok === false ? "bad" : "info");
    } catch (error) {
      app.toast(error.message, "bad");
    } finally {
      button.disabled = false;
    }
  }

  return { node, show };
}

function sayVerdict({ ok, complete }, gone) {
  const missing = gone.length === 0 ? "Not every branch could be asked." : `${gone.join(", ")} could not be asked.`;
  if (ok === false) {
    return {
      kind: "bad",
      picture: "warning",
      title: "The books do not agree.",
      text: complete ? "Here is what does not fit:" : missing,
    };
  }
  if (ok === true && complete) {
    return {
      kind: "good",
      picture: "check",
      title: "The books agree.",
      text: "Every branch was recomputed from its rows, and any two agree on what one owes the other.",
    };
  }
  if (ok === true) {
    return { kind: "warn", picture: "clock", title: "No mistake so far.", text: missing };
  }
  return {
    kind: "warn",
    picture: "clock",
    title: "No verdict yet.",
    text: gone.length === 0 ? "The branches are being asked." : missing,
  };
}

function makeCard() {
  const slot = (name) => h("dd", { "data-slot": name });
  const fact = (label, name) => h("div", { "data-fact": name }, h("dt", null, label), slot(name));
  return h(
    "li",
    { class: "card branch" },
    h(
      "div",
      { class: "spread" },
      h("h3", { "data-slot": "name" }),
      h("span", { class: "badges", "data-slot": "badges" }),
    ),
    h("p", { class: "branch-money amount", "data-slot": "balances" }),
    h(
      "dl",
      { class: "facts" },
      fact("Accounts", "accounts"),
      fact("In doubt", "in_doubt"),
      fact("Undelivered", "undelivered"),
      fact("Clients", "clients"),
      fact("Transactions", "transactions"),
      fact("Lag", "lag"),
      fact("Epoch", "epoch"),
    ),
    h("ul", { class: "replicas", "aria-label": "Replicas", "data-slot": "replicas", hidden: true }),
    h("p", { class: "soft branch-note", "data-slot": "note" }),
    h("div", { class: "row", "data-slot": "actions" }),
  );
}

function updateCard(node, branch, app) {
  const isDown = branch.state === "down";
  const isReplica = branch.role === "replica";
  const slot = (name) => node.querySelector(`[data-slot="${name}"]`);
  node.dataset.test = isReplica ? `replica-${branch.name}` : `branch-${branch.name}`;
  node.classList.toggle("down", isDown);
  setText(slot("name"), branch.name);
  for (const name of ["accounts", "undelivered", "clients"]) {
    node.querySelector(`[data-fact="${name}"]`).hidden = isReplica;
  }
  badges(slot("badges"), branch);
  setText(
    slot("balances"),
    branch.balances === null || branch.balances === undefined ? "Rs –" : app.money.format(branch.balances),
  );
  for (const name of ["accounts", "in_doubt", "undelivered", "clients", "transactions", "epoch"]) {
    const value = branch[name] ?? null;
    setText(slot(name), value === null ? "–" : count(value));
  }
  node.querySelector('[data-fact="in_doubt"]').classList.toggle("lit", Number(branch.in_doubt) > 0);
  node.querySelector('[data-fact="undelivered"]').classList.toggle("lit", Number(branch.undelivered) > 0);
  const copies = branch.replicas ?? [];
  // A branch that never had a replica is in its first epoch for ever.
  node.querySelector('[data-fact="epoch"]').hidden = !isReplica && copies.length === 0 && Number(branch.epoch ?? 1) <= 1;
  replicas(slot("replicas"), copies);
  const lag = branch.lag ?? null;
  node.querySelector('[data-fact="lag"]').hidden = lag === null;
  node
    .querySelector('[data-fact="lag"]')
    .classList.toggle("lit", lag !== null && (lag.sequence === null || Number(lag.sequence) > 0));
  setText(
    slot("lag"),
    lag === null
      ? ""
      : behind(lag),
  );
  setText(
    slot("note"),
    isDown
      ? "It does not answer. What it wrote is on its disk; the figures are the last that it told."
      : `${branch.address} · up for ${duration(branch.uptime_seconds)}${branch.teaching ? " · teaching" : ""}`,
  );
  actions(slot("actions"), app, branch, isDown);
}

/** A replica that is not connected can't know how far it is behind. */
function behind(lag) {
  if ((lag.sequence ?? null) === null) {
    return "unknown";
  }
  return `${counted(lag.sequence, "commit")}${Number(lag.seconds) >= 1 ? `, ${duration(lag.seconds)}` : ""}`;
}

/** One line for each copy: where it is, what it does, how far it is behind. */
function replicas(slot, copies) {
  const lines = copies.map(({ address, state, lag }) => {
    const late = lag && Number(lag.sequence) > 0 ? `, ${behind(lag)} behind` : "";
    return { text: `Replica ${address}: ${state}${late}`, isWell: state === "following" };
  });
  const key = JSON.stringify(lines);
  if (slot.dataset.shown === key) {
    return;
  }
  slot.dataset.shown = key;
  slot.hidden = lines.length === 0;
  setChildren(
    slot,
    lines.map(({ text, isWell }) => h("li", { "data-test": "replica" }, icon(isWell ? "check" : "warning"), text)),
  );
}

function badges(slot, branch) {
  const isDown = branch.state === "down";
  const key = `${branch.state} ${branch.role}`;
  if (slot.dataset.shown === key) {
    return;
  }
  slot.dataset.shown = key;
  setChildren(
    slot,
    branch.role === "replica" ? h("span", { class: "badge info" }, "replica") : null,
    h(
      "span",
      { class: `badge ${isDown ? "bad" : "good"}`, "data-test": "branch-state" },
      icon(isDown ? "warning" : "check"),
      isDown ? "down" : "up",
    ),
  );
}

function actions(slot, app, branch, isDown) {
  const canRestart = isDown && branch.restartable === true;
  const key = `${branch.name} ${isDown} ${canRestart}`;
  if (slot.dataset.shown === key) {
    return;
  }
  slot.dataset.shown = key;
  const restart = h(
    "button",
    {
      class: "button small primary",
      "data-test": `restart-${branch.name}`,
      onclick: () => void restartBranch(app, branch.name, restart),
    },
    icon("restart"),
    `Restart ${branch.name}`,
  );
  setChildren(
    slot,
    canRestart ? restart : null,
    isDown || branch.role === "replica"
      ? null
      : [
          h(
            "a",
            {
              class: "button small",
              href: `#accounts?branch=${encodeURIComponent(branch.name)}`,
              "aria-label": `Accounts of ${branch.name}`,
            },
            "Accounts",
          ),
          h(
            "a",
            {
              class: "button small",
              href: `#transactions?branch=${encodeURIComponent(branch.name)}`,
              "aria-label": `Transactions of ${branch.name}`,
            },
            "Transactions",
          ),
        ],
  );
}

async function restartBranch(app, name, button) {
  button.disabled = true;
  try {
    await app.api.post(`/teaching/${encodeURIComponent(name)}/restart`);
    app.toast(`${name} starts again.`, "good");
  } catch (error) {
    app.toast(error.message, "bad");
  } finally {
    button.disabled = false;
  }
}

const OUTCOMES = {
  committed: ["good", "check", "committed"],
  aborted: ["bad", "close", "aborted"],
  undecided: ["warn", "clock", "undecided"],
};

/** The latest transfers between branches, newest first, each a link to its diagram. */
function makeTicker(app) {
  const list = h("ol", { class: "ticker", "data-test": "ticker" });
  const empty = h(
    "p",
    { class: "empty" },
    "No transfer between branches yet. Make one under Operate, and it appears here.",
  );
  const node = h(
    "section",
    { class: "card", "aria-labelledby": "ticker-title" },
    h(
      "div",
      { class: "spread" },
      h("h2", { id: "ticker-title" }, "Latest transfers between branches"),
      h("a", { class: "button small", href: "#lab" }, icon("lab"), "Lab"),
    ),
    list,
    empty,
  );
  async function load() {
    try {
      const transfers = await app.api.get(`/transfers?limit=${TICKER_LENGTH}`);
      empty.hidden = transfers.length > 0;
      reconcile(
        list,
        transfers.slice(0, TICKER_LENGTH),
        (transfer) => transfer.txid,
        () => h("li"),
        updateTransfer,
      );
    } catch {
      // The banner tells that the bridge is gone; the list is asked for again with the next event.
    }
  }
  const soon = throttled(() => void load(), TICKER_PAUSE_MS);
  soon();
  const offs = [
    app.on("happened", (event) => {
      if (event.txid !== null && event.txid !== undefined) {
        soon();
      }
    }),
    app.on("connection", (connection) => connection === "live" && soon()),
  ];
  return {
    node,
    unmount() {
      offs.forEach((off) => off());
      soon.cancel();
    },
  };
}

function updateTransfer(node, transfer) {
  const key = JSON.stringify(transfer);
  if (node.dataset.shown === key) {
    return;
  }
  node.dataset.shown = key;
  const [kind, picture, word] = OUTCOMES[transfer.outcome] ?? OUTCOMES.undecided;
  setChildren(
    node,
    h(
      "a",
      { href: `#lab?txid=${encodeURIComponent(transfer.txid)}`, "data-test": "ticker-link" },
      h("span", { class: `badge ${kind}` }, icon(picture), word),
      h(
        "span",
        { class: "ticker-text" },
        transfer.coordinator === null ? null : [h("strong", null, transfer.coordinator), ": "],
        transfer.text,
        transfer.is_old_way ? " (the old way)" : null,
      ),
      h(
        "time",
        { class: "soft", datetime: new Date(Number(transfer.at_unix_ms)).toISOString() },
        shortTime(Number(transfer.at_unix_ms)),
      ),
    ),
  );
}
