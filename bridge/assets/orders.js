// Orders to the bank that must be carried out once: a deposit, a transfer, the opening of an account.
//
// Each order gets a request id here, before it is sent. While it is under way no other of its kind is taken, so a
// double click pays once. When its answer is lost, nobody knows whether it was carried out: the order is kept, also
// over a reload of the page, and sent again with the *same* id; the bank then carries it out, or tells what it
// answered the first time. An order outlives the view that gave it: its outcome is then told as a message.

const STORE = "bank.orders";
const ID_BYTES = 16;

const orders = new Map();
/** Counts sign-ins; the outcome of an order of an earlier one is told to nobody. */
let era = 0;

/** The order of that kind; there is one of each. */
export function order(kind) {
  if (!orders.has(kind)) {
    orders.set(kind, makeOrder(kind, stored()[kind] ?? null));
  }
  return orders.get(kind);
}

/** Forgets them all, when somebody else signs in. */
export function forgetOrders() {
  era += 1;
  orders.clear();
  try {
    sessionStorage.removeItem(STORE);
  } catch {
    // A browser that stores nothing has nothing to forget.
  }
}

function makeOrder(kind, unsettled) {
  let state = unsettled === null ? "idle" : "unsure";
  let current = unsettled;
  let listener = null;

  async function run(app) {
    const bornIn = era;
    state = "under-way";
    store(kind, current);
    listener?.changed(state);
    try {
      const result = await app.api.post(current.path, { ...current.body, request_id: current.requestId });
      settle("idle", bornIn, (told) => told.done(result, current.body), app);
    } catch (error) {
      const isUnsure = error.status === undefined || error.isOutcomeUnknown || error.status === 503;
      settle(isUnsure ? "unsure" : "idle", bornIn, (told) => told.failed(error, isUnsure), app);
    }
  }

  function settle(newState, bornIn, tell, app) {
    if (bornIn !== era) {
      return;
    }
    state = newState;
    if (state === "idle") {
      store(kind, null);
    }
    if (listener === null) {
      tell({
        done: (result, body) => app.toast(current.say(result, body), "good"),
        failed: (error) => app.toast(error.message, "bad"),
      });
    } else {
      listener.changed(state);
      tell(listener);
    }
  }

  return {
    get state() {
      return state;
    },
    /** What is under way, or unsettled. */
    get body() {
      return current?.body ?? null;
    },
    /** `listener` is told of `changed(state)`, `done(result, body)`, `failed(error, isUnsure)`; null takes it away. */
    listen(newListener) {
      listener = newListener;
    },
    /** Gives the order, unless one is under way; `say(result, body)` tells its outcome if nobody listens then. */
    give(app, path, body, say) {
      if (state === "under-way") {
        return;
      }
      const isSame = state === "unsure" && current.path === path && sameBody(current.body, body);
      current = { path, body, requestId: isSame ? current.requestId : freshRequestId(), say };
      void run(app);
    },
    /** Sends an unsettled order again. */
    again(app, say) {
      if (state === "unsure") {
        current.say = say;
        void run(app);
      }
    },
    /** Gives an unsettled order up: whether it was carried out is for the person to look up. */
    giveUp() {
      if (state === "unsure") {
        state = "idle";
        store(kind, null);
        listener?.changed(state);
      }
    },
  };
}

function sameBody(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

function freshRequestId() {
  const bytes = crypto.getRandomValues(new Uint8Array(ID_BYTES));
  return `web-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE) ?? "{}");
  } catch {
    return {};
  }
}

function store(kind, entry) {
  const all = stored();
  if (entry === null) {
    delete all[kind];
  } else {
    const { path, body, requestId } = entry;
    // A password is not written down; an order that has one can't be taken up after a reload.
    if ("password" in body) {
      return;
    }
    all[kind] = { path, body, requestId };
  }
  try {
    sessionStorage.setItem(STORE, JSON.stringify(all));
  } catch {
    // Then it is kept as long as the page is.
  }
}
