// The player: where in a transfer the lab stands, and the buttons, slider and keys that move it.
//
// Keeps true: the position lies between 0 and the number of steps. "Live" means that what happens is shown as it
// happens, a step at a time, so that a class sees even what took a millisecond. Leaves out: drawing.

import { h, icon } from "../dom.js";

const STEP_MS = 1_100;
/** How fast live catches up: all that is behind within about this time, but no step faster than the least. */
const CATCH_UP_MS = 3_500;
const CATCH_UP_STEP = { least: 60, most: 420 };
const SPEEDS = ["0.5", "1", "2", "4"];

/** Keys, for the page's list of keys. */
export const PLAYER_KEYS = [
  ["Space", "Play or pause the transfer"],
  ["←  →", "One step back or forward"],
  ["Home  End", "To the first or the last step"],
  ["↑  ↓", "In the diagram: the previous or next mark"],
];

export class Player {
  /** `onMove(position, isFresh)` is called whenever the position changes. */
  constructor(onMove) {
    this.onMove = onMove;
    this.position = 0;
    this.length = 0;
    this.isPlaying = false;
    this.isLive = true;
    this.timer = 0;
    this.build();
  }

  build() {
    const button = (name, label, act, test) =>
      h("button", { class: "button icon-only", type: "button", "aria-label": label, title: label, onclick: act, "data-test": test }, icon(name));
    this.play = button("play", "Play", () => this.toggle(), "play");
    this.slider = h("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Step", "data-test": "slider",
      oninput: () => this.go(Number(this.slider.value)) });
    this.live = h("button", { class: "button lab-live", type: "button", "aria-pressed": "true", "data-test": "live",
      title: "Show what happens as it happens", onclick: () => this.setLive(!this.isLive) }, "Live");
    this.speed = h("select", { "aria-label": "Speed", "data-test": "speed", title: "Speed" },
      SPEEDS.map((speed) => h("option", { value: speed, selected: speed === "1" }, `${speed}×`)));
    this.node = h("div", { class: "lab-player", role: "group", "aria-label": "Player" },
      h("div", { class: "buttons" },
        button("first", "First step", () => this.go(0), "first"), button("back", "One step back", () => this.go(this.position - 1), "back"), this.play,
        button("forward", "One step forward", () => this.go(this.position + 1), "forward"), button("last", "Last step", () => this.go(this.length), "last")),
      this.slider, this.speed, this.live);
  }

  unmount() {
    clearTimeout(this.timer);
  }

  /** Another transfer: from its first step or its last, or wherever it was left. */
  open(length, position, isLive) {
    clearTimeout(this.timer);
    Object.assign(this, { length, isPlaying: false, isLive, position: clamp(position, length) });
    this.moved(false);
    this.schedule();
  }

  /** The same transfer has other steps now. */
  grow(length) {
    const isShorter = length < this.length;
    this.length = length;
    this.position = clamp(this.position, length);
    this.moved(false);
    // What is due keeps its time: many changes in a row must not put it off for ever.
    if (isShorter || this.timer === 0) this.schedule();
  }

  go(position) {
    this.isPlaying = false;
    const next = clamp(position, this.length);
    const isFresh = next === this.position + 1;
    // Whoever goes to the end wants to see what comes.
    this.isLive = next === this.length;
    this.position = next;
    this.moved(isFresh);
    this.schedule();
  }

  toggle() {
    this.isPlaying = !this.isPlaying;
    if (this.isPlaying) {
      this.isLive = false;
      if (this.position >= this.length) this.position = 0;
    }
    this.moved(false);
    this.schedule();
  }

  setLive(isLive) {
    Object.assign(this, { isLive, isPlaying: false });
    if (isLive) this.position = this.length;
    this.moved(false);
    this.schedule();
  }

  moved(isFresh) {
    this.slider.max = this.length;
    this.slider.value = this.position;
    this.slider.setAttribute("aria-valuetext", `Step ${this.position} of ${this.length}`);
    this.live.setAttribute("aria-pressed", String(this.isLive));
    const word = this.isPlaying ? "Pause" : "Play";
    if (this.play.title !== word) {
      this.play.title = word;
      this.play.setAttribute("aria-label", word);
      this.play.replaceChildren(icon(word.toLowerCase()));
    }
    this.onMove(this.position, isFresh);
  }

  schedule() {
    clearTimeout(this.timer);
    this.timer = 0;
    const behind = this.length - this.position;
    if (behind <= 0) {
      if (this.isPlaying) {
        // At the end, a transfer that is not over goes on by itself.
        Object.assign(this, { isPlaying: false, isLive: true });
        this.moved(false);
      }
      return;
    }
    if (!this.isPlaying && !this.isLive) return;
    const catchUp = Math.min(CATCH_UP_STEP.most, Math.max(CATCH_UP_STEP.least, CATCH_UP_MS / behind));
    const wait = this.isPlaying ? STEP_MS / Number(this.speed.value) : catchUp / Number(this.speed.value);
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.position = clamp(this.position + 1, this.length);
      this.moved(true);
      this.schedule();
    }, wait);
  }

  /** Handles a key that no field has use for; tells whether it did. */
  key(event) {
    const moves = { ArrowLeft: this.position - 1, ArrowRight: this.position + 1, Home: 0, End: this.length };
    if (event.key in moves) this.go(moves[event.key]);
    else if (event.key === " ") this.toggle();
    else return false;
    return true;
  }
}

function clamp(position, length) {
  return Math.min(Math.max(0, position), length);
}
