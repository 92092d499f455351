//! Every bound of the server, with its reason, in one place.
//!
//! What a client can make the server keep or do is bounded by one of these. Limits of the wire (the
//! longest line, the longest frame) belong to `protocol`, because both ends keep them.

use std::time::Duration;

use protocol::frame::{BATCH_FRAME_BYTES_MAX, FRAME_BYTES_MAX};
use protocol::request::{BATCH_REQUESTS_MAX, SPLIT_LEGS_MAX};

/// Operations of one commit. A commit of this many takes some tens of milliseconds, which is what the
/// next client waits at most before its own group starts.
pub const GROUP_OPERATIONS: usize = 1_024;
/// Operations that may wait for a commit; past it a client is told that the bank is busy.
pub const QUEUE_OPERATIONS: usize = 65_536;
/// Those of one owner: a batch of the most requests beside some others.
pub const QUEUE_OPERATIONS_SHARE: usize = 16_384;
/// Commits whose clients are still to be answered by another thread; past it the next commit waits. Where replicas are
/// waited for, so many are on their way to them at a time.
pub const FINISHED_GROUPS: usize = 64;
/// How long the operations of an owner are each undone by themselves after one of them had to be, at the cost of the
/// whole group.
pub const SUSPECT_FOR: Duration = Duration::from_secs(10);
/// Owners that are remembered for that.
pub const SUSPECTS: usize = 1_024;
/// Connections for reading. Reads are short; more of them than this would only contend for the cores.
pub const READERS: usize = 8;
/// The writer's page cache in KiB: keeps the upper levels of every index of a large bank in memory.
pub const WRITER_CACHE_KIB: i64 = 65_536;
/// A reader's page cache in KiB.
pub const READER_CACHE_KIB: i64 = 4_096;
/// How long a reader may go on looking when the database closes, before what it is at is ended;
pub const READ_INTERRUPT_AFTER: Duration = Duration::from_millis(200);
/// and how long is waited for it in all.
pub const READ_CLOSE_WAIT: Duration = Duration::from_millis(1_500);
/// Prepared statements that a connection keeps; above the number of different statements in the code.
pub const STATEMENT_CACHE: usize = 128;
/// How long SQLite waits for another connection's lock. Only the start and a checkpoint ever meet one.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite's write-ahead log is moved into the database file when it has become so long, in bytes.
pub const LOG_CHECKPOINT_BYTES: u64 = 12 << 20;
/// With less than that, the log is moved after this long, and its file is emptied, so that a quiet bank starts at once.
pub const CHECKPOINT_IDLE: Duration = Duration::from_secs(5);
/// At this length writers wait for the branch's own readers to let the log begin anew. One more commit may follow; then
/// it ends below 32 MiB, unless that commit is a very large one, or another program reads the database.
pub const LOG_STALL_BYTES: u64 = 24 << 20;
/// How long they wait at most, before the log may grow a little more,
pub const LOG_STALL_WAIT: Duration = Duration::from_secs(10);
/// and how long reads wait for others to end, before that bound is reached.
pub const LOG_DRAIN_WAIT: Duration = Duration::from_secs(1);
/// A reader that keeps the log from beginning anew for longer than this is named in the branch's log, once.
pub const LOG_HELD_AFTER: Duration = Duration::from_secs(15);
/// How often a branch looks whether its files are still the ones under their names, when nothing is committed.
pub const FILE_LOOK: Duration = Duration::from_secs(1);

const _: () = assert!(LOG_CHECKPOINT_BYTES < LOG_STALL_BYTES);

