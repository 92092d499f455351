//! What this copy of the branch's database is: the primary, a replica of it, or a primary that was replaced.
//!
//! It is one row of a table that belongs to this copy alone. The funnel obeys it: only a primary's operations may
//! write. *Epochs* number the primaries of a branch, 1, 2, 3, …: each promotion begins the next one and draws an id for
//! it, and whoever has heard of an epoch listens to no older one, nor to another of the same number (`protocol`'s
//! `epoch`).

use protocol::{Epoch, EpochOrder};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::dbs_exec::commit_log::group_log::Position;
use crate::error::Error;

/// What a copy of the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyRole {
    /// The one that is written.
    Primary,
    /// One that follows the primary's log.
    Replica,
    /// One that was the primary until another was promoted, and follows nobody yet.
    Fenced,
}

impl CopyRole {
    /// The word in the table and in `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Fenced => "fenced",
        }
    }
}

/// The row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyState {
    /// What this copy is.
    pub role: CopyRole,
    /// The epoch that it is of.
    pub epoch: Epoch,
    /// The highest epoch that it has heard of; one of the same number and another id, where this copy is fenced for it.
    pub heard: Epoch,
    /// Whether groups are logged.
    pub is_logging: bool,
    /// A replica's primary.
    pub primary: Option<String>,
    /// Whom it followed when it was promoted.
    pub promoted_from: Option<String>,
    /// Why a replica follows no longer.
    pub diverged: Option<String>,
    /// Whether a new copy of the primary's books was ordered and is not here yet.
    pub wants_snapshot: bool,
    /// The `--replica-of` that this copy was last started with.
    pub started_with: Option<String>,
}

impl CopyState {
    /// What this copy refuses writes with; `None` when it takes them.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        match self.role {
            CopyRole::Primary => None,
            // With the address, so that the client can go there.
            // Nobody is known where no process owns the branch at this moment.
            CopyRole::Replica => {
                Some(Error::NotPrimary { primary: self.primary.clone().filter(|primary| !primary.is_empty()) })
            }
            // It was the primary, and a write here would be one that the new primary doesn't have.
            CopyRole::Fenced => Some(Error::Fenced { epoch: self.heard.number, is_conflict: self.is_in_conflict() }),
        }
    }

    /// The epoch of this copy, or that it has heard of, which `other` contradicts: of the same number, and another.
    #[must_use]
    pub fn contradicts(&self, other: &Epoch) -> Option<&Epoch> {
        let contradicted = |known: &&Epoch| known.stands_to(other) == EpochOrder::Conflict;
        // Both: two copies promoted apart from one another have the same number, whether this is one of them or has
        // only heard of one.
        [&self.epoch, &self.heard].into_iter().find(contradicted)
    }

    /// Whether this copy was fenced for another one that was promoted to the same number.
    #[must_use]
    pub fn is_in_conflict(&self) -> bool {
        self.role == CopyRole::Fenced && self.heard.number == self.epoch.number
    }

    /// Makes it a replica's, of the primary at an address. Whatever was wrong with an earlier primary is over.
    pub fn begin_to_follow(&mut self, primary: &str) {
        self.role = CopyRole::Replica;
        self.primary = Some(primary.to_string());
        self.promoted_from = None;
        self.diverged = None;
        self.wants_snapshot = false;
    }

    /// This copy as the primary of an epoch that begins now.
    #[must_use]
    pub fn promoted(self, epoch: Epoch) -> Self {
        Self {
            role: CopyRole::Primary,
            // It was chosen above all that was heard of.
            heard: epoch.clone(),
            epoch,
            // The copies that follow it need its groups, from the first one on.
            is_logging: true,
            // A copy that was fenced follows nobody, but may have been a replica before.
            promoted_from: self.primary.or(self.promoted_from),
            primary: None,
            diverged: None,
            wants_snapshot: false,
            started_with: self.started_with,
        }
    }

    /// Reads the row.
    pub(in crate::dbs_exec) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        connection.query_row(
            "SELECT role, epoch, heard_epoch, is_logging, primary_address, promoted_from, diverged, epoch_id,
                 heard_epoch_id, wants_snapshot, started_with FROM replication_standing",
            [],
            |row| {
                let role = match row.get_ref(0)?.as_str()? {
                    "primary" => CopyRole::Primary,
                    "replica" => CopyRole::Replica,
                    // The table's CHECK leaves one other.
                    _ => CopyRole::Fenced,
                };
                Ok(Self {
                    role,
                    epoch: Epoch { number: row.get(1)?, id: row.get(7)? },
                    heard: Epoch { number: row.get(2)?, id: row.get(8)? },
                    is_logging: row.get(3)?,
                    primary: row.get(4)?,
                    promoted_from: row.get(5)?,
                    diverged: row.get(6)?,
                    wants_snapshot: row.get(9)?,
                    started_with: row.get(10)?,
                })
            },
        )
    }

    /// Writes the row, within whatever transaction is open.
    pub(in crate::dbs_exec) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            "UPDATE replication_standing SET role = ?1, epoch = ?2, heard_epoch = ?3, is_logging = ?4,
                 primary_address = ?5, promoted_from = ?6, diverged = ?7, epoch_id = ?8, heard_epoch_id = ?9,
                 wants_snapshot = ?10, started_with = ?11",
        )?;
        statement.execute(params![
            self.role.as_str(),
            self.epoch.number,
            self.heard.number,
            self.is_logging,
            self.primary,
            self.promoted_from,
            self.diverged,
            self.epoch.id,
            self.heard.id,
            self.wants_snapshot,
            self.started_with
        ])?;
        Ok(())
    }
}

/// Where an epoch began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// The last group of the epoch before, which this one stands on.
    pub after_sequence: i64,
    /// That group's digest.
    pub after_digest: Option<[u8; 32]>,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub began_unix_ms: i64,
    /// The number that the old primary was last heard to have reached; only at the copy that was promoted.
    pub heard_sequence: Option<i64>,
    /// How long the old primary had been silent, in milliseconds; only at the copy that was promoted.
    pub silent_ms: Option<i64>,
}

impl EpochStart {
    /// All of them, the oldest first.
    pub(in crate::dbs_exec) const SELECT: &str =
        "SELECT epoch, after_sequence, after_digest, began_unix_ms, heard_sequence, silent_ms, id
         FROM replication_epochs ORDER BY epoch";

    pub(in crate::dbs_exec) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            "INSERT INTO replication_epochs
                 (epoch, after_sequence, after_digest, began_unix_ms, heard_sequence, silent_ms, id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        statement.execute(params![
            self.epoch.number,
            self.after_sequence,
            self.after_digest,
            self.began_unix_ms,
            self.heard_sequence,
            self.silent_ms,
            self.epoch.id
        ])?;
        Ok(())
    }

    /// Reads one row of [`EpochStart::SELECT`].
    pub(in crate::dbs_exec) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            epoch: Epoch { number: row.get(0)?, id: row.get(6)? },
            after_sequence: row.get(1)?,
            after_digest: row.get(2)?,
            began_unix_ms: row.get(3)?,
            heard_sequence: row.get(4)?,
            silent_ms: row.get(5)?,
        })
    }
}

/// The last row of the log.
pub(in crate::dbs_exec) fn last_position(connection: &Connection) -> rusqlite::Result<Option<Position>> {
    let sql = "SELECT sequence, epoch, digest FROM replication_log ORDER BY sequence DESC LIMIT 1";
    connection.query_row(sql, [], Position::read).optional()
}
