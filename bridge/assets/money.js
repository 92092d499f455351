// Money on the page, digit for digit, as whole paise in a BigInt. No float ever holds an amount.
//
// JSON.parse would make a float of `1000.10`; `parseExact` keeps every number that has a fraction, an exponent or
// more digits than a double can hold as a *string* of the digits that were sent. All amounts in answers are of that
// kind (exactly two decimals), so they reach the page as they left the branch.

/** Reads JSON; numbers that a double might change come as strings. */
export function parseExact(text) {
  return JSON.parse(text.replace(JSON_TOKENS, (token) => (isPlainToken(token) ? token : `"${token}"`)));
}

/** Whole paise, from a text such as `1234.50`, a whole number of rupees, or paise already. */
export function toPaise(amount) {
  if (typeof amount === "bigint") {
    return amount;
  }
  if (typeof amount === "number" && !Number.isSafeInteger(amount)) {
    throw new RangeError(`${amount} is no exact amount`);
  }
  const parts = AMOUNT.exec(String(amount));
  if (parts === null) {
    throw new RangeError(`${amount} is no amount`);
  }
  const [, sign, rupees, decimals = ""] = parts;
  const paise = BigInt(rupees) * 100n + BigInt(decimals.padEnd(2, "0"));
  return sign === "-" ? -paise : paise;
}

/** The bank's own text form, `1234.50`. */
export function fromPaise(paise) {
  const magnitude = paise < 0n ? -paise : paise;
  return `${paise < 0n ? "-" : ""}${magnitude / 100n}.${String(magnitude % 100n).padStart(2, "0")}`;
}

/** `1,23,456.50`: grouped as in India, the last three digits and then pairs. */
export function plain(amount) {
  const [rupees, decimals] = fromPaise(toPaise(amount)).replace("-", "").split(".");
  const tail = rupees.slice(-3);
  const head = rupees.slice(0, -3).replace(/\B(?=(\d{2})+$)/g, ",");
  const sign = toPaise(amount) < 0n ? "−" : "";
  return `${sign}${head === "" ? tail : `${head},${tail}`}.${decimals}`;
}

/** `Rs 1,23,456.50`; a dash where there is no amount. */
export function format(amount) {
  return amount === null || amount === undefined ? "–" : `Rs ${plain(amount)}`;
}

/**
 * What a person typed as an amount to move: `{amount: "1234.50"}`, or `{problem: "…"}`. It may be grouped as amounts are
 * printed, in threes or in the Indian way; other commas are refused, as some people's `1,50` is others' 150.
 */
export function readTyped(typed, { zero = false } = {}) {
  const text = typed.trim().replace(/^Rs\.?\s*/i, "");
  if (text === "") {
    return { problem: "Enter an amount." };
  }
  if (!TYPED.test(text)) {
    return { problem: text.includes(",") ? "The commas stand where no grouping has them: 1,25,000.50 or 125000.50." : "Enter digits with at most two decimals, such as 1250.50." };
  }
  const paise = toPaise(text.replaceAll(",", ""));
  if (paise > MAX_PAISE) {
    return { problem: `The bank holds at most ${format(MAX_PAISE)}.` };
  }
  if (paise === 0n && !zero) {
    return { problem: "Enter more than zero." };
  }
  return { amount: fromPaise(paise) };
}

/** The largest amount of the bank: 99,999,999,999,999.99. */
const MAX_PAISE = 9_999_999_999_999_999n;
/** Digits, or groups of three, or the last three and pairs before them. */
const TYPED = /^(\d+|\d{1,3}(,\d{3})+|\d{1,2}(,\d{2})*,\d{3})(\.\d{1,2})?$/;
const AMOUNT = /^(-?)(\d+)(?:\.(\d{1,2}))?$/;
/** A string, or a number; strings come first, so a number inside one is never seen. */
const JSON_TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

function isPlainToken(token) {
  return token.startsWith('"') || /^-?\d{1,15}$/.test(token);
}
