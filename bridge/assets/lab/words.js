// What the lab says: the name of a message, a record or a state, and one sentence for each step. Pure: text alone.

import { rupees } from "./money.js";

/** The states of a party as a class calls them. */
export const STATES = {
  idle: "not asked yet", waits: "waiting", told: "told", unsure: "cut off", active: "active", prepared: "prepared", doubt: "in doubt",
  memory: "prepared in memory", committed: "committed", aborted: "aborted", mixed: "settled by hand, otherwise", down: "down", forgot: "knows nothing",
};

/** What each state means, for the legend and the detail panel. */
export const STATE_MEANINGS = {
  active: "takes part; can still refuse or abort",
  prepared: "has promised on disk to be able to commit",
  doubt: "has voted yes and may not decide alone: it must learn the outcome",
  memory: "knows of it in memory alone: a crash forgets it",
  committed: "the transfer happens, for good",
  aborted: "nothing happens here",
  forgot: "its disk knows nothing of the transfer, and its memory is new",
  down: "the process is gone; only what is on its disk remains",
};

/** A message's family, which gives its colour and the shape of its arrow head. */
export function family(name) {
  if (name === "prepare") return "ask";
  if (["vote yes", "acknowledged", "vote", "ok"].includes(name)) return "yes";
  if (["vote no", "rejected", "abort", "error"].includes(name)) return "no";
  if (name === "commit") return "commit";
  return "inquiry";
}

/** What a prepare asks for: `+50.00 → 1002`. */
function legs(text) {
  const found = [...text.matchAll(/\d+ (deposit|withdraw\w*) ([\d.]+) (?:to|from) (\d+)/g)];
  return found.map(([, side, amount, account]) => `${side === "deposit" ? "+" : "−"}${amount} ${side === "deposit" ? "to" : "from"} ${account}`);
}

/** The label on an arrow: `full`, its `name` alone, or `short` for narrow lanes. */
export function messageLabel(message, length = "full") {
  const times = message.more > 0 ? ` ×${message.more + 1}` : "";
  const again = message.isAgain ? `${length === "short" ? " ↻" : " again"}${times}` : "";
  const name = message.name === "acknowledged" && length === "short" ? "ack" : message.name;
  const asked = message.name === "prepare" && length === "full" ? legs(message.text) : [];
  return `${name}${again}${asked.length === 1 ? `: ${asked[0]}` : asked.length > 1 ? `: ${asked.length} legs` : ""}`;
}

const SHORT_MOVEMENTS = { held: "holds ", debited: "−", credited: "+", released: "frees ", reserved: "room " };

/** Movements in words: `1001: 50.00 held`, or `+50.00`. */
export function movements(step, isShort = false) {
  const sums = new Map();
  for (const { account, amount, what } of step.money) {
    const key = `${account} ${what}`;
    sums.set(key, { account, what, amount: (sums.get(key)?.amount ?? 0n) + amount });
  }
  return [...sums.values()].map(({ account, amount, what }) => (isShort ? `${SHORT_MOVEMENTS[what] ?? ""}${rupees(amount)}` : `${account}: ${rupees(amount)} ${what}`));
}

/** The words beside a mark on a lane. */
export function markLabel(step, isShort = false) {
  switch (step.kind) {
    case "record": return isShort ? step.record.replace("settled ", "") : step.record;
    case "refused": return "refuses";
    case "crashed": return isShort ? "crash" : "crashes";
    case "started": return isShort ? "starts" : "starts again";
    case "memory": return isShort ? "memory" : "in memory alone";
    case "note": return isShort ? "…" : shorten(step.text, 28);
    case "lost": return "lost";
    default: return "";
  }
}

/** What the client asked for, short: `50.00 → Delhi/1002`. */
export function askedWords(text) {
  return text.replace(/^transfer /, "").replace(/ from \S+ to /g, " → ");
}

/** What the client was told, in the bank's words or, on an arrow, in two. */
export function toldWords(text, isShort = false) {
  if (isShort && !text.startsWith("transfer_complete")) return "refused";
  return text.replace("transfer_complete, delivery done", "done, and arrived").replace("transfer_complete, delivery pending", "done, delivery pending");
}