/// Pages that a backup copies at a time, some 4 MiB: between two lots it looks whether to say how far it is.
pub const COPY_PAGES: i32 = 1_000;
/// How long a backup waits when another program has a file locked for a moment.
pub const COPY_PAUSE: Duration = Duration::from_millis(20);
/// A backup that takes longer than this says how far it is,
pub const COPY_PROGRESS_AFTER: Duration = Duration::from_secs(2);
/// and says it again this often.
pub const COPY_PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Clients at once, unless `--max-clients` says otherwise. Each has a thread.
pub const CLIENTS: usize = 4_096;
/// With at least so many places, one address (or network of IPv6) has three quarters of them at most.
pub const CLIENTS_SHARED_FROM: usize = 64;
/// The stack of a client's thread in bytes. Virtual memory until touched; sessions don't recurse.
pub const CLIENT_STACK_BYTES: usize = 512 << 10;
/// What the system holds at most of what is sent to one client, in bytes (Linux reserves twice as much). It would grow
/// to megabytes for each client that reads nothing.
pub const SEND_BUFFER_BYTES: usize = 128 << 10;
/// Sessions of one account at the branch's ports; one more ends the oldest of them.
pub const SESSIONS_PER_ACCOUNT: usize = 64;
/// How long a client may be silent, unless `--idle-timeout` says otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a client may take to accept what is sent to it, before it is given up.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for the handshake of TLS. Half a handshake costs a thread for so long.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may be silent at a port with TLS before it is told to speak it: who has it begins at once.
pub const TLS_FIRST_BYTE: Duration = Duration::from_secs(3);
/// How long a TLS connection that has ended here waits for the other side's end.
pub const TLS_LINGER: Duration = Duration::from_secs(5);
/// What a client without TLS may still send before its connection is closed, in bytes and in time: closing with
/// bytes unread would take back what it was told.
pub const TLS_DRAIN_BYTES: u64 = 64 << 10;
/// See [`TLS_DRAIN_BYTES`].
pub const TLS_DRAIN: Duration = Duration::from_millis(500);

/// How long sessions have to end at shutdown, before their connections are cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(1_200);
/// After how much of that, at shutdown, a session that waits for other branches is told to answer with what is known.
pub const HURRY_AFTER: Duration = Duration::from_millis(800);
/// How long a thread that is just waiting for another machine may hold up a change of role, before it is left to end
/// by itself: what it finds then is closed.
pub const THREAD_STOP_WAIT: Duration = Duration::from_millis(500);
/// How long a primary that ends waits for the replicas that follow it to have all that it has.
pub const CATCH_UP_WAIT: Duration = Duration::from_millis(700);
/// How long accepting pauses when the operating system has no more file descriptors or threads to give.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Passwords that are hashed at the same time. Each takes 19 MiB and a core for some tens of milliseconds.
pub const HASHING_THREADS: usize = 2;
/// Passwords of one account that are hashed in a row, right or wrong, before it has to wait: far more than a person
/// types, and a few seconds of work.
pub const HASH_ACCOUNT_BURST: u32 = 100;
/// How long each of them counts.
pub const HASH_ACCOUNT_INTERVAL: Duration = Duration::from_millis(500);
/// The same for an address beyond this machine, behind which a whole class may sit.
pub const HASH_ADDRESS_BURST: u32 = 200;
/// How long each of them counts: less than half of what two threads do in this time.
pub const HASH_ADDRESS_INTERVAL: Duration = Duration::from_millis(125);
/// Accounts, addresses and connections whose hashes are counted; about 1 MiB.
pub const HASH_DEBTORS: usize = 10_000;
/// Passwords that wait to be hashed; past it whoever has had most hashed is told that the bank is busy.
pub const HASHES_WAITING: usize = 1_024;
/// How often whoever waits for a hash looks whether its client is still there.
pub const HASH_LOOK: Duration = Duration::from_millis(100);
/// How long a hash may take before it is asked whether anybody still waits for it.
pub const HASH_GONE_AFTER: Duration = Duration::from_secs(1);
/// Passwords in one batch of a customer.
pub const BATCH_PASSWORDS_CUSTOMER: usize = 1;
/// Passwords in one batch of an operator: some classes, and half a minute of one thread.
pub const BATCH_PASSWORDS: usize = 256;

