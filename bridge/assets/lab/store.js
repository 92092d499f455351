// What the lab knows: events by transfer, what the stages hold back, when branches were down. No DOM.
//
// Keeps true: an event is kept once, however often it comes; memory is bounded, the transfer that is shown is kept.

/** How many transfers' events are kept for quick return; older ones are fetched again. */
const TRANSFERS_KEPT = 60;
/** A transfer that is asked for over and over still has an end. */
const EVENTS_KEPT = 5_000;

export class Store {
  constructor(api) {
    this.api = api;
    this.transfers = new Map();
    this.stages = new Map();
    this.outages = {};
    this.aliases = {};
    this.isUp = new Map();
  }

  /** Takes an event; tells whether its transfer was unknown before. */
  take(event) {
    if (!event.txid) return false;
    const isNew = !this.transfers.has(event.txid);
    const events = this.transfers.get(event.txid) ?? new Map();
    if (isNew) this.transfers.set(event.txid, events);
    if (events.size < EVENTS_KEPT) events.set(`${event.branch}:${event.number}`, event);
    return isNew;
  }

  /** Drops the oldest transfers but `shown`. */
  trim(shown) {
    for (const txid of this.transfers.keys()) {
      if (this.transfers.size <= TRANSFERS_KEPT) return;
      if (txid !== shown) this.transfers.delete(txid);
    }
  }

  async load(txid) {
    const { events } = await this.api.get(`/transfers/${encodeURIComponent(txid)}`);
    events.forEach((event) => this.take(event));
  }

  events(txid) {
    return [...(this.transfers.get(txid)?.values() ?? [])];
  }

  /** Takes a stage; tells whether anything but its clock is different. */
  takeStage({ branch, stage }) {
    const told = (one) => (one ? JSON.stringify({ ...one, protocol_clock_ms: 0 }) : "");
    const isOther = told(stage) !== told(this.stages.get(branch));
    if (stage) this.stages.set(branch, stage);
    else this.stages.delete(branch);
    return isOther;
  }

  /** All messages that wait, each with the branch at which it does. */
  waiting() {
    return [...this.stages].flatMap(([branch, stage]) => stage.waiting.map((one) => ({ ...one, branch })));
  }

  takeBank(bank) {
    for (const { name, address, state } of bank.branches) {
      if (address) this.aliases[address] = name;
      const was = this.isUp.get(name);
      const is = state === "up";
      const outages = (this.outages[name] ??= []);
      if (!is && was !== false) outages.push({ from: Number(bank.at_unix_ms), until: null });
      if (is && outages.at(-1)?.until === null) outages.at(-1).until = Number(bank.at_unix_ms);
      if (!is) this.stages.delete(name);
      this.isUp.set(name, is);
    }
  }
}
