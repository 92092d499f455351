//! A commit log that is kept elsewhere: each group's row is appended there before SQLite commits the group.
//!
//! The row also goes into this database's own replication log, in the group's transaction, as it does without a log
//! elsewhere. So the database says by itself where it stands, and a process that comes back knows what it lacks. The
//! order is: the row into the table, which a full disk refuses while nothing has happened; the row into the log
//! elsewhere, which is the group's commit point; then COMMIT here, which makes a working copy of what is safe already.
//!
//! SQLite is behind the log elsewhere or level with it, and never ahead of it. That is also why its commits need not
//! reach the disk one by one (`synchronous=NORMAL`): what a power failure takes from the working copy is a suffix of
//! its commits, and the next start takes them from the log.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::dbs_exec::commit_log::group_log::{GroupLog, LogRow, Position};
use crate::dbs_exec::commit_log::{Appended, CommitError, CommitLog, Confirmed, Writing};
use crate::dbs_exec::replication_log::ReplicationLog;
use crate::error::{Error, Result};

/// The log elsewhere, as the funnel sees it.
pub trait RemoteLog: Send + Sync {
    /// Whether a client's operations may be queued: the log can be reached, or was a moment ago.
    ///
    /// # Errors
    /// [`Error::NoCommitLog`].
    fn check_ready(&self) -> Result<()>;

    /// What writes are refused with, once another process is known to own the branch.
    fn refusal(&self) -> Option<Error>;

    /// Appends a row behind the row `before`, and returns when it is safe there. Takes a bounded time.
    ///
    /// # Errors
    /// [`CommitError`], as `commit_log` says that an implementation answers.
    fn append(&self, before: &Position, row: &LogRow) -> Result<(), CommitError>;
}

/// The replication log of this database, with a log elsewhere before it.
pub struct ElsewhereLog {
    /// The table in this database.
    pub table: Arc<ReplicationLog>,
    /// The log elsewhere.
    pub remote: Arc<dyn RemoteLog>,
}

impl ElsewhereLog {
    /// Appends a row to the log elsewhere, once it is in this database's open transaction.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn append_row(&self, appended: Appended) -> Result<Appended, CommitError> {
        // A log that was never begun has no row to stand behind, and this one begins with a snapshot elsewhere.
        let before = self.table.position().ok_or_else(|| Error::Database("the commit log was not begun".into()))?;
        self.remote.append(&before, &appended.row)?;
        Ok(Appended { is_elsewhere: true, ..appended })
    }
}

impl CommitLog for ElsewhereLog {
    fn wait_until_ready(&self) -> Result<()> {
        self.remote.check_ready()
    }

    fn begin(&self) -> Writing {
        match self.remote.refusal() {
            Some(refusal) => Writing::Refused(refusal),
            None => self.table.begin(),
        }
    }

    fn append(&self, transaction: &Connection, group: &GroupLog) -> Result<Appended, CommitError> {
        self.append_row(self.table.append(transaction, group)?)
    }

    fn publish(&self, appended: Appended) {
        self.table.publish(appended);
    }

    fn last_sequence(&self) -> i64 {
        self.table.last_sequence()
    }

    fn wait_confirmed(&self, _sequence: i64, _wait: Option<Duration>) -> Confirmed {
        // It is safe before it is committed here.
        Confirmed::Yes
    }
}
