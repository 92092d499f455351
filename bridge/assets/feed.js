// The stream of events from the bridge: one EventSource, opened again by our own clock when it breaks, after the
// last number that was seen. Tells `connection` ("live" or "lost") and hands every message on, parsed.
//
// A page that nobody looks at lets go of its connection after a while, as a browser has but six for one address,
// and takes it up again where it was when it is looked at.

import { parseExact } from "./money.js";

const TYPES = ["bank", "happened", "stage", "scenario", "account", "missed"];
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5_000;
const HIDDEN_MS = 60_000;

/** `emit(type, data)` gets each message; `check()` is awaited before each new attempt and gives false to end it. */
export function makeFeed({ emit, check }) {
  let source = null;
  let lastId = null;
  let retryMs = FIRST_RETRY_MS;
  let retryTimer = 0;
  let hiddenTimer = 0;
  let isWanted = false;

  function open() {
    drop();
    source = new EventSource(lastId === null ? "/events" : `/events?after=${encodeURIComponent(lastId)}`);
    source.addEventListener("open", () => {
      retryMs = FIRST_RETRY_MS;
      emit("connection", "live");
    });
    source.addEventListener("error", lost);
    for (const type of TYPES) {
      source.addEventListener(type, (message) => take(type, message));
    }
  }

  function take(type, message) {
    if (message.lastEventId !== "") {
      lastId = message.lastEventId;
    }
    try {
      emit(type, parseExact(message.data));
    } catch (error) {
      console.error(`an event of type ${type} could not be read`, error);
    }
  }

  function lost() {
    drop();
    emit("connection", "lost");
    retryTimer = setTimeout(retry, retryMs);
    retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
  }

  async function retry() {
    const goesOn = await check();
    if (isWanted && goesOn === true) {
      open();
    } else if (isWanted && goesOn === null) {
      lost();
    }
  }

  function drop() {
    clearTimeout(retryTimer);
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (!isWanted) {
      return;
    }
    if (document.visibilityState === "hidden") {
      hiddenTimer = setTimeout(drop, HIDDEN_MS);
    } else if (source === null) {
      retryMs = FIRST_RETRY_MS;
      open();
    }
  });

  return {
    /** Opens the stream; the present comes first. */
    start() {
      isWanted = true;
      lastId = null;
      open();
    },
    /** Closes it for good. */
    stop() {
      isWanted = false;
      clearTimeout(hiddenTimer);
      drop();
    },
  };
}