/// Wrong passwords at one account from which on a pause follows: people mistype three or four times.
pub const ACCOUNT_PAUSE_FROM: u32 = 5;
/// Wrong passwords at one account from which on each further one locks it. At most a dozen guesses an hour
/// come through then, far below what a password of four characters needs.
pub const ACCOUNT_LOCK_FROM: u32 = 8;
/// Wrong passwords from one address from which on a pause follows: a whole class may sit behind one.
pub const ADDRESS_PAUSE_FROM: u32 = 30;
/// Wrong passwords from one address from which on each further one locks it.
pub const ADDRESS_LOCK_FROM: u32 = 36;
/// The first pause; each further one is twice as long.
pub const LOCKOUT_PAUSE_FIRST: Duration = Duration::from_secs(1);
/// How long a lock lasts: long for a program that guesses, short for a person who comes back.
pub const LOCKOUT_LOCK: Duration = Duration::from_secs(300);
/// Wrong passwords are forgotten when none came for so long.
pub const LOCKOUT_FORGET: Duration = Duration::from_secs(3600);
/// Accounts, and addresses, whose wrong passwords are remembered; about 1 MiB in all.
pub const LOCKOUT_ENTRIES: usize = 10_000;

const _: () =
    assert!(LOCKOUT_PAUSE_FIRST.as_secs() << (ACCOUNT_LOCK_FROM - ACCOUNT_PAUSE_FROM) < LOCKOUT_LOCK.as_secs());
const _: () =
    assert!(LOCKOUT_PAUSE_FIRST.as_secs() << (ADDRESS_LOCK_FROM - ADDRESS_PAUSE_FROM) < LOCKOUT_LOCK.as_secs());
const _: () = assert!(LOCKOUT_LOCK.as_secs() < LOCKOUT_FORGET.as_secs());

/// The longest reason of what a person settles by hand.
pub const REASON_BYTES: usize = 500;

/// Rows along an account's chain, and then of the whole branch, that are looked at in turn for where a page of its history
/// begins, when that is asked for by a number that is none of its own rows'.
pub const HISTORY_SEARCH_ROWS: i64 = 256;

/// Findings that an audit lists; it goes on counting beyond them.
pub const AUDIT_FINDINGS: usize = 100;
/// Transactions that an audit reads between two looks at whether to say how far it is.
pub const AUDIT_PROGRESS_ROWS: i64 = 10_000;

/// Transactions that a migration moves between two looks at whether to say how far it is,
pub const MIGRATION_PROGRESS_ROWS: i64 = 10_000;
/// and how long it is silent.
pub const MIGRATION_PROGRESS: Duration = Duration::from_secs(2);

/// Events that make the server stop; one is enough, more are dropped.
pub const STOP_EVENTS: usize = 4;

const _: () = assert!(HURRY_AFTER.as_millis() < SHUTDOWN_GRACE.as_millis());
const _: () = assert!(GROUP_OPERATIONS <= QUEUE_OPERATIONS_SHARE && QUEUE_OPERATIONS_SHARE * 4 <= QUEUE_OPERATIONS);
const _: () = assert!(BATCH_REQUESTS_MAX <= QUEUE_OPERATIONS_SHARE);
const _: () = assert!(PIPELINE_REQUESTS <= GROUP_OPERATIONS);

