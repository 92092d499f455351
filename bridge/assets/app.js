// The shell of the dashboard: who is signed in, which view is shown, the stream of events, and what every view may
// use (`app`). Views are functions `mount(root, app, params)` that give `{unmount(), update?(params)}`; the address
// after `#` names the view and its parameters, so every view can be bookmarked and shared.
//
// Leaves out: what the views show, and the look of the shell (frame.js).

import { makeApi } from "./api.js";
import { merged, trimmed } from "./charts.js";
import { clear, h } from "./dom.js";
import { makeFeed } from "./feed.js";
import { makeFrame } from "./frame.js";
import * as money from "./money.js";
import { mountAccounts } from "./views/accounts.js";
import { mountBank } from "./views/bank.js";
import { mountDoubt } from "./views/doubt.js";
import { mountMine } from "./views/mine.js";
import { forgetOrders, mountOperate } from "./views/operate.js";
import { mountSignIn } from "./views/signin.js";
import { mountTransactions } from "./views/transactions.js";

const STAFF_VIEWS = [
  { name: "bank", label: "Bank", short: "Bank", icon: "bank", mount: mountBank },
  { name: "accounts", label: "Accounts", short: "Accounts", icon: "people", mount: mountAccounts },
  { name: "operate", label: "Operate", short: "Operate", icon: "swap", mount: mountOperate },
  { name: "transactions", label: "Transactions", short: "History", icon: "list", mount: mountTransactions },
  { name: "doubt", label: "In doubt", short: "In doubt", icon: "doubt", mount: mountDoubt },
  { name: "lab", label: "2PC lab", short: "Lab", icon: "lab", mount: mountLabLater },
];
const CUSTOMER_VIEWS = [
  { name: "mine", label: "My account", short: "Account", icon: "user", mount: mountMine },
  { name: "operate", label: "Operate", short: "Operate", icon: "swap", mount: mountOperate },
  { name: "transactions", label: "Transactions", short: "History", icon: "list", mount: mountTransactions },
];

const content = document.getElementById("content");
const handlers = new Map();
let shown = null;
let isChecking = false;

const app = {
  money,
  api: makeApi({ onSignedOut: () => void sessionEnded() }),
  session: null,
  /** The latest `bank` message; null before the first. */
  bank: null,
  /** Names and states of the branches, as anyone may know them: what the sign-in offers. */
  directory: [],
  /** The latest `account` message of a customer; null before the first. */
  account: null,
  /** What the charts show: `{at, transfersPerSecond, inDoubt}`. */
  recent: [],
  connection: "live",
  on,
  navigate: (hash) => {
    location.hash = hash;
  },
  replaceHash: (hash) => {
    history.replaceState(null, "", hash);
    if (shown !== null) {
      shown.hash = hash;
    }
  },
  download,
  signIn,
  signOut,
};
const frame = makeFrame(app);
app.toast = frame.toast;
app.announce = frame.announce;
app.confirm = frame.confirm;
const feed = makeFeed({ emit, check: checkSession });

on("bank", (bank) => {
  app.bank = bank;
  if (bank.totals !== undefined) {
    const inDoubt = bank.branches.reduce((sum, branch) => sum + (branch.in_doubt ?? 0), 0);
    const point = { at: Date.now(), transfersPerSecond: Number(bank.transfers_per_second ?? 0), inDoubt };
    app.recent = trimmed([...app.recent, point]);
  }
});
on("account", (account) => {
  app.account = account;
});
on("connection", (connection) => {
  app.connection = connection;
  if (connection === "live") {
    void loadRecent();
  }
});

/** Registers a handler; what it gives takes the handler away again. */
function on(type, handler) {
  if (!handlers.has(type)) {
    handlers.set(type, new Set());
  }
  handlers.get(type).add(handler);
  return () => handlers.get(type).delete(handler);
}

function emit(type, data) {
  for (const handler of [...(handlers.get(type) ?? [])]) {
    try {
      handler(data);
    } catch (error) {
      console.error(`a handler of ${type} failed`, error);
    }
  }
}

/** Asks for the last minutes, which nobody here has seen: the page is new, or the stream of events had broken. */
async function loadRecent() {
  if (!isSignedIn() || app.session.role === "customer") {
    return;
  }
  const session = app.session;
  try {
    const points = await app.api.get("/recent");
    const now = Date.now();
    const told = points.map(({ age_ms, transfers_per_second, in_doubt }) => ({
      at: now - age_ms,
      transfersPerSecond: Number(transfers_per_second),
      inDoubt: in_doubt,
    }));
    if (app.session === session) {
      app.recent = merged(app.recent, told);
      emit("recent", app.recent);
    }
  } catch {
    // The charts begin now, then. The banner tells when the bridge is gone.
  }
}

function views() {
  return app.session.role === "customer" ? CUSTOMER_VIEWS : STAFF_VIEWS;
}

function isSignedIn() {
  return app.session !== null && (app.session.signed_in === true || app.session.role === "open");
}

