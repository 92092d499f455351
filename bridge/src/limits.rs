//! Every bound of the bridge, with its reason, in one place.
//!
//! What a browser, a script or a branch can make the bridge keep or do is bounded by one of these. What the
//! branches bound themselves (amounts, lists, frames) belongs to them and to `protocol`.

use std::time::Duration;

/// Connections at once; one more is told that the bridge is busy. Each costs a few kilobytes while it is idle.
pub const CONNECTIONS: usize = 4_096;
/// Connections of one address, or of one network of IPv6, unless it is this machine's or a trusted proxy's, behind which there are many people.
pub const CONNECTIONS_PER_ADDRESS: usize = 1_024;
/// Connections that are being told so at the same time; beyond it they are closed without a word.
pub const CONNECTIONS_TURNED_AWAY: usize = 64;
/// How long a connection that is turned away has to read why.
pub const TURN_AWAY_TIME: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted.
pub const BACKLOG: u32 = 1_024;
/// What the system holds at most of what is sent to one connection, in bytes (Linux reserves twice as much). It would
/// grow to megabytes for each client that reads nothing, and all would be old once it is read.
pub const SEND_BUFFER_BYTES: u32 = 128 << 10;
/// How long the head of a request may take, and how long a connection may be idle between two.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the body of a request may take.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take less than [`STALL_BYTES`] of what waits for it before it is cut off.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What a slow line takes in that time, in bytes: whoever takes a byte now and then would hold an answer for ever.
pub const STALL_BYTES: usize = 64 << 10;
/// Header fields of a request.
pub const HEADERS: usize = 64;
/// The buffer of a connection, in bytes: the head of a request has to fit.
pub const CONNECTION_BUFFER_BYTES: usize = 16 << 10;
/// The body of a request, in bytes: no form or JSON of ours comes near it.
pub const BODY_BYTES: usize = 16 << 10;
/// What the requests of all connections may take, in bytes.
pub const REQUEST_BYTES_ALL: usize = 128 << 20;
/// Parameters of one request.
pub const PARAMETERS: usize = 64;
/// How long accepting pauses when the operating system has no more file descriptors to give.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way have to end at shutdown; within the two seconds that the design gives.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(1_000);
/// How long the threads that watch branches have to end after that.
pub const THREADS_GRACE: Duration = Duration::from_millis(500);
/// Threads for calls to branches, which block. Above what the permits of a usual bank's branches add up to.
pub const BLOCKING_THREADS: usize = 512;

/// Branches that are known at once; each costs two threads.
pub const BRANCHES: usize = 64;
/// Short calls to one branch at a time, and idle connections kept to it.
pub const CALLS_PER_BRANCH: usize = 16;
/// Transfers between branches that wait at one source at a time: in step mode each may wait ten minutes.
pub const TRANSFERS_PER_BRANCH: usize = 32;
/// How long a call waits for one of these places before the client is told that the bridge is busy.
pub const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting to a branch may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long each answer may take while the key is proved.
pub const PROOF_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a TLS connection that has ended here waits for the branch's end.
pub const TLS_LINGER: Duration = Duration::from_secs(5);
/// How long a short call may take: an audit of a large branch is the longest.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a transfer may take: a class in step mode has ten minutes, and the branch's answer comes after them.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(630);

/// How long a caller waits for what the own requests under way have taken, before being told to try again.
pub const QUOTA_TIME: Duration = Duration::from_secs(2);
/// Requests of one customer that are worked on at a time: fewer than [`CALLS_PER_BRANCH`], so that nobody takes all
/// places at a branch.
pub const REQUESTS_PER_CUSTOMER: usize = 12;
/// Those of an administrator, or of an address at an open bridge.
pub const REQUESTS_PER_OPERATOR: usize = 256;
/// Those from one address of people who are not signed in.
pub const REQUESTS_PER_STRANGER: usize = 512;
/// Transfers of one customer that wait for another branch at a time.
pub const TRANSFERS_PER_CUSTOMER: usize = 4;
/// Streams of events of one customer.
pub const STREAMS_PER_CUSTOMER: usize = 8;
/// What one long answer takes at most, in KiB: 10,000 rows of history have 2,500. A longer list says where it goes on.
pub const ANSWER_KIB: usize = 4 << 10;
/// What the answers take that one customer has not read yet, in KiB,
pub const ANSWER_KIB_PER_CUSTOMER: usize = 12 << 10;
/// those of an administrator, or of an address at an open bridge,
pub const ANSWER_KIB_PER_OPERATOR: usize = 32 << 10;
/// those to an address of people who are not signed in,
pub const ANSWER_KIB_PER_STRANGER: usize = 4 << 10;
/// those of all customers and strangers together,
pub const ANSWER_KIB_ALL: usize = 96 << 10;
/// and those of all operators together.
pub const ANSWER_KIB_OPERATORS: usize = 64 << 10;