/// Other branches that are remembered.
pub const BRANCHES: usize = 256;
/// Further addresses of theirs that are remembered until the next start.
pub const ALIASES: usize = 4 * BRANCHES;
/// Events kept in memory for those who watch; most are some hundred bytes,
pub const EVENTS_KEPT: usize = 8_192;
/// and all that are kept are about so many: one that tells of a hundred receivers has ten thousand.
pub const EVENTS_BYTES: usize = 16 << 20;
/// What one generation of the file of events holds, in bytes, of which there are two: some 20,000 events, or 800 transfers
/// between two branches, so that each has more than memory.
pub const EVENT_FILE_BYTES: u64 = 8 << 20;
/// A longer line of it is none: an event that tells of a hundred receivers has some ten thousand bytes.
pub const EVENT_LINE_BYTES: u64 = 1 << 20;
/// Events that are written to it at a time,
pub const EVENT_FILE_BATCH: usize = 256;
/// the pause between two such writes, which is what a killed process loses at most of them, nearly,
pub const EVENT_FILE_PAUSE: Duration = Duration::from_millis(20);
/// and how long nothing must have happened before the file notes that this was all.
pub const EVENT_FILE_QUIET: Duration = Duration::from_millis(200);
/// How long before a process was killed the last events of a transfer are that something may be missing behind,
pub const EVENTS_BROKEN_OFF_MS: u64 = 1_000;
/// and of how many transfers that is told.
pub const EVENTS_BROKEN_OFF_TRANSFERS: usize = 64;
/// Event numbers that are reserved on disk ahead of their use; a crash skips at most so many.
pub const EVENT_NUMBERS_RESERVED: u64 = 1_000_000;
/// How long connecting to a branch may take, and each answer while the link is made.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after the first failed try to reach a branch; it doubles with each further one,
pub const DIAL_BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// up to this.
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How often a link that has nothing to say sends an empty frame.
pub const LINK_HEARTBEAT: Duration = Duration::from_millis(1_000);
/// How long a link may be silent before it counts as broken.
pub const LINK_SILENCE: Duration = Duration::from_secs(4);
/// Messages that wait for a peer; past it they are dropped and sent again later.
pub const LINK_QUEUE_MESSAGES: usize = 16_384;
/// Messages of one frame of a link, about 500 bytes each,
pub const LINK_FRAME_MESSAGES: usize = 1_024;
/// and their bytes, past which no further one is added: the part of a split of a hundred receivers has some ten thousand.
pub const LINK_FRAME_BYTES: usize = 1 << 20;
/// What is read from a link at a time, in bytes: room for the messages that come during one commit.
pub const LINK_READ_BYTES: usize = 256 << 10;
/// Links to one peer at the same time; two come about when both sides dial at once.
pub const LINKS_PER_PEER: usize = 4;
/// How long an older link of the same name is listened to before a new one is taken: longer than a heartbeat, and
/// shorter than the one who dials waits.
pub const NAME_CHECK: Duration = Duration::from_millis(1_500);
/// How often it is looked at meanwhile.
pub const NAME_CHECK_STEP: Duration = Duration::from_millis(20);
/// How often a branch tries those that it knows and is not linked to, and asks one of the others whom it knows.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);
/// New links whose branches are still to be asked; the others are asked in turn anyway.
pub const DISCOVERY_QUEUE: usize = 64;
/// Addresses of one branch that are tried when mDNS tells of it: a machine has a few, a liar any number.
pub const MDNS_ADDRESSES: usize = 4;
/// After this long without a single announcement made, the log says that there is no multicast here.
pub const MDNS_SILENCE: Duration = Duration::from_secs(10);
/// How long taking the announcement back may hold the stop up.
pub const MDNS_GOODBYE: Duration = Duration::from_millis(100);

// What is added last is one message, of the most legs.
const _: () = assert!(LINK_FRAME_BYTES * 2 < BATCH_FRAME_BYTES_MAX);
const _: () = assert!(LINK_HEARTBEAT.as_millis() < NAME_CHECK.as_millis());
const _: () = assert!(NAME_CHECK.as_millis() < DIAL_TIMEOUT.as_millis());

