// What stands around every view: the bar with the views, the switches of theme and text size, the banner that says
// when the bridge is gone, messages that come and go, the dialog that asks before something grave, and the keys.

import { clear, h, icon, remember, remembered, setText } from "./dom.js";
import { shortTime } from "./format.js";
import { isForPage } from "./keys.js";

const TEXT_SIZES = 7;
const TEXT_NORMAL = 2;
const TOAST_MS = 7_000;
const MOST_TOASTS = 3;
const THEMES = ["system", "light", "dark"];
const THEME_NAMES = { system: "as the system", light: "light", dark: "dark" };

/** Makes the frame; it shows nothing until it is told who is there. */
export function makeFrame(app) {
  const bar = document.getElementById("bar");
  const toasts = document.getElementById("toasts");
  const nav = h("nav", { "aria-label": "Views", class: "views" });
  const who = h("div", { class: "who" });
  const name = h("span", { class: "brand-name" }, "The bank");
  const theme = makeTheme(app);
  let views = [];
  let labKeys = [];

  bar.append(
    h(
      "a",
      { class: "brand", href: "#", "aria-label": "Start" },
      h("span", { class: "brand-mark" }, icon("bank")),
      name,
    ),
    nav,
    h(
      "div",
      { class: "tools" },
      liveSign(app),
      textSize(),
      theme,
      button("keyboard", "Keys", "keys-button", showKeys),
      who,
    ),
  );
  app.on("connection", banner());
  document.addEventListener("keydown", pressed);

  function showSignedIn(newViews) {
    views = newViews;
    bar.classList.remove("signed-out");
    setText(name, app.session.bank_name ?? "The bank");
    clear(nav).append(
      h(
        "ul",
        { class: views.length > 4 ? "many" : "few" },
        views.map((view, index) =>
          h(
            "li",
            null,
            h(
              "a",
              { href: `#${view.name}`, "data-test": `nav-${view.name}`, title: `${view.label} (${index + 1})` },
              icon(view.icon),
              h("span", { class: "long" }, view.label),
              h("span", { class: "short" }, view.short),
            ),
          ),
        ),
      ),
    );
    clear(who).append(...whoIsIt(app));
  }

  function pressed(event) {
    if (!isForPage(event)) {
      return;
    }
    const view = /^[1-9]$/.test(event.key) ? views[Number(event.key) - 1] : undefined;
    if (view !== undefined) {
      event.preventDefault();
      app.navigate(`#${view.name}`);
    } else if (event.key === "?") {
      event.preventDefault();
      showKeys();
    }
  }

  function showKeys() {
    const rows = [
      ...views.map((view, index) => [String(index + 1), view.label]),
      ["?", "These keys"],
      ["Tab", "The next field or button"],
      ["Esc", "Close a dialog"],
      ...labKeys.map(([key, what]) => [key, `In the lab: ${what}`]),
    ];
    const switchBox = h("input", { type: "checkbox", id: "keys-on" });
    switchBox.checked = remembered("keys", "on") === "on";
    switchBox.addEventListener("change", () => remember("keys", switchBox.checked ? "on" : "off"));
    const dialog = sheet("Keys", [
      h(
        "dl",
        { class: "keys" },
        rows.map(([key, what]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, what))),
      ),
      h("label", { class: "check", for: "keys-on" }, switchBox, " Single keys are on"),
      h("div", { class: "row end" }, h("button", { class: "button primary", onclick: () => dialog.close() }, "Close")),
    ]);
    dialog.showModal();
  }

  return {
    showSignedIn,
    showSignedOut() {
      views = [];
      bar.classList.add("signed-out");
      setText(name, app.session?.bank_name ?? "The bank");
      clear(nav);
      clear(who);
      clear(toasts);
    },
    markCurrent(viewName) {
      for (const link of nav.querySelectorAll("a")) {
        if (link.dataset.test === `nav-${viewName}`) {
          link.setAttribute("aria-current", "page");
        } else {
          link.removeAttribute("aria-current");
        }
      }
    },
    setLabKeys(keys) {
      labKeys = keys;
    },
    toast: (text, kind = "info") => toast(toasts, text, kind),
    announce: (text) => {
      document.getElementById("announcer").textContent = text;
    },
    confirm,
  };
}

/** A dialog with a heading; it is taken off the page when it closes. */
export function sheet(title, children) {
  const heading = h("h2", { id: "sheet-title" }, title);
  const dialog = h("dialog", { class: "sheet", "aria-labelledby": "sheet-title" }, heading, children);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  return dialog;
}

/** Asks before something is done; true when the person agrees. */
function confirm({ title, text, action, danger = false }) {
  return new Promise((resolve) => {
    const done = (answer) => () => {
      resolve(answer);
      dialog.close();
    };
    const paragraphs = (Array.isArray(text) ? text : [text]).map((one) => h("p", null, one));
    const dialog = sheet(title, [
      paragraphs,
      h(
        "div",
        { class: "row end" },
        h("button", { class: "button", onclick: done(false), "data-test": "confirm-no" }, "Cancel"),
        h(
          "button",
          { class: danger ? "button danger" : "button primary", onclick: done(true), "data-test": "confirm-yes" },
          action,
        ),
      ),
    ]);
    dialog.addEventListener("close", () => resolve(false));
    dialog.showModal();
  });
}

