// Requests to the bridge: JSON both ways, the CSRF token, and every failure as an `ApiError` whose message is a
// sentence for a person. Keeps no state but the token. Repeats nothing by itself except after a token that had
// changed (the session was renewed in another tab), which the bridge refuses before it does anything.

import { parseExact } from "./money.js";

/** A request that was refused or not answered. */
export class ApiError extends Error {
  constructor(message, code, status) {
    super(sentence(message));
    this.name = "ApiError";
    /** The stable name of the reason, such as `insufficient_funds`; `unreachable` when no answer came. */
    this.code = code;
    /** The HTTP status; 0 when no answer came. */
    this.status = status;
  }

  /** Whether the request may have been carried out all the same: its answer was lost on the way. */
  get isOutcomeUnknown() {
    return this.status === 0 || this.status === 502 || this.status === 504 || this.status === 500;
  }
}

/** The bridge, as the page sees it. `onSignedOut` is called when an answer says that the session has ended. */
export function makeApi({ onSignedOut }) {
  let csrf = null;

  async function call(method, path, body, isRepeat = false) {
    const response = await send(method, path, body, csrf);
    const text = await readText(response);
    const answer = readAnswer(text, response.status);
    if (response.ok && answer.status === "ok") {
      return answer;
    }
    const error = new ApiError(
      answer.error ?? `The bridge answered with status ${response.status}.`,
      answer.code ?? "error",
      response.status,
    );
    if (response.status === 403 && error.code === "csrf" && !isRepeat) {
      csrf = (await call("GET", "/session")).result.csrf;
      return call(method, path, body, true);
    }
    if (error.code === "not_signed_in") {
      onSignedOut();
    }
    throw error;
  }

  return {
    /** The `result` of a GET. */
    get: async (path) => (await call("GET", path)).result,
    /** All of the answer to a GET: `{result, next}` of a list, and what else stands beside it. */
    getPage: async (path) => ({ next: null, ...(await call("GET", path)) }),
    /** The `result` of a POST with a JSON body. */
    post: async (path, body = {}) => (await call("POST", path, body)).result,
    /** The `result` of a DELETE. */
    delete: async (path) => (await call("DELETE", path)).result,
    /** The body of a GET as it stands. */
    text: async (path) => {
      const response = await send("GET", path, undefined, null);
      const text = await readText(response);
      if (!response.ok) {
        const { error, code } = readAnswer(text, response.status);
        throw new ApiError(
          error ?? `The bridge answered with status ${response.status}.`,
          code ?? "error",
          response.status,
        );
      }
      return text;
    },
    /** The token that every request that changes something carries. */
    setCsrf: (token) => {
      csrf = token;
    },
  };
}

/** A path with a query, leaving out what is empty: `withQuery("/history", {branch: "Delhi"})`. */
export function withQuery(path, query) {
  const pairs = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(pairs).toString();
  return text === "" ? path : `${path}?${text}`;
}

async function send(method, path, body, csrf) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
  }
  if (csrf !== null && method !== "GET") {
    headers["X-CSRF-Token"] = csrf;
  }
  try {
    return await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch {
    throw new ApiError("The bridge does not answer.", "unreachable", 0);
  }
}

/** Errors of the bank begin small and end without a stop, as they stand in the middle of a line elsewhere. */
function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

async function readText(response) {
  try {
    return await response.text();
  } catch {
    throw new ApiError("The bridge's answer broke off.", "unreachable", 0);
  }
}

function readAnswer(text, status) {
  try {
    const answer = parseExact(text);
    return typeof answer === "object" && answer !== null ? answer : {};
  } catch {
    return { error: `The bridge answered with status ${status} and no JSON.`, code: "bad_answer" };
  }
}