/// The length of the protocol's tick.
pub const TICK: Duration = Duration::from_millis(10);
/// Ticks after which records that nobody waits for are written, if no commit took them along.
pub const FLUSH_TICKS: u64 = 10;
/// How long the client of a committed transfer waits for the other branches' acknowledgement before it is
/// told that delivery is pending.
pub const DELIVERY_WAIT: Duration = Duration::from_secs(1);
/// How much longer than the vote time-out a client's thread waits for the decision, before it says that the
/// transfer is not decided yet: the time that the branch's own disk may take.
pub const DECISION_WAIT: Duration = Duration::from_secs(15);
/// How long rows of ended transactions are kept in the protocol's log, longer than any message can be under way.
pub const ENDED_KEPT: Duration = Duration::from_secs(120);
/// How often what is no longer needed is deleted.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(10);
/// Rows deleted in one go, so that the delay to others stays small.
pub const PRUNE_ROWS: usize = 2_000;
/// How long answers are kept for repeated requests: 7 days.
pub const ANSWERS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most answers kept; past it the oldest go early. About 2 GiB of database.
pub const ANSWERS: u64 = 5_000_000;
/// Those of one customer; past it the own oldest go early, so that nobody's repeats are forgotten for another's requests.
pub const ANSWERS_SHARE: usize = 16_384;
/// The oldest answers that go together when a new one finds no room: few enough that nobody notices, and then that many
/// new ones find room.
pub const ANSWERS_ROOM: usize = 256;
/// The own oldest answers that go together when a customer has more than that. It is looked at whenever [`ANSWERS_ROOM`]
/// more are kept, so more go than come.
pub const ANSWERS_SHARE_ROOM: usize = 2 * ANSWERS_ROOM;
/// How often the running time is made durable: the grain of what is kept for a time, and what a crash loses of it.
pub const RUNNING_TIME_STEP: Duration = Duration::from_secs(60);
/// The most that one look counts as passed: a machine that slept, or a monotonic clock that jumped, ages nothing.
pub const RUNNING_TIME_STEP_MAX: Duration = Duration::from_secs(120);

const _: () = assert!(ANSWERS_SHARE_ROOM < ANSWERS_SHARE && (ANSWERS_SHARE as u64) * 256 < ANSWERS);
const _: () = assert!(PRUNE_INTERVAL.as_millis() < RUNNING_TIME_STEP.as_millis());
const _: () = assert!(RUNNING_TIME_STEP.as_millis() < RUNNING_TIME_STEP_MAX.as_millis());

/// Messages that wait on the stage of a teaching branch; more are lost, as a network may lose them. More than a class
/// can look through, and few enough to be listed in one answer.
pub const STAGED_MESSAGES: usize = 256;
/// Bytes that are shown of a message on the stage, so that the whole stage fits one answer.
pub const STAGED_TEXT_BYTES: usize = 2_000;
/// How long the client of a transfer waits for it in step mode, while a class talks.
pub const STEP_MODE_WAIT: Duration = Duration::from_secs(600);
/// How often a client that waits in step mode looks whether that has ended.
pub const STEP_MODE_LOOK: Duration = Duration::from_millis(100);
/// How often what waits is delivered anew when step mode ends, because more came meanwhile, before it ends all the
/// same.
pub const FLUSH_ROUNDS: u32 = 64;
/// The most that one request makes pass of the protocol's time: 360,000 ticks, done in some seconds at worst.
pub const PASS_TIME_MAX: Duration = Duration::from_secs(3_600);
/// How long the writer of a link gets to put a message on the wire, before the process kills itself after that message.
pub const CRASH_SEND_WAIT: Duration = Duration::from_millis(300);
/// The longest delay of a message in a lesson.
pub const LESSON_DELAY_MAX: Duration = Duration::from_secs(600);
/// The longest that a setting of a lesson outlives the program that made it under a lease.
pub const LEASE_MAX: Duration = Duration::from_secs(600);
/// The name of a lease's holder, in bytes: a program's random text.
pub const LEASE_HOLDER_BYTES: usize = 64;

