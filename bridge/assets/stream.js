// A shared worker: one stream of events for all tabs of a browser, which has but six connections for one address over
// HTTP/1.1. It parses nothing and decides nothing: each tab says when it wants the stream, and when to try again.
//
// From a tab: {open: true, after, isFresh} or {open: false}. To a tab: {type, id, data}, where the type `connection`
// has "live" or "lost" as its data. A tab that opens afresh has the stream begin anew for all, with the present first;
// so whoever has just signed in never sees what another person's stream had told.

const TYPES = ["bank", "happened", "stage", "scenario", "account", "missed"];
const ports = new Set();
let source = null;
let lastId = null;

self.addEventListener("connect", ({ ports: [port] }) => {
  port.addEventListener("message", ({ data }) => (data.open ? open(port, data) : close(port)));
  port.start();
});

function open(port, { after, isFresh }) {
  ports.add(port);
  if (source !== null && !isFresh) {
    // Another tab was quicker; what is missed comes to all.
    if (source.readyState === EventSource.OPEN) {
      port.postMessage({ type: "connection", id: "", data: "live" });
    }
    return;
  }
  source?.close();
  const from = earlier(after, lastId);
  source = new EventSource(from === null ? "/events" : `/events?after=${encodeURIComponent(from)}`);
  source.addEventListener("open", () => tell("connection", "", "live"));
  source.addEventListener("error", lost);
  for (const type of TYPES) {
    source.addEventListener(type, (message) => {
      if (message.lastEventId !== "") {
        lastId = message.lastEventId;
      }
      tell(type, message.lastEventId, message.data);
    });
  }
}

function close(port) {
  ports.delete(port);
  if (ports.size === 0) {
    source?.close();
    source = null;
    lastId = null;
  }
}

function lost() {
  source?.close();
  source = null;
  tell("connection", "", "lost");
}

function tell(type, id, data) {
  for (const port of ports) {
    port.postMessage({ type, id, data });
  }
}

function earlier(one, other) {
  if (one === null || other === null) {
    return one ?? other;
  }
  return Number(one) < Number(other) ? one : other;
}