/// What a run's page has beside its events, in KiB: the lab's modules, styles and fonts.
pub const PAGE_KIB: usize = 1 << 10;

/// How often each branch is asked for its status.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How often a branch in step mode is asked for its stage, which messages change without any request of ours.
pub const STAGE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a branch may take for its status before it counts as down.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a branch is asked which others it knows.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest pause between two audits of the whole bank,
pub const AUDIT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// and the pause as a multiple of how long the last one took, so that audits never take more than a twentieth.
pub const AUDIT_INTERVAL_FACTOR: u32 = 20;
/// The longest pause between two messages about the bank to those who watch.
pub const BANK_INTERVAL: Duration = Duration::from_secs(5);
/// Over how many seconds the rate of transactions is taken.
pub const RATE_SECONDS: usize = 5;
/// How far back the charts of the page go,
pub const CHART_TIME: Duration = Duration::from_secs(5 * 60);
/// and how far two of their points are apart at least: 600 points are all that is kept, and 40 kB as an answer.
pub const CHART_STEP: Duration = Duration::from_millis(500);
/// The pause after a branch's stream of events broke.
pub const WATCH_PAUSE: Duration = Duration::from_millis(500);
/// Events that are taken from one branch in a second; past it the branch's own memory of them runs over. So watching
/// costs a busy bank little.
pub const WATCH_EVENTS_PER_SECOND: u32 = 2_500;

/// Events kept for the lab and for those who come back, about a kilobyte each.
pub const EVENTS_KEPT: usize = 20_000;
/// Streams of events at once.
pub const EVENT_STREAMS: usize = 512;
/// Those of them that are kept for operators.
pub const EVENT_STREAMS_OF_OPERATORS: usize = 64;
/// Messages written to one stream at a time,
pub const STREAM_MESSAGES: usize = 64;
/// and the shortest pause between two such writes: 200 watchers of a busy bank must not keep a core from it.
pub const STREAM_INTERVAL: Duration = Duration::from_millis(200);
/// Groups of streams, one of which writes after the other: 200 writes at once, just when a transfer begins, would take
/// the processors from it.
pub const STREAM_GROUPS: u32 = 16;
/// How long the first group lets what has begun go on before it writes, so that a whole transfer is mostly one write,
pub const STREAM_SETTLE: Duration = Duration::from_millis(20);
/// and how long each further group after the one before.
pub const STREAM_GROUP_STEP: Duration = Duration::from_millis(8);
/// How long what was written for one stream is given to others at the same place: a group writes within it.
pub const PORTION_TIME: Duration = Duration::from_millis(25);
/// Portions so kept, about 50 kB each at most: those of the groups that write within that time, for both audiences.
pub const PORTIONS: usize = 16;
/// Events that a stream which asked for no place in the past may fall behind before it skips to the newest.
pub const STREAM_BEHIND: usize = 1_000;
/// Chunks that wait for a browser; a stalled one holds no more.
pub const STREAM_CHUNKS: usize = 2;
/// How often a quiet stream sends a comment, so that both ends see that the other is there.
pub const STREAM_HEARTBEAT: Duration = Duration::from_secs(10);
/// How often a customer's balance is looked at for their stream, at most.
pub const STREAM_BALANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Sessions of one customer: some devices and browsers; a further sign-in ends the own oldest one.
pub const SESSIONS_PER_CUSTOMER: usize = 8;
/// Sessions of one branch's administrator, who may be several people.
pub const SESSIONS_PER_ADMINISTRATOR: usize = 64;
/// Sessions at once, about 300 bytes each; past it who has none is told to wait.
pub const SESSIONS: usize = 4_096;
/// How long a session may be idle: longer than a lecture.
pub const SESSION_IDLE: Duration = Duration::from_secs(2 * 3600);
/// How long a session lasts at most.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// How long a password that was right is taken as right again without asking the branch: Argon2id at each call of a
/// script would cost tens of milliseconds of a core.
pub const LOGIN_CACHE_TIME: Duration = Duration::from_secs(60);
/// Passwords so remembered, by a keyed hash.
pub const LOGIN_CACHE: usize = 1_024;
/// How often branches are asked whether passwords were changed: what they had opened ends within two seconds.
pub const LOGIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Passwords that one branch checks at a time for the bridge; it hashes two at a time itself. They have places of their
/// own, so that nobody who is signed in waits behind those who sign in.
pub const PASSWORDS_PER_BRANCH: usize = 4;
/// Accounts at which an address may be wrong in [`LOGIN_WINDOW`] before its guesses at further ones are not looked at. A
/// class behind one address mistypes too; guesses at one account are the branch's to slow down.
pub const LOGIN_FAILURES_PER_ADDRESS: usize = 20;
/// The time in which they are counted.
pub const LOGIN_WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are counted at once; past it the oldest are forgotten.
pub const LOGIN_COUNTERS: usize = 4_096;