// Beside its text a message has two names, two ids and some numbers.
const _: () = assert!(STAGED_MESSAGES * (STAGED_TEXT_BYTES + 500) < FRAME_BYTES_MAX);
const _: () = assert!(LINK_HEARTBEAT.as_millis() * 3 < LINK_SILENCE.as_millis());

/// Requests of one client that are worked on together; more wait in its connection.
pub const PIPELINE_REQUESTS: usize = 512;
/// What is read from a connection at a time, and kept for an idle one, in bytes.
pub const READ_BUFFER_BYTES: usize = 16 << 10;
/// A frame up to this many bytes is read at once; a longer one waits until its bytes are free.
pub const FRAME_BYTES_FREE: usize = 32 << 10;
/// Bytes of answers that gather for a client before they are written; the next answer waits for that.
pub const WRITE_BUFFER_BYTES: usize = 32 << 10;
/// Long frames of all clients who have proved who they are, in bytes, from their header to their answer.
pub const FRAMES_BYTES: usize = 128 << 20;
/// Those of one customer, or of one connection with the key.
pub const FRAMES_BYTES_SHARE: usize = 32 << 20;
/// Long frames of all clients who have proved nothing, in bytes; what strangers may ask for is short.
pub const STRANGERS_FRAMES_BYTES: usize = 16 << 20;
/// Those from one address.
pub const STRANGERS_FRAMES_BYTES_SHARE: usize = 4 << 20;
/// What a long answer is counted as, in bytes: its rows as they come from the database, and its text.
pub const LONG_ANSWER_BYTES: usize = 4 << 20;
/// Long answers of all clients, in bytes, until they are written.
pub const ANSWERS_BYTES: usize = 128 << 20;
/// Those of one customer, or of one connection with the key.
pub const ANSWERS_BYTES_SHARE: usize = 2 * LONG_ANSWER_BYTES;
/// A list of more rows than this is a long read and a long answer.
pub const SHORT_LIST_ROWS: usize = 100;
/// Long reads at the same time: short ones always find a connection beside them.
pub const LONG_READS: usize = READERS - 2;
/// Those of one owner.
pub const LONG_READS_SHARE: usize = 2;
/// Receivers of transfers between branches of all clients whose answers are waited for, half of the transfers that the
/// coordinator takes.
pub const TRANSFERS: usize = 32_768;
/// Those of one customer, or of one connection with the key.
pub const TRANSFERS_SHARE: usize = 2_048;
/// Receivers of transfers that one client begins together; more transfers begin when these are answered. Each takes two
/// legs in the commit with which they begin, for which others wait.
pub const PIPELINE_RECEIVERS: usize = GROUP_OPERATIONS / 2;
/// How long a long read, or a transfer beyond the share, waits for its turn, before its client is told that the bank is busy.
pub const LONG_READ_WAIT: Duration = Duration::from_secs(10);
/// The longest text of an error in an answer, in bytes: it may quote what was sent.
pub const ERROR_TEXT_BYTES: usize = 300;
/// How long a client of the branch protocol may be silent that has proved nothing.
pub const STRANGER_IDLE: Duration = Duration::from_secs(60);

