//! What a branch does for whoever asks, whichever wire they ask over.
//!
//! - [`requester`] is who asks over the branch protocol, [`access`] says who may ask for what;
//! - [`operations`] are the actions on this branch's own ledger, [`batch`] carries many out in one commit;
//! - [`transfers`] are those between branches, [`by_hand`] what a person does with a reason;
//! - [`reports`] are the actions that look, and [`audit`] recomputes the books.
//!
//! They take and return types; text and JSON are the adapters', [`crate::menu`] and [`crate::branch`]. Only what is kept
//! for repeated requests is JSON here too, because it always was on disk: see [`crate::idempotency`].

pub mod access;
pub mod audit;
pub mod batch;
pub mod by_hand;
pub mod operations;
pub mod reports;
pub mod requester;
pub mod transfers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::Address;
use protocol::proof::BranchKey;

use crate::allowance::{Allowance, Owner};
use crate::bank::Bank;
use crate::error::{Error, Result};
use crate::limits::{
    ANSWERS_BYTES, ANSWERS_BYTES_SHARE, FRAMES_BYTES, FRAMES_BYTES_SHARE, LONG_READ_WAIT, LONG_READS, LONG_READS_SHARE,
    STRANGERS_FRAMES_BYTES, STRANGERS_FRAMES_BYTES_SHARE, TRANSFERS, TRANSFERS_SHARE,
};
use crate::net::accept::Clients;
use crate::replication::Replication;
use crate::teaching::lesson::Lesson;
use crate::transfer::Engine;

/// What every request needs, over either wire.
pub struct Service {
    /// The ledger's operations.
    pub bank: Arc<Bank>,
    /// The transfers between branches.
    pub engine: Arc<Engine>,
    /// What a class may do to this branch; there only with `--teaching`.
    pub lesson: Option<Arc<Lesson>>,
    /// Replicas, or the primary that this one follows.
    pub replication: Arc<Replication>,
    /// Everyone who is connected.
    pub clients: Arc<Clients>,
    /// The branch key.
    pub key: BranchKey,
    /// Whether anyone may do anything (`--open`).
    pub is_open: bool,
    /// How long a client may be silent.
    pub idle_timeout: Duration,
    /// Where this branch takes requests.
    pub address: Address,
    /// When the branch was started.
    pub started: Instant,
    /// The same by the wall clock, in Unix milliseconds.
    pub started_unix_ms: i64,
    /// What all clients share.
    pub allowances: Allowances,
}

/// What clients share, so that none of them takes it all.
pub struct Allowances {
    /// Bytes of long frames of those who have proved who they are, until they are answered.
    pub frames: Arc<Allowance>,
    /// Bytes of long frames of those who have not.
    pub strangers_frames: Arc<Allowance>,
    /// Bytes of long answers, from when they are made until they are sent.
    pub answers: Arc<Allowance>,
    /// Places for long reads.
    pub reads: Arc<Allowance>,
    /// Transfers between branches whose answers are waited for.
    pub transfers: Arc<Allowance>,
}

impl Default for Allowances {
    fn default() -> Self {
        Self {
            frames: Allowance::new(FRAMES_BYTES, FRAMES_BYTES_SHARE),
            strangers_frames: Allowance::new(STRANGERS_FRAMES_BYTES, STRANGERS_FRAMES_BYTES_SHARE),
            answers: Allowance::new(ANSWERS_BYTES, ANSWERS_BYTES_SHARE),
            reads: Allowance::new(LONG_READS, LONG_READS_SHARE),
            transfers: Allowance::new(TRANSFERS, TRANSFERS_SHARE),
        }
    }
}

impl Service {
    /// What a class may do to this branch.
    ///
    /// # Errors
    /// [`Error::NotTeaching`] when it was not started with `--teaching`.
    pub fn lesson(&self) -> Result<&Lesson> {
        self.lesson.as_deref().ok_or(Error::NotTeaching)
    }

    /// Runs something that reads much. An owner has few of them under way at a time, so that others find a connection
    /// to the database beside them.
    ///
    /// # Errors
    /// [`Error::Busy`] when no place is free in time; the read's own.
    pub fn read_long<T>(&self, owner: Owner, read: impl FnOnce() -> Result<T>) -> Result<T> {
        let _place = self.allowances.reads.take(owner, 1, LONG_READ_WAIT).ok_or(Error::Busy)?;
        read()
    }
}
