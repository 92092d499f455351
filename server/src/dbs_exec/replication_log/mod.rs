//! The replication log: the commit log that replicas follow, kept as a table of the database itself.
//!
//! A group's row is written in the group's own SQLite transaction, so it is there exactly when the group's effects are,
//! and costs no second force to disk. `feed.rs` is the log's end in memory: what replicas are sent, and what they have
//! confirmed. `copy_state.rs` says whether this copy is the primary, `apply.rs` how a replica executes a row,
//! `compare.rs` how the tables of two copies are compared. Nothing here opens or commits a transaction: that is the
//! writer's, which hands its connection in.

pub(super) mod apply;
pub(super) mod compare;
pub(super) mod copy_state;
pub(super) mod feed;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, params};

use crate::clock::unix_ms_now;
use crate::dbs_exec::commit_log::group_log::{GroupLog, LogRow, Position};
use crate::dbs_exec::commit_log::{Appended, CommitError, CommitLog, Confirmed, Writing};
use crate::dbs_exec::connection::storage_error;
use crate::error::{Error, Result};
use crate::limits::{LOG_BODY_BYTES, LOG_GROUPS, LOG_MIB, LOG_PRUNE_GROUPS, SYNC_CONNECT_WAIT};
use copy_state::{CopyState, last_position};
use feed::Feed;

/// The log of this copy, as it is on disk.
///
/// Invariants: with the writer's mutex held, `state` and the feed's last position are what is on disk, for both are
/// changed after the commit only, and under that mutex.
pub struct ReplicationLog {
    state: Mutex<State>,
    feed: Feed,
    /// Whether the last write found too few replicas, so that the server's log says it once.
    lacks_replicas: AtomicBool,
    /// Texts of a primary's statements that were checked and may be executed.
    checked_texts: Mutex<HashSet<String>>,
}

struct State {
    copy_state: CopyState,
    /// The oldest row that is kept.
    first: i64,
    /// How long all bodies together are, and how long they may be.
    bytes: i64,
    bytes_max: i64,
}

impl ReplicationLog {
    /// Reads where the log ends and what this copy is.
    pub fn open(connection: &Connection) -> rusqlite::Result<Self> {
        // SQLite knows a value's length without reading it.
        let sql = "SELECT coalesce(sum(length(body)), 0), coalesce(min(sequence), 1) FROM replication_log";
        let (bytes, first) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let bytes_max = i64::try_from(LOG_MIB << 20).unwrap_or(i64::MAX);
        let state = State { copy_state: CopyState::read(connection)?, first, bytes, bytes_max };
        Ok(Self {
            state: Mutex::new(state),
            feed: Feed::new(last_position(connection)?),
            lacks_replicas: AtomicBool::new(false),
            checked_texts: Mutex::default(),
        })
    }

    /// What replicas are sent, and how far they are.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// What this copy is.
    pub fn copy_state(&self) -> CopyState {
        self.state.lock().copy_state.clone()
    }

    /// Notes what this copy is, once that is on disk.
    pub fn set_copy_state(&self, copy_state: CopyState) {
        self.state.lock().copy_state = copy_state;
    }

    /// The last row; none when nothing was ever logged or executed here.
    pub fn position(&self) -> Option<Position> {
        self.feed.last()
    }

    /// Keeps about so many bytes of the log from now on.
    pub fn keep(&self, bytes: i64) {
        self.state.lock().bytes_max = bytes;
    }

    /// Adds a row to the table, within the open transaction, and deletes the oldest rows of a log that is too long.
    ///
    /// # Errors
    /// SQLite's; nothing was changed outside the transaction.
    pub fn insert(&self, transaction: &Connection, row: LogRow) -> Result<Appended> {
        let sql = "INSERT INTO replication_log (sequence, epoch, digest, at_unix_ms, body) VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut insert = transaction.prepare_cached(sql).map_err(storage_error)?;
        let Position { sequence, epoch, digest } = row.position;
        insert.execute(params![sequence, epoch, digest, row.at_unix_ms, row.body]).map_err(storage_error)?;
        let (first_kept, freed_bytes) = self.prune(transaction, sequence).map_err(storage_error)?;
        Ok(Appended { row, first_kept, freed_bytes, is_elsewhere: false })
    }

