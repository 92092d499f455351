// Making and changing elements. Text from anywhere goes in as text alone: nothing here, and nothing that uses it,
// ever reads a string as HTML.
//
// Keeps true: no inline style attribute is written (the page's security policy refuses them), and an element that
// stays on the page keeps its focus, because lists are changed in place (`reconcile`).

import { ICONS } from "./icons.js";

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const LONG_FIGURE = 16;

/** Makes an HTML element: `h("button", {class: "button", onclick: act}, "text", node, [more])`. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for an SVG element. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, tag), props, children);
}

/** A small picture, hidden from screen readers: the words beside it say what it means. */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    (ICONS[name] ?? ICONS.dot).map((d) => svg("path", { d })),
  );
}

/** Takes all children away. */
export function clear(node) {
  node.replaceChildren();
  return node;
}

/** Writes text, and touches the page only when it differs. */
export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) {
    node.textContent = wanted;
  }
}

/** Writes the figure that a card is about; a long one is set smaller, so that it stays on one line. */
export function setFigure(node, text) {
  setText(node, text);
  node.classList.toggle("long", text.length > LONG_FIGURE);
}

/** Replaces all children by these. */
export function setChildren(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

/**
 * Makes `list`'s children those of `items`, in their order, keeping the elements of keys that stay.
 * `create(item)` gives an element; `update(element, item)` is called for each.
 */
export function reconcile(list, items, keyOf, create, update = () => {}) {
  const old = new Map([...list.children].map((node) => [node.dataset.key, node]));
  let place = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = old.get(key);
    old.delete(key);
    if (node === undefined) {
      node = create(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (node === place) {
      place = place.nextElementSibling;
    } else {
      list.insertBefore(node, place);
    }
  }
  for (const node of old.values()) {
    node.remove();
  }
}

/** What was remembered in this browser under a key; `fallback` where nothing was, or nothing may be. */
export function remembered(key, fallback) {
  try {
    return localStorage.getItem(`bank.${key}`) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Remembers a text in this browser; a browser that refuses forgets it. */
export function remember(key, value) {
  try {
    localStorage.setItem(`bank.${key}`, value);
  } catch {
    // Nothing depends on it being remembered.
  }
}

let lastId = 0;

/** An id that no other element has. */
export function freshId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** Calls `act` once the calls have stopped for `milliseconds`; `cancel()` forgets the call that is due. */
export function debounced(act, milliseconds) {
  let timer = 0;
  const call = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...args), milliseconds);
  };
  call.cancel = () => clearTimeout(timer);
  return call;
}

/** Calls `act` at once, and at most once in `milliseconds`; a call in between is made up for at the end. */
export function throttled(act, milliseconds) {
  let timer = 0;
  let isDue = false;
  const call = () => {
    if (timer !== 0) {
      isDue = true;
      return;
    }
    act();
    timer = setTimeout(() => {
      timer = 0;
      if (isDue) {
        isDue = false;
        call();
      }
    }, milliseconds);
  };
  call.cancel = () => {
    clearTimeout(timer);
    timer = 0;
    isDue = false;
  };
  return call;
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) {
      continue;
    }
    if (name.startsWith("on")) {
      node.addEventListener(name.slice(2), value);
    } else if (value === true) {
      node.setAttribute(name, "");
    } else {
      node.setAttribute(name, value);
    }
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) {
      append(node, child);
    } else if (child !== null && child !== undefined && child !== false) {
      node.append(child);
    }
  }
}
