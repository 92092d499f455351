//! Every bound of the server, with its reason, in one place.
//!
//! What a client can make the server keep or do is bounded by one of these. Limits of the wire (the
//! longest line, the longest frame) belong to `protocol`, because both ends keep them.

use std::time::Duration;

/// Operations of one commit. A commit of this many takes some tens of milliseconds, which is what the
/// next client waits at most before its own group starts.
pub const GROUP_OPERATIONS: usize = 1_024;
/// Operations that may wait for a commit; past it a client is told that the bank is busy.
pub const QUEUE_OPERATIONS: usize = 65_536;
/// Connections for reading. Reads are short; more of them than this would only contend for the cores.
pub const READERS: usize = 8;
/// The writer's page cache in KiB: keeps the upper levels of every index of a large bank in memory.
pub const WRITER_CACHE_KIB: i64 = 65_536;
/// A reader's page cache in KiB.
pub const READER_CACHE_KIB: i64 = 4_096;
/// Prepared statements that a connection keeps; above the number of different statements in the code.
pub const STATEMENT_CACHE: usize = 128;
/// How long SQLite waits for another connection's lock. Only the start and a checkpoint ever meet one.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Write statements after which the log is moved into the database file, about 100 MiB of log.
pub const CHECKPOINT_STATEMENTS: u64 = 20_000;
/// With fewer writes than that, the log is moved after this long, so that a quiet bank starts at once.
pub const CHECKPOINT_IDLE: Duration = Duration::from_secs(5);

/// Clients at once, unless `--max-clients` says otherwise. Each has a thread.
pub const CLIENTS: usize = 4_096;
/// The stack of a client's thread in bytes. Virtual memory until touched; sessions don't recurse.
pub const CLIENT_STACK_BYTES: usize = 512 << 10;
/// How long a client may be silent, unless `--idle-timeout` says otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a client may take to accept what is sent to it, before it is given up.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sessions have to end at shutdown, before their connections are cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(1_200);
/// How long accepting pauses when the operating system has no more file descriptors or threads to give.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Passwords that are hashed at the same time. Each takes 19 MiB and a core for some tens of milliseconds.
pub const HASHING_THREADS: usize = 2;

/// Findings that an audit lists; it goes on counting beyond them.
pub const AUDIT_FINDINGS: usize = 100;

/// Events that make the server stop; one is enough, more are dropped.
pub const STOP_EVENTS: usize = 4;

const _: () = assert!(GROUP_OPERATIONS <= QUEUE_OPERATIONS);
