//! The commit log: what the funnel asks, for each group, of whoever must have the group's statements as well.
//!
//! The funnel executes a group of operations in SQLite and commits it. Others have a say in that: replicas want the
//! statements and may have to confirm them, and a copy that is a replica itself may not be written at all. All of that
//! stands behind the one trait here, [`CommitLog`]. For one group the funnel asks in this order:
//!
//! ```text
//! before the queue      wait_until_ready     can the copies that must have each write be reached?
//! BEGIN                 begin                may this group write, and is what it writes logged?
//!   a statement         GroupLog::push       its text, its parameters, the rows that it changed
//!   an operation undone GroupLog::cut_back   to the mark before it
//!   before COMMIT       append               the group's row: numbered, digested, chained to the row before
//! COMMIT
//!   after it            publish              the group is durable here, and may be sent on
//! mutex released        wait_confirmed       until everybody has it who must, before its clients are answered
//! ```
//!
//! `group_log.rs` has the encoding of a group, which is the same whoever keeps it; `determinism.rs` says what no
//! statement may depend on, so that executing it again does the same. The usual implementation is the replication log
//! (`replication_log/`), whose rows are a table of the same database. A branch that never had a replica logs nothing:
//! `begin` answers [`Writing::Plain`], and the rest of the list has nothing to do. The other one is `elsewhere.rs`,
//! which puts a log on other machines before that table.
//!
//! # How an implementation answers
//!
//! The order above is made so that a log on another machine, which is slow, fails, and may find that another process
//! owns the branch by now, can stand here too. It answers like this:
//!
//! - *It is slow.* `begin` and `publish` are called with the writer's mutex held and never wait for anything. `append`
//!   is called with the mutex held and SQLite's transaction open; it may wait, and every other commit waits with it, so
//!   it needs a time limit of its own. What can be waited for after the commit belongs into `wait_confirmed`, which
//!   holds up the group's own clients while the next group is executed.
//! - *It fails, and nothing is durable* ([`CommitError::NotDurable`]). The row is not in the log and will never be. The
//!   group is rolled back, each of its clients gets the error, and the branch goes on: the next group has the same
//!   number.
//! - *It fails, and nobody knows whether the row is in the log* ([`CommitError::Unknown`]). Telling the clients either
//!   outcome would be a guess. So the implementation first finds out: it may ask, wait, and append the same row again
//!   under the same number. Only when that takes too long does it answer `Unknown`; then the clients are told that the
//!   outcome is unknown, the transaction is rolled back, and the process stops. SQLite may be behind the log then, and
//!   is never ahead of it; the next start takes from the log what is missing. A COMMIT that fails inside SQLite ends in
//!   the same variant, and in the same way.
//! - *Another process owns the branch.* Nothing was appended, so the answer is `NotDurable`, with [`Error::Fenced`];
//!   from then on `begin` answers [`Writing::Refused`] with the same error. Operations that only look still run.
//!
//! One thing costs the built-in log nothing: its row is part of the transaction, and goes with it. A log elsewhere
//! keeps its row when SQLite's COMMIT fails after `append`, even on a full disk. So the funnel takes that failure for
//! `Unknown` ([`Appended::is_elsewhere`]), because the group will come back from the log at the next start.

pub(super) mod determinism;
pub(super) mod elsewhere;
pub(super) mod group_log;

use std::time::Duration;

use rusqlite::Connection;

use crate::dbs_exec::commit_log::group_log::{GroupLog, LogRow};
use crate::error::{Error, Result};

/// What the funnel asks for each group; the module's documentation tells when, and how each is to be answered.
///
/// All but [`CommitLog::wait_until_ready`] and [`CommitLog::wait_confirmed`] are called with the writer's mutex held, so
/// by one thread at a time and in the order of the groups.
pub trait CommitLog: Send + Sync {
    /// Waits a moment until the copies that must have each write can be reached. Called before a client's operations
    /// enter the queue: what would be executed and never confirmed is better refused at once.
    ///
    /// # Errors
    /// [`Error::ReplicasMissing`]: nothing was queued.
    fn wait_until_ready(&self) -> Result<()>;

    /// Begins a group. Also called when the group before was rolled back, at whatever point, so it counts on nothing
    /// that came after the last [`CommitLog::publish`].
    fn begin(&self) -> Writing;

    /// Appends the row of a group, which was executed in `transaction` and wrote something.
    ///
    /// # Errors
    /// [`CommitError`].
    fn append(&self, transaction: &Connection, group: &GroupLog) -> Result<Appended, CommitError>;

    /// Notes that the transaction with this row is committed.
    fn publish(&self, appended: Appended);

    /// The number of the last row that was published, 0 when there is none.
    fn last_sequence(&self) -> i64;

    /// Waits until everybody who must have the log up to `sequence` has it, at most so long; without a limit, until
    /// then or until the stop.
    fn wait_confirmed(&self, sequence: i64, wait: Option<Duration>) -> Confirmed;
}

/// What becomes of the write statements of a group.
#[derive(Debug)]
pub enum Writing {
    /// They are executed.
    Plain,
    /// They are executed and logged.
    Logged(GroupLog),
    /// They are refused: this copy of the database is not the one that is written.
    Refused(Error),
}

/// A row that is in the log once the open transaction is committed. Dropped without [`CommitLog::publish`], it was
/// rolled back.
#[derive(Debug)]
#[must_use]
pub struct Appended {
    /// The row.
    pub row: LogRow,
    /// The oldest row that this database keeps then.
    pub first_kept: i64,
    /// Bytes of older rows that were deleted for it.
    pub freed_bytes: i64,
    /// Whether it is in a log elsewhere already, so that the group comes back however the COMMIT here ends.
    pub is_elsewhere: bool,
}

/// Why a group is not known to be durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// It is durable nowhere and never will be; the clients are told why.
    NotDurable(Error),
    /// Nobody knows whether it is, and the process must stop; what failed, in words.
    Unknown(String),
}

impl CommitError {
    /// The same failure of a COMMIT, where the group's row is in a log elsewhere: nothing takes that back.
    #[must_use]
    pub fn after_append_elsewhere(self) -> Self {
        match self {
            Self::NotDurable(error) => Self::Unknown(error.to_string()),
            Self::Unknown(text) => Self::Unknown(text),
        }
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        Self::NotDurable(error)
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotDurable(error) => error,
            CommitError::Unknown(text) => Self::OutcomeUnknown(text),
        }
    }
}

/// How waiting for others ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// Enough of them have it.
    Yes,
    /// The time is over.
    NotInTime,
    /// The branch stops.
    Stopping,
}