const _: () = assert!(BATCH_FRAME_BYTES_MAX <= FRAMES_BYTES_SHARE && FRAMES_BYTES_SHARE * 4 <= FRAMES_BYTES);
const _: () = assert!(FRAME_BYTES_MAX <= STRANGERS_FRAMES_BYTES_SHARE);
const _: () = assert!(STRANGERS_FRAMES_BYTES_SHARE * 4 <= STRANGERS_FRAMES_BYTES);
const _: () = assert!(FRAME_BYTES_MAX < LONG_ANSWER_BYTES && ANSWERS_BYTES_SHARE * 4 <= ANSWERS_BYTES);
const _: () = assert!(PIPELINE_RECEIVERS <= TRANSFERS_SHARE && TRANSFERS_SHARE * 4 <= TRANSFERS);
const _: () = assert!(SPLIT_LEGS_MAX <= PIPELINE_RECEIVERS && PIPELINE_REQUESTS <= PIPELINE_RECEIVERS);
const _: () = assert!(LONG_READS_SHARE < LONG_READS && LONG_READS < READERS);
// A refusal of each request of a batch fits its answer, also where the quoted text is escaped.
const _: () = assert!(BATCH_REQUESTS_MAX * (2 * ERROR_TEXT_BYTES + 100) < BATCH_FRAME_BYTES_MAX);
// What all clients together can make the branch hold for their requests and answers.
const _: () = assert!(
    CLIENTS * (FRAME_BYTES_FREE + READ_BUFFER_BYTES + WRITE_BUFFER_BYTES)
        + FRAMES_BYTES
        + STRANGERS_FRAMES_BYTES
        + ANSWERS_BYTES
        < 1 << 30
);
/// How long a frame may take from its first byte to its last.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Rows of a list in one answer.
pub const LIST_ROWS: usize = 10_000;
/// Bytes of a list in one answer; a longer one stops early and says where it goes on.
pub const ANSWER_LIST_BYTES: usize = FRAME_BYTES_MAX - 1_024;
/// Events written to a watcher at a time.
pub const WATCH_EVENTS: usize = 256;
/// How often a watcher's connection is looked at while nothing happens.
pub const WATCH_POLL: Duration = Duration::from_millis(250);

/// The longest body of a group in the replication log, in bytes: a group of the most operations, the last of them
/// a batch of the longest frame, is a good deal shorter. It bounds what a replica keeps of one frame.
pub const LOG_BODY_BYTES: usize = 64 << 20;
/// Different statements in one group; the program has some forty.
pub const LOG_TEXTS: usize = 256;
/// The longest text of a statement, in bytes.
pub const LOG_TEXT_BYTES: usize = 16 << 10;
/// Statements of one group: a batch of the most requests and a group beside it write some ten each.
pub const LOG_STATEMENTS: usize = 1_000_000;
/// Parameters of one statement.
pub const LOG_PARAMETERS: usize = 64;
/// The replication log that is kept for replicas that are away, in MiB, unless `--log-mib` says otherwise: some
/// minutes of the heaviest load, days of an ordinary one. A replica that was away for longer takes a snapshot.
pub const LOG_MIB: u64 = 1_024;
/// The most groups that the log keeps, however small they are.
pub const LOG_GROUPS: i64 = 4_000_000;
/// Groups that each commit deletes from a log that is too long: more than one, so that it becomes short enough.
pub const LOG_PRUNE_GROUPS: i64 = 16;
/// Log kept in memory for replicas that follow closely, in bytes, so that shipping reads nothing from the disk.
pub const LOG_TAIL_BYTES: usize = 8 << 20;
/// A replica that was once this close to the end of the log counts as following, in groups.
pub const SYNC_STEP_GROUPS: i64 = 64;
/// How long a write waits for enough replicas to be connected, before it is refused.
pub const SYNC_CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long a committed write waits for its replicas, before its client is told that it is not confirmed.
pub const SYNC_CONFIRM_WAIT: Duration = Duration::from_secs(5);
/// How long the sender of text messages waits for replicas to have what a message tells of,
pub const SMS_CONFIRM_WAIT: Duration = Duration::from_millis(100);
/// and when it looks again if they don't.
pub const SMS_KEPT_BACK: Duration = Duration::from_secs(1);
/// How long waiting for replicas goes on when the branch stops.
pub const SYNC_STOP_WAIT: Duration = Duration::from_millis(300);

