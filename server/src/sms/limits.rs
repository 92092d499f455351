//! The limits of text messages, all in one place, each with its reason.

/// The first wait after a failed delivery, in milliseconds. Long enough not to press a server that
/// stumbles, short enough that a message after one lost connection is still news.
pub const BACKOFF_BASE_MS: u64 = 1_000;
/// The longest wait between two deliveries of one message, in milliseconds: 15 minutes, so that a long
/// outage costs little and its end is noticed soon.
pub const BACKOFF_MAX_MS: u64 = 15 * 60 * 1_000;
/// The longest wait that a server's `Retry-After` can ask for one message, in milliseconds: an hour, so a
/// mistaken figure doesn't silence a message for good.
pub const RETRY_AFTER_MAX_MS: u64 = 60 * 60 * 1_000;
/// The longest rest of the whole sender after failures in a row, in milliseconds. One attempt a minute
/// presses nobody, and one message that always fails can't hold up the others for longer.
pub const REST_MAX_MS: u64 = 60 * 1_000;
/// A message that has failed for so long, in milliseconds of running time, is given up: after three days the customer
/// has long seen the movement in the account's history, and the news would only confuse.
pub const FAILING_MAX_MS: i64 = 3 * 24 * 60 * 60 * 1_000;
/// The longest sleep of the sender, in milliseconds. A due time that moved without a wake-up costs at most this.
pub const SLEEP_MAX_MS: u64 = 60 * 1_000;
/// The shortest sleep of the sender, in milliseconds, so that an outbox whose clock differs from ours by
/// some milliseconds is not asked in a tight loop.
pub const SLEEP_MIN_MS: u64 = 10;
/// How long a stop waits for a delivery under way, in milliseconds. The server promises to stop within two
/// seconds, and the others who stop need some of that.
pub const STOP_GRACE_MS: u64 = 1_000;
/// Messages taken from the outbox at a time. They are in memory together, and a stop is seen between any two.
pub const POLL_MESSAGES_MAX: usize = 64;

/// The whole time of one request to Twilio, from the name lookup to the end of the answer, in milliseconds.
pub const TWILIO_TIMEOUT_MS: u64 = 10_000;
/// The longest answer of Twilio that is read, in bytes. A real one has under 2 KiB.
pub const TWILIO_ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// The longest body of a message, in characters: Twilio refuses more (its error 21658).
pub const BODY_CHARS_MAX: usize = 1_600;

/// Characters shown of a name in a message; the rest is cut and marked with an ellipsis. A text message is
/// paid for by the segment, and a name is there to be recognised.
pub const NAME_SHOWN_CHARS_MAX: usize = 60;

const _: () = assert!(BACKOFF_BASE_MS < REST_MAX_MS && REST_MAX_MS < BACKOFF_MAX_MS);
const _: () = assert!(BACKOFF_MAX_MS < RETRY_AFTER_MAX_MS);
const _: () = assert!(RETRY_AFTER_MAX_MS < FAILING_MAX_MS as u64);
const _: () = assert!(SLEEP_MIN_MS < SLEEP_MAX_MS);
// A message names at most one other party, with a name and a branch; the fixed words take under 200.
const _: () = assert!(2 * NAME_SHOWN_CHARS_MAX + 200 < BODY_CHARS_MAX);