export function shorten(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

const SENT = {
  "prepare": (a, b, m) => `${a} asks ${b} to prepare${legs(m.text).length ? `: ${legs(m.text).join(", ")}` : ""}.`,
  "vote yes": (a, b) => `${a} votes yes. From here on ${a} is in doubt: it has promised, and may not decide alone.`,
  "vote no": (a, b) => `${a} votes no. One no is enough: the transfer aborts.`,
  "commit": (a, b) => `${a} tells ${b} to commit.`,
  "abort": (a, b) => `${a} tells ${b} to abort.`,
  "acknowledged": (a, b) => `${a} acknowledges: it has the outcome on disk, and ${b} need not tell it again.`,
  "inquiry": (a, b) => `${a} is in doubt and asks ${b} for the outcome.`,
  "undecided": (a, b) => `${a} answers ${b}: not decided yet.`,
  "rejected": (a, b) => `${a} rejects what ${b} asked.`,
};

const RECEIVED = {
  "prepare": (a, b) => `${b} receives the prepare.`,
  "vote yes": (a, b) => `${b} hears ${a}'s yes.`,
  "vote no": (a, b) => `${b} hears ${a}'s no.`,
  "commit": (a, b) => `${b} learns the outcome: commit. Its doubt is over.`,
  "abort": (a, b) => `${b} learns the outcome: abort.`,
  "acknowledged": (a, b) => `${b} hears that ${a} has the outcome.`,
  "inquiry": (a, b) => `${b} is asked by ${a} for the outcome.`,
  "undecided": (a, b) => `${b} hears that nothing is decided yet, and stays in doubt.`,
};

const RECORDS = {
  "begun": "who takes part, and the money that is held",
  "prepared": "a promise that outlives a crash",
  "committed": "the commit point. From this instant the transfer happens, whatever crashes now",
  "settled committed": "the outcome, and the money with it",
  "settled aborted": "the outcome; what was reserved is free again",
  "aborted": "with nothing on disk an abort is presumed anyway",
  "ended": "to lose it costs one more delivery, no money",
};

/** What a message is called in a sentence, where its name is no noun. */
const NOUNS = { "acknowledged": "acknowledgement", "vote yes": "vote", "vote no": "vote", "rejected": "rejection" };

function noun(message) {
  return NOUNS[message.name] ?? message.name;
}

function repeated(from, to, message, isReply) {
  const why = isReply ? "it was asked, or told, once more" : "it has heard nothing since";
  const times = message.more > 0 ? `${message.more + 1} times more` : "once more";
  return `${from} sends the ${noun(message)} to ${to} ${times}: ${why}.`;
}

function recordSentence(name, step) {
  const why = RECORDS[step.record];
  const money = movements(step);
  const tail = money.length > 0 ? ` ${money.join("; ")}.` : "";
  const how = step.forced ? `forces its ${step.record} record to disk` : `writes its ${step.record} record, not forced`;
  return `${name} ${how}${why ? `: ${why}` : ""}.${tail}`;
}

function found(name, step) {
  if (step.found.length === 0) return `${name} starts again. Its disk knows nothing of this transfer.`;
  const last = step.found.at(-1);
  const means = /^prepared/.test(last) ? " It is still in doubt, and asks." : /committed/.test(last) ? " So the decision stands, and is delivered."
    : /^begun/.test(last) ? " Nothing was decided, so it aborts." : "";
  return `${name} starts again and finds on disk: ${step.found.join(", ")}.${means}`;
}

/** What happens in a step, in a sentence or two. */
export function sentence(step, lanes) {
  const name = lanes[step.lane].name;
  const [from, to] = step.message ? [lanes[step.message.from].name, lanes[step.message.to].name] : [];
  const message = step.message?.name;
  switch (step.kind) {
    case "asked": return `A client asks ${name}: ${step.text}.`.replace("..", ".");
    case "answered": return `The client is told: ${toldWords(step.text)}.`.replace("..", ".");
    case "record": return recordSentence(name, step);
    case "sent": {
      if (step.message.isAgain) return repeated(from, to, step.message, step.isReply);
      return SENT[message]?.(from, to, step.message) ?? `${from} sends ${message} to ${to}.`;
    }
    case "received": {
      const was = step.isAgain ? `${to} receives the same ${noun(step.message)} once more. Its effects happen once all the same.` : null;
      const changes = step.states.length > 0 || !["commit", "abort"].includes(message);
      return was ?? (changes ? RECEIVED[message]?.(from, to) ?? `${to} receives ${message} from ${from}.`
        : `${to} receives ${message}, which it knows already. Nothing happens twice.`);
    }
    case "lost": return `The ${noun(step.message)} from ${from} to ${to} is lost on its way.`;
    case "refused": return `${name} refuses: ${step.text}.`;
    case "crashed": return `${name} crashes. What was not on its disk is gone.`;
    case "started": return found(name, step);
    default: return `${name}: ${step.text}`;
  }
}

/** Where the transfer stands, in a few words. */
export function outcomeWords(model) {
  const doubt = model.lanes.filter((lane) => lane.segments.at(-1)?.state === "doubt").map((lane) => lane.name);
  if (model.isOldWay) return { complete: "complete", lost: "the money vanished", undecided: "no one decides" }[model.outcome];
  const { outcome } = model;
  return doubt.length > 0 ? `${outcome}, in doubt at ${doubt.join(" and ")}` : outcome;
}

/** Crash points, in the order in which a transfer passes them, each with what it shows. */
export const CRASH_POINTS = {
  "before-prepared": "Receiver: asked to prepare, nothing on disk yet. It forgets that it was asked.",
  "after-prepared": "Receiver: prepared on disk, the vote not sent. It wakes up in doubt.",
  "after-vote": "Receiver: the vote is out. It wakes up in doubt and asks.",
  "before-decision": "Coordinator: all votes are in, the decision not on disk. It wakes up and aborts.",
  "after-decision": "Coordinator: right after the commit point, before anyone is told. It wakes up and delivers.",
  "after-first-delivery": "Coordinator: one receiver is told, the others are not.",
  "before-end": "Coordinator: all have acknowledged, the end is not on disk. It delivers once more.",
};