function toast(toasts, text, kind) {
  const close = () => node.remove();
  const node = h(
    "div",
    { class: `toast ${kind}`, role: kind === "bad" ? "alert" : null },
    icon(kind === "good" ? "check" : kind === "bad" ? "warning" : "dot"),
    h("p", null, text),
    h("button", { class: "button quiet icon-only", "aria-label": "Close this message", onclick: close }, icon("close")),
  );
  toasts.append(node);
  while (toasts.children.length > MOST_TOASTS) {
    toasts.firstElementChild.remove();
  }
  const timer = setTimeout(close, TOAST_MS);
  node.addEventListener("focusin", () => clearTimeout(timer));
  node.addEventListener("pointerover", () => clearTimeout(timer));
}

function whoIsIt(app) {
  const { role, branch, account } = app.session;
  if (role === "open") {
    return [h("span", { class: "badge warn", title: "Anyone who reaches this page may do all" }, "open to all")];
  }
  const text = role === "administrator" ? `Administrator` : `${branch} ${account}`;
  const out = h(
    "button",
    {
      class: "button quiet icon-only",
      "data-test": "sign-out",
      "aria-label": "Sign out",
      title: "Sign out",
      onclick: () => void app.signOut(),
    },
    icon("out"),
  );
  return [h("span", { class: "who-name" }, icon("user"), h("span", { "data-test": "who" }, text)), out];
}

function liveSign(app) {
  const text = h("span", { class: "live-text" }, "live");
  const node = h(
    "span",
    { class: "live", title: "Whether this page is connected to the bridge", "data-test": "connection" },
    h("span", { class: "live-dot" }),
    text,
  );
  app.on("connection", (connection) => {
    node.classList.toggle("lost", connection === "lost");
    setText(text, connection === "lost" ? "lost" : "live");
  });
  return node;
}

function banner() {
  const node = document.getElementById("connection-banner");
  let isLost = false;
  return (connection) => {
    document.documentElement.dataset.connection = connection;
    if (connection === "lost" && !isLost) {
      isLost = true;
      clear(node).append(
        icon("warning"),
        h(
          "p",
          null,
          h("strong", null, "The bridge does not answer."),
          ` What you see is from ${shortTime(Date.now())}. This page tries again by itself.`,
        ),
      );
      node.hidden = false;
    } else if (connection === "live") {
      isLost = false;
      node.hidden = true;
    }
  };
}

function textSize() {
  const apply = (size) => {
    document.documentElement.dataset.text = String(size);
    smaller.disabled = size === 1;
    larger.disabled = size === TEXT_SIZES;
    remember("text-size", String(size));
  };
  const change = (by) => () => {
    const size = Number(document.documentElement.dataset.text) + by;
    apply(Math.min(TEXT_SIZES, Math.max(1, size)));
    document.getElementById("announcer").textContent =
      `Text size ${document.documentElement.dataset.text} of ${TEXT_SIZES}`;
  };
  const smaller = h(
    "button",
    {
      class: "button quiet text-smaller",
      "aria-label": "Smaller text",
      title: "Smaller text",
      "data-test": "text-smaller",
      onclick: change(-1),
    },
    "A−",
  );
  const larger = h(
    "button",
    {
      class: "button quiet text-larger",
      "aria-label": "Larger text",
      title: "Larger text",
      "data-test": "text-larger",
      onclick: change(1),
    },
    "A+",
  );
  const before = Number(remembered("text-size", TEXT_NORMAL));
  apply(before >= 1 && before <= TEXT_SIZES ? Math.trunc(before) : TEXT_NORMAL);
  return h("div", { class: "pair", role: "group", "aria-label": "Text size" }, smaller, larger);
}

function makeTheme(app) {
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  let choice = THEMES.includes(remembered("theme", "system")) ? remembered("theme", "system") : "system";
  const node = h("button", { class: "button quiet icon-only", "data-test": "theme", onclick: next });
  function apply() {
    app.theme = choice === "system" ? (systemIsDark.matches ? "dark" : "light") : choice;
    document.documentElement.dataset.theme = app.theme;
    const label = `Theme: ${THEME_NAMES[choice]}`;
    node.setAttribute("aria-label", label);
    node.title = label;
    clear(node).append(icon(app.theme === "dark" ? "moon" : "sun"));
  }
  /** The first press always shows a difference: it goes to the other theme than the one that is seen. */
  function next() {
    choice = app.theme === "dark" ? "light" : "dark";
    if ((choice === "dark") === systemIsDark.matches) {
      choice = "system";
    }
    remember("theme", choice);
    apply();
    document.getElementById("announcer").textContent = `Theme: ${app.theme}`;
  }
  systemIsDark.addEventListener("change", apply);
  apply();
  return node;
}

function button(picture, label, test, act) {
  return h(
    "button",
    { class: "button quiet icon-only", "aria-label": label, title: `${label} (?)`, "data-test": test, onclick: act },
    icon(picture),
  );
}
