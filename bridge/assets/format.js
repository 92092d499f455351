// How times, counts and names are written on the page: in the browser's time zone, in one form everywhere.

const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY_AND_TIME = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

/** `04:46:01`. */
export function shortTime(unixMs) {
  return TIME.format(new Date(unixMs));
}

/** `22 Nov 2026, 04:46:01`, from milliseconds or ISO-8601; a text that is no time stays as it is. */
export function dayAndTime(when) {
  const date = new Date(when);
  return Number.isNaN(date.getTime()) ? String(when) : DAY_AND_TIME.format(date);
}

/** `1,23,456`. */
export function count(number) {
  return Number(number).toLocaleString("en-IN");
}

/** `2 transfers`, `1 transfer`. */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${Number(number) === 1 ? one : many}`;
}

/** `45 s`, `3 min 20 s`, `2 h 5 min`, `4 days`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(Number(seconds)));
  if (whole < 60) {
    return `${whole} s`;
  }
  if (whole < 3_600) {
    return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  }
  if (whole < 86_400) {
    return `${Math.floor(whole / 3_600)} h ${Math.floor((whole % 3_600) / 60)} min`;
  }
  return counted(Math.floor(whole / 86_400), "day");
}

const TYPES = {
  opening: "Opening",
  deposit: "Deposit",
  withdrawal: "Withdrawal",
  transfer: "Transfer",
  transfer_out: "To another branch",
  transfer_in: "From another branch",
  closing: "Closing",
  settlement: "Settlement",
};

/** The types of transactions, as the branch names them. */
export const TRANSACTION_TYPES = Object.keys(TYPES);

/** What a type of transaction is called on the page. */
export function typeName(type) {
  return TYPES[type] ?? type;
}