    /// Deletes a few of the oldest rows, never the newest one, and returns the first that is left and the bytes that
    /// became free. A few with each group: a long log that is to be short from now on stalls nobody.
    fn prune(&self, transaction: &Connection, last: i64) -> rusqlite::Result<(i64, i64)> {
        let (kept, is_too_long) = {
            let state = self.state.lock();
            (state.first, state.bytes > state.bytes_max || last - state.first > LOG_GROUPS)
        };
        if !is_too_long {
            return Ok((kept, 0));
        }
        // The newest row stays whatever its length: it says where this copy stands.
        let first = (kept + LOG_PRUNE_GROUPS).min(last);
        let sql = "SELECT coalesce(sum(length(body)), 0) FROM replication_log WHERE sequence < ?1";
        let bytes = transaction.prepare_cached(sql)?.query_row([first], |row| row.get(0))?;
        transaction.prepare_cached("DELETE FROM replication_log WHERE sequence < ?1")?.execute([first])?;
        Ok((first, bytes))
    }
}

impl CommitLog for ReplicationLog {
    fn wait_until_ready(&self) -> Result<()> {
        let needed = self.feed.needed();
        if needed == 0 {
            return Ok(());
        }
        // A replica that has just lost its connection comes back within moments; a client waits that long.
        let is_enough = self.feed.has_enough() || self.feed.wait_for_replicas(SYNC_CONNECT_WAIT);
        let connected = self.feed.in_sync();
        // When it changes, not for each client that is refused.
        if self.lacks_replicas.swap(!is_enough, Ordering::SeqCst) == is_enough {
            match is_enough {
                true => log::info!("writes are taken again: {connected} replicas follow"),
                false => log::warn!("writes are refused: {needed} replicas must have each, and {connected} follow"),
            }
        }
        if is_enough { Ok(()) } else { Err(Error::ReplicasMissing { connected, needed }) }
    }

    fn begin(&self) -> Writing {
        let state = self.state.lock();
        match state.copy_state.refusal() {
            // What only looks may run here: a replica's clients read.
            Some(refusal) => Writing::Refused(refusal),
            None if state.copy_state.is_logging => Writing::Logged(GroupLog::default()),
            // Nobody has ever asked to follow, so nobody will want these groups; the first that asks gets a copy of the
            // whole.
            None => Writing::Plain,
        }
    }

    fn append(&self, transaction: &Connection, group: &GroupLog) -> Result<Appended, CommitError> {
        let body = group.encode();
        // A longer one could be kept, and never be sent in one frame.
        if body.len() > LOG_BODY_BYTES {
            return Err(Error::Invalid("this is too much for one commit; split it".into()).into());
        }
        let epoch = self.state.lock().copy_state.epoch.number;
        let row = LogRow::after(self.position().as_ref(), epoch, unix_ms_now(), body);
        Ok(self.insert(transaction, row)?)
    }

    fn publish(&self, appended: Appended) {
        let Appended { row, first_kept, freed_bytes, is_elsewhere: _ } = appended;
        {
            let mut state = self.state.lock();
            state.first = first_kept;
            state.bytes += i64::try_from(row.body.len()).unwrap_or(i64::MAX) - freed_bytes;
        }
        // Last: whoever is woken may send the row at once.
        self.feed.publish(Arc::new(row));
    }

    fn last_sequence(&self) -> i64 {
        self.position().map_or(0, |last| last.sequence)
    }

    fn wait_confirmed(&self, sequence: i64, wait: Option<Duration>) -> Confirmed {
        self.feed.wait_confirmed(sequence, wait)
    }
}

/// The rows after `sequence`, up to about `bytes` of them; `None` when the table no longer reaches back.
pub fn rows_after(connection: &Connection, sequence: i64, bytes: usize) -> rusqlite::Result<Option<Vec<LogRow>>> {
    let sql =
        "SELECT sequence, epoch, digest, at_unix_ms, body FROM replication_log WHERE sequence > ?1 ORDER BY sequence";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([sequence])?;
    let (mut rows, mut taken) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let row = LogRow { position: Position::read(row)?, at_unix_ms: row.get(3)?, body: row.get(4)? };
        // What is missing was pruned. A replica that is so far behind gets a copy of the whole.
        if rows.is_empty() && row.position.sequence != sequence + 1 {
            return Ok(None);
        }
        taken += row.body.len();
        rows.push(row);
        if taken >= bytes {
            break;
        }
    }
    Ok(Some(rows))
}