/// Accounts that one search looks through.
pub const SEARCH_ROWS: usize = 200_000;
/// Rows of history that one request looks through while it filters.
pub const HISTORY_ROWS: usize = 100_000;
/// Rows of history that one download holds; one that is cut here says so in its last line.
pub const DOWNLOAD_ROWS: usize = 1_000_000;
/// The longest row of a list, in bytes,
pub const ROW_BYTES_MAX: usize = 1 << 10;
/// and what is set aside for each before they are known: rows of history have 150 to 300.
pub const ROW_BYTES_USUAL: usize = 400;
/// Rows asked of a branch at a time.
pub const PAGE_ROWS: usize = 1_000;
/// Rows of a list in one answer, when the request names no limit,
pub const LIST_ROWS_DEFAULT: usize = 100;
/// and at most.
pub const LIST_ROWS: usize = 10_000;
/// Chunks of a download that wait for the client.
pub const DOWNLOAD_CHUNKS: usize = 2;
/// What a download takes while it is made, in KiB: the chunks that wait and the one in hand, a page of rows each.
pub const DOWNLOAD_KIB: usize = 1 << 10;

/// How long a branch of the demo may take until it listens; a large database is checked first.
pub const DEMO_START: Duration = Duration::from_secs(20);
/// How long the branches of the demo may take to stop before they are killed; what they need is below two seconds.
pub const DEMO_STOP: Duration = Duration::from_millis(2_500);
/// How often a branch's process is looked at.
pub const DEMO_LOOK_EVERY: Duration = Duration::from_millis(50);
/// Lines that a branch may say before anybody reads them; it says three.
pub const DEMO_OUTPUT_LINES: usize = 16;
/// What is read of the end of a log to say why a branch did not start, in bytes.
pub const DEMO_LOG_BYTES_TOLD: u64 = 4_096;

/// Transfers of scenarios that wait for an answer at a time: a scenario begins a few, and an ended one's wait on.
pub const LESSON_TRANSFERS: usize = 64;
/// How long a person has to start a branch that a scenario has crashed.
pub const LESSON_RESTART_TIME: Duration = Duration::from_secs(120);
/// How long whoever ends a scenario waits for the step that it is doing.
pub const LESSON_STEP_TIME: Duration = Duration::from_secs(60);
/// How long what the bridge has set at a teaching branch outlives a bridge that was killed. It is renewed whenever the
/// branch is asked for its stage, so twenty times as often.
pub const LESSON_LEASE: Duration = Duration::from_secs(20);
/// How long putting a scenario's faults back may take at the bridge's end.
pub const LET_GO_TIME: Duration = Duration::from_millis(300);

const _: () = assert!(STREAM_BEHIND < EVENTS_KEPT);
const _: () = assert!(STREAM_MESSAGES < STREAM_BEHIND);
const _: () = assert!(STREAMS_PER_CUSTOMER + EVENT_STREAMS_OF_OPERATORS < EVENT_STREAMS);
const _: () = assert!(
    STREAM_SETTLE.as_millis() + STREAM_GROUP_STEP.as_millis() * (STREAM_GROUPS as u128) < STREAM_INTERVAL.as_millis()
);
const _: () = assert!(LET_GO_TIME.as_millis() + SHUTDOWN_GRACE.as_millis() + THREADS_GRACE.as_millis() < 2_000);
const _: () = assert!(LIST_ROWS_DEFAULT <= LIST_ROWS && LIST_ROWS * ROW_BYTES_USUAL <= ANSWER_KIB << 10);
const _: () = assert!(CONNECTIONS * (CONNECTION_BUFFER_BYTES + BODY_BYTES) <= REQUEST_BYTES_ALL);
const _: () = assert!(REQUESTS_PER_CUSTOMER < CALLS_PER_BRANCH && TRANSFERS_PER_CUSTOMER < TRANSFERS_PER_BRANCH);
const _: () = assert!(ANSWER_KIB <= ANSWER_KIB_PER_STRANGER && ANSWER_KIB <= ANSWER_KIB_PER_CUSTOMER);
const _: () = assert!(ANSWER_KIB_PER_CUSTOMER < ANSWER_KIB_ALL && ANSWER_KIB_PER_OPERATOR <= ANSWER_KIB_OPERATORS);
const _: () = assert!(SESSIONS_PER_CUSTOMER <= SESSIONS_PER_ADMINISTRATOR && SESSIONS_PER_ADMINISTRATOR < SESSIONS);
const _: () = assert!(LESSON_LEASE.as_secs() >= 4 * (STATUS_INTERVAL.as_secs() + STATUS_TIMEOUT.as_secs()));
