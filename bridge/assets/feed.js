// The stream of events from the bridge, opened again by our own clock when it breaks, after the last number that was
// seen. Tells `connection` ("live" or "lost") and hands every message on, parsed.
//
// All tabs of a browser share one stream (stream.js), as a browser has but six connections for one address. Where that
// can't be, a tab has its own, and lets go of it soon after nobody looks at it. A page that nobody looks at for longer
// lets go of the shared one too, and takes it up again where it was.

import { parseExact } from "./money.js";

const TYPES = ["bank", "happened", "stage", "scenario", "account", "missed"];
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5_000;
const HIDDEN_MS = 60_000;
const HIDDEN_ALONE_MS = 3_000;

/** `emit(type, data)` gets each message; `check()` is awaited before each new attempt and gives false to end it. */
export function makeFeed({ emit, check }) {
  let lastId = null;
  let retryMs = FIRST_RETRY_MS;
  let retryTimer = 0;
  let hiddenTimer = 0;
  let isWanted = false;
  let isOpen = false;
  let source = sharedSource(take, () => {
    source = ownSource(take);
    if (isOpen) {
      open(true);
    }
  });

  function open(isFresh) {
    clearTimeout(retryTimer);
    isOpen = true;
    source.open(lastId, isFresh);
  }

  function take(type, id, data) {
    if (!isOpen) {
      return;
    }
    if (type === "connection") {
      if (data === "lost") {
        lost();
      } else {
        retryMs = FIRST_RETRY_MS;
        emit("connection", "live");
      }
      return;
    }
    // Another tab may have asked for what is known here already.
    if (type === "happened" && lastId !== null && Number(id) <= Number(lastId)) {
      return;
    }
    if (id !== "" && !(Number(id) < Number(lastId))) {
      lastId = id;
    }
    try {
      emit(type, parseExact(data));
    } catch (error) {
      console.error(`an event of type ${type} could not be read`, error);
    }
  }

  function lost() {
    clearTimeout(retryTimer);
    emit("connection", "lost");
    retryTimer = setTimeout(retry, retryMs);
    retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
  }

  async function retry() {
    const goesOn = await check();
    if (isWanted && goesOn === true) {
      open(false);
    } else if (isWanted && goesOn === null) {
      lost();
    }
  }

  function drop() {
    clearTimeout(retryTimer);
    isOpen = false;
    source.close();
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (!isWanted) {
      return;
    }
    if (document.visibilityState === "hidden") {
      hiddenTimer = setTimeout(drop, source.isShared ? HIDDEN_MS : HIDDEN_ALONE_MS);
    } else if (!isOpen) {
      retryMs = FIRST_RETRY_MS;
      open(true);
    }
  });
  window.addEventListener("pagehide", drop);
  window.addEventListener("pageshow", ({ persisted }) => persisted && isWanted && open(true));

  return {
    /** Opens the stream; the present comes first. */
    start() {
      isWanted = true;
      lastId = null;
      open(true);
    },
    /** Closes it for good. */
    stop() {
      isWanted = false;
      clearTimeout(hiddenTimer);
      drop();
    },
  };
}

/** The stream that all tabs share; `failed` is called when there can be none. */
function sharedSource(take, failed) {
  if (typeof SharedWorker === "undefined") {
    return ownSource(take);
  }
  let port = null;
  try {
    const worker = new SharedWorker("/assets/stream.js", { name: "stream" });
    worker.addEventListener("error", failed, { once: true });
    port = worker.port;
  } catch {
    return ownSource(take);
  }
  port.addEventListener("message", ({ data: { type, id, data } }) => take(type, id, data));
  port.start();
  return {
    isShared: true,
    open: (after, isFresh) => port.postMessage({ open: true, after, isFresh }),
    close: () => port.postMessage({ open: false }),
  };
}

/** A stream of this tab's own. */
function ownSource(take) {
  let source = null;
  function close() {
    source?.close();
    source = null;
  }
  return {
    isShared: false,
    close,
    open(after) {
      close();
      source = new EventSource(after === null ? "/events" : `/events?after=${encodeURIComponent(after)}`);
      source.addEventListener("open", () => take("connection", "", "live"));
      source.addEventListener("error", () => {
        close();
        take("connection", "", "lost");
      });
      for (const type of TYPES) {
        source.addEventListener(type, ({ lastEventId, data }) => take(type, lastEventId, data));
      }
    },
  };
}