/// Other copies of this branch that are remembered.
pub const MEMBERS: usize = 64;
/// The longest frame of a replication stream: a body of the longest kind and what stands around it.
pub const STREAM_FRAME_BYTES: usize = LOG_BODY_BYTES + (4 << 20);
/// Log that is sent to a replica in one frame, in bytes, if there is so much; a replica that is behind executes a
/// frame in one transaction.
pub const SEND_BYTES: usize = 1 << 20;
/// The pause between two frames where nobody waits for the replica: so long it may be behind, and so many group
/// commits share one of its own.
pub const SEND_PAUSE: Duration = Duration::from_millis(10);
/// Groups in one frame.
pub const FRAME_GROUPS: usize = 65_536;
/// Frames that a replica executes in one transaction, when so many have come: it holds them in memory.
pub const APPLY_BYTES: usize = 8 << 20;
/// A piece of a snapshot, in bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// How long a replica waits for the next piece of a snapshot: the primary may have to compact the copy first.
pub const SNAPSHOT_SILENCE: Duration = Duration::from_secs(120);
/// How often a primary has each of its replicas compare some rows.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Rows that are compared at a time; it takes some milliseconds at either side.
pub const CHECK_ROWS: usize = 2_000;
/// How often a primary looks for copies that don't follow it.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// How long the other copies are waited for when one is to be promoted: a person waits meanwhile.
pub const COPIES_ASKED_FOR_PROMOTION: Duration = Duration::from_secs(2);
/// How long they are waited for when a primary starts: it must not take a write if another was promoted.
pub const COPIES_ASKED_AT_START: Duration = Duration::from_secs(4);
/// How long a primary that is to be a replica commits nothing, for the copy that is to take its place to get the end of
/// its log, and how often that copy is asked.
pub const HAND_OVER_WAIT: Duration = Duration::from_secs(2);
/// See [`HAND_OVER_WAIT`].
pub const HAND_OVER_LOOK: Duration = Duration::from_millis(20);
/// A primary that was silent for this long counts as gone when its replica is promoted.
pub const PRIMARY_SILENCE: Duration = Duration::from_secs(3);
/// How long everything may take to be closed and opened again when the branch changes its role, before it is given up.
pub const REOPEN_WAIT: Duration = Duration::from_secs(30);

// A commit log elsewhere, and the processes of one branch.

/// How often an owner says that it is there.
pub const OWNER_BEAT: Duration = Duration::from_millis(500);
/// An owner that was not certain of it for so long stops answering what looks.
pub const OWNERSHIP_PROOF: Duration = Duration::from_millis(2_500);
/// A standby takes over from an owner that was silent for so long.
pub const OWNER_SILENCE: Duration = Duration::from_millis(3_000);
/// How often a standby looks for new rows.
pub const STANDBY_LOOK: Duration = Duration::from_millis(200);
/// How often a standby says how far it is, when there is nothing new.
pub const STANDBY_NOTE: Duration = Duration::from_millis(1_000);
/// A process that was not heard for so long counts as away.
pub const STANDBY_AWAY_MS: i64 = 5_000;
/// How long one try to connect to the store may take, with the log-in.
pub const LOG_CONNECT: Duration = Duration::from_secs(3);
/// How long one exchange with the store may take.
pub const LOG_TRY: Duration = Duration::from_secs(5);
/// How long moving a piece of a snapshot may take, or clearing away what is old.
pub const LOG_SNAPSHOT_TRY: Duration = Duration::from_secs(60);
/// How long a claim waits for a statement of the owner before.
pub const LOG_CLAIM_WAIT: Duration = Duration::from_millis(1_000);
/// How long an owner that stops takes to say so.
pub const LOG_RELEASE: Duration = Duration::from_millis(500);
/// How long it is tried to find out what became of a row, before the process ends: longer than a failover of the store,
/// which by Patroni's defaults takes half a minute.
pub const LOG_UNKNOWN_MAX: Duration = Duration::from_secs(60);
/// Between two such tries.
pub const LOG_RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Requests are refused at once when the store has not answered for so long.
pub const LOG_AWAY_MAX: Duration = Duration::from_secs(5);
/// How much of the log this copy keeps beside the log elsewhere, in bytes: the newest row always stays.
pub const LOG_KEPT_LOCALLY: i64 = 1 << 20;
