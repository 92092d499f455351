// Opening a file in the lab: by the button, or dropped onto the page. The file is read here and shown by a viewer; nothing
// of it is sent anywhere.

import { h, icon } from "../dom.js";
import { ELEMENT, FILE_BYTES, NotARun, readRun } from "./run_file.js";
import { Viewer } from "./viewer.js";

export class OpenFile {
  /** `root` is shown instead of the lab's own parts (`parts`) while a file is open. */
  constructor(app, root, parts) {
    Object.assign(this, { app, root, parts, viewer: null });
    this.input = h("input", { type: "file", class: "visually-hidden", tabindex: "-1", "aria-hidden": "true", "data-test": "open-file-input",
      accept: ".html,.json,.log,.txt,.shiviz", onchange: () => void this.take(this.input.files[0]) });
    this.node = h("span", {}, h("button", { class: "button", type: "button", "data-test": "open-file",
      title: "A run that was exported, a failing seed of the simulator, or a log for ShiViz", onclick: () => this.input.click() }, icon("up"), "Open a file"), this.input);
    this.onDrag = (event) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    };
    this.onDrop = (event) => {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      void this.take(event.dataTransfer.files[0]);
    };
    document.addEventListener("dragover", this.onDrag);
    document.addEventListener("drop", this.onDrop);
  }

  unmount() {
    document.removeEventListener("dragover", this.onDrag);
    document.removeEventListener("drop", this.onDrop);
    this.close();
  }

  isOpen() {
    return this.viewer !== null;
  }

  async take(file) {
    if (!file) return;
    try {
      if (file.size > FILE_BYTES) throw new NotARun(`The file has ${Math.ceil(file.size / 2 ** 20)} MB; the lab opens up to ${FILE_BYTES / 2 ** 20}.`);
      this.show(readRun(await file.text(), heldIn));
    } catch (error) {
      const why = error instanceof NotARun ? error.message : `It can't be read (${error.message}).`;
      this.app.toast(`${file.name}: ${why}`, "bad");
    }
    // The same file can be chosen again.
    this.input.value = "";
  }

  show(run) {
    this.close();
    this.parts.forEach((part) => { part.hidden = true; });
    const place = h("div", { class: "run", "data-test": "run" });
    this.root.append(place);
    this.viewer = { place, shown: new Viewer(place, run, { close: () => this.close() }) };
    place.querySelector("h1").focus();
  }

  close() {
    if (this.viewer === null) return;
    this.viewer.shown.unmount();
    this.viewer.place.remove();
    this.viewer = null;
    this.parts.forEach((part) => { part.hidden = false; });
  }
}

/** What an exported page holds. The text is taken apart as a document that runs nothing and fetches nothing. */
function heldIn(text) {
  return new DOMParser().parseFromString(text, "text/html").getElementById(ELEMENT)?.textContent ?? null;
}