/** Asks who is signed in: true to go on, false when the sign-in is shown now, null when nobody answers. */
async function checkSession() {
  try {
    const session = await app.api.get("/session");
    const isSame = ["role", "branch", "account"].every((key) => app.session?.[key] === session[key]);
    takeSession(session);
    if (!isSignedIn()) {
      emit("connection", "live");
      showSignIn("Your session has ended. Please sign in again.");
      return false;
    }
    if (!isSame) {
      enter();
      return false;
    }
    return true;
  } catch {
    return null;
  }
}

async function sessionEnded() {
  if (isChecking || !isSignedIn()) {
    return;
  }
  isChecking = true;
  await checkSession();
  isChecking = false;
}

function takeSession(session) {
  app.session = session;
  app.api.setCsrf(session.csrf ?? null);
}

async function signIn(branch, account, password) {
  takeSession(await app.api.post("/session", { branch, account, password }));
  enter();
}

async function signOut() {
  try {
    await app.api.delete("/session");
  } catch (error) {
    if (error.status !== 401) {
      app.toast(`You are still signed in: ${error.message}`, "bad");
      return;
    }
  }
  takeSession(await app.api.get("/session"));
  forgetOrders();
  location.hash = "";
  showSignIn(null);
}

/** Shows the dashboard of the one who is signed in now. */
function enter() {
  app.bank = null;
  app.account = null;
  app.recent = [];
  frame.showSignedIn(views());
  feed.start();
  shown?.handle.unmount();
  shown = null;
  route();
}

function showSignIn(notice) {
  feed.stop();
  shown?.handle.unmount();
  shown = null;
  forgetOrders();
  frame.showSignedOut();
  shown = { name: "sign-in", hash: location.hash, handle: mountSignIn(clear(content), app, { notice }) };
  document.title = `Sign in · ${bankName()}`;
}

function route() {
  if (!isSignedIn()) {
    return;
  }
  const { name, params } = readHash();
  const view = views().find((one) => one.name === name) ?? views()[0];
  if (shown !== null && shown.name === view.name) {
    if (shown.hash === location.hash) {
      return;
    }
    shown.hash = location.hash;
    if (shown.handle.update !== undefined) {
      shown.handle.update(params);
      return;
    }
  }
  const isFirst = shown === null;
  shown?.handle.unmount();
  const root = h("div", { class: `view view-${view.name}` });
  content.replaceChildren(root);
  shown = { name: view.name, hash: location.hash, handle: view.mount(root, app, params) };
  frame.markCurrent(view.name);
  document.title = `${view.label} · ${bankName()}`;
  if (!isFirst) {
    window.scrollTo(0, 0);
    root.querySelector("h1")?.focus();
  }
}

function readHash() {
  const [name, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { name, params: Object.fromEntries(new URLSearchParams(query)) };
}

function bankName() {
  return app.session?.bank_name ?? "The bank";
}

/** The lab is fetched when it is first looked at. */
function mountLabLater(root, _app, params) {
  const options = { scenario: params.scenario ?? null, txid: params.txid ?? null };
  let handle = null;
  let isGone = false;
  root.classList.add("lab");
  import("./lab/lab.js").then(
    ({ mountLab, labKeys }) => {
      if (!isGone) {
        frame.setLabKeys(labKeys ?? []);
        handle = mountLab(root, app, options);
        root.querySelector("h1")?.focus();
      }
    },
    (error) => {
      console.error("the lab could not be loaded", error);
      root.append(
        h("h1", { tabindex: "-1" }, "2PC lab"),
        h("p", { class: "notice bad" }, "The lab could not be loaded. Load the page again."),
      );
    },
  );
  return {
    unmount() {
      isGone = true;
      handle?.unmount();
    },
    update({ scenario = null, txid = null }) {
      options.scenario = scenario;
      options.txid = txid;
      if (handle === null) {
        return;
      }
      if (handle.update !== undefined) {
        handle.update(options);
        return;
      }
      handle.unmount();
      clear(root);
      import("./lab/lab.js").then(({ mountLab }) => {
        if (!isGone) {
          handle = mountLab(root, app, options);
        }
      });
    },
  };
}

function download(filename, text, mime = "text/plain") {
  const address = URL.createObjectURL(new Blob([text], { type: mime }));
  const link = h("a", { href: address, download: filename });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

async function start() {
  window.addEventListener("hashchange", route);
  document.getElementById("skip-link").addEventListener("click", (event) => {
    event.preventDefault();
    (content.querySelector("h1[tabindex]") ?? content).focus();
  });
  for (;;) {
    try {
      takeSession(await app.api.get("/session"));
      break;
    } catch {
      emit("connection", "lost");
      await new Promise((done) => setTimeout(done, 1_000));
    }
  }
  emit("connection", "live");
  if (isSignedIn()) {
    enter();
  } else {
    showSignIn(null);
  }
}

void start();
