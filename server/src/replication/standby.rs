//! A process that follows a commit log elsewhere, and takes over when the branch's owner is gone.
//!
//! It is a replica whose primary is a table. In each round it reads what the log has more than this copy, *then* makes
//! a write of its own, and only then executes what it has read: a store may show a row that its failover takes back,
//! but none that was there before a write that is safe.
//!
//! A take-over has two instants. The *claim* makes this process the owner of the next epoch in the store; from then on
//! nobody else appends, and what the log has is all that it will ever have of the epochs before. When that is executed
//! here, the *epoch's first row* goes into the log and this copy becomes the primary, in the one way in which each role
//! begins (`node`): both machines recover, and other branches are told. A process that dies between the two is
//! an owner that is silent, like any other.
//!
//! Who finds a store in which the branch has no log begins it with the books that it has.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::receiver::Ended;
use super::snapshot::{DeleteOnDrop, Incoming};
use super::{ReceiverState, Reopen, Replication};
use crate::bank::Bank;
use crate::clock::unix_ms_now;
use crate::dbs_exec::{CopyRole, CopyState, DbsExec, Position};
use crate::error::{Error, Result};
use crate::limits::{APPLY_BYTES, LOG_KEPT_LOCALLY, LOG_RETRY_PAUSE, OWNER_SILENCE, STANDBY_LOOK, STANDBY_NOTE};
use crate::shared_log::{Owner, SharedLog, Trouble, View};

/// What a copy whose commit log is elsewhere was started with, where others have their `--replica-of`.
pub const COMMIT_LOG: &str = "--commit-log";

/// Makes the database one of a process that has not claimed its branch, unless it is opened as the owner's.
///
/// # Errors
/// A database error.
pub(super) fn begin_to_share(dbs: &DbsExec, is_first: bool) -> Result<()> {
    dbs.keep_log(LOG_KEPT_LOCALLY);
    if !is_first && dbs.copy_state().role == CopyRole::Primary {
        return Ok(());
    }
    dbs.change_copy_state(|copy_state| {
        let diverged = copy_state.diverged.take();
        copy_state.begin_to_follow("");
        copy_state.diverged = diverged;
    })
}

impl From<Trouble> for Ended {
    fn from(trouble: Trouble) -> Self {
        Self::Again(trouble.to_string())
    }
}

/// What a standby has seen so far.
struct Watch {
    owner: Option<(i64, String, i64)>,
    /// Since when it is the same.
    since: Instant,
    noted_at: Option<Instant>,
    /// Whether this copy's place was found in the log.
    is_placed: bool,
}

impl Watch {
    fn new() -> Self {
        Self { owner: None, since: Instant::now(), noted_at: None, is_placed: false }
    }

    /// Whether the owner has left, or has been silent for long.
    fn is_gone(&mut self, owner: &Owner) -> bool {
        let seen = Some((owner.epoch, owner.id.clone(), owner.beats));
        if self.owner != seen {
            (self.owner, self.since) = (seen, Instant::now());
        }
        owner.id.is_empty() || self.since.elapsed() >= OWNER_SILENCE
    }
}

/// Where this copy stands.
enum Place {
    /// At this row of the log.
    At(Position),
    /// Nowhere: it needs a copy of the books, and keeps its own beside that if it has any.
    Nowhere { keep_old: bool },
}

impl Replication {
    /// Follows the log until this process owns the branch, or its books turn out to be others.
    pub(super) fn stand_by(self: &Arc<Self>, shared: &Arc<SharedLog>) {
        let mut watch = Watch::new();
        while !self.is_stopping() && !self.parts.dbs.is_closed() {
            if self.receiver.lock().state == ReceiverState::Diverged {
                self.wait(Duration::MAX);
                watch = Watch::new();
                continue;
            }
            match self.stand_by_once(shared, &mut watch) {
                Ok(pause) => self.wait(pause),
                Err(Ended::Reopening) => return,
                Err(Ended::Diverged(text)) => self.diverge(&text),
                Err(Ended::Again(text)) => {
                    self.note_away(&text);
                    // While the store was away, the owner could not beat either.
                    watch = Watch::new();
                    self.wait(LOG_RETRY_PAUSE);
                }
            }
        }
    }

    /// One round. Returns after which pause the next one comes.
    fn stand_by_once(self: &Arc<Self>, shared: &Arc<SharedLog>, watch: &mut Watch) -> Result<Duration, Ended> {
        let (store, dbs) = (shared.store(), &self.parts.dbs);
        let asked_at = Instant::now();
        let view = store.view()?;
        let Some(owner) = &view.owner else { return self.begin_log(shared) };
        self.note_owner(owner, store.id())?;
        let position = match self.find_place(shared, &view, watch)? {
            Place::At(position) => position,
            Place::Nowhere { keep_old } => return self.take_copy(shared, &view, owner, keep_old),
        };
        let rows = store.rows_after(position.sequence, APPLY_BYTES)?;
        let is_noted = watch.noted_at.is_some_and(|at| at.elapsed() < STANDBY_NOTE);
        if !rows.is_empty() || !is_noted {
            store.note(position.sequence)?;
            watch.noted_at = Some(Instant::now());
        }
        if !rows.is_empty() {
            self.execute(&rows)?;
            return Ok(Duration::ZERO);
        }
        self.note_level(view.last, position.sequence);
        if owner.id == store.id() {
            return self.take_over(shared, owner.epoch, asked_at);
        }
        if watch.is_gone(owner) {
            let heard = dbs.copy_state().heard.number;
            log::warn!("the owner of the branch, at {}, is gone: this process claims it", owner.address);
            if store.claim(owner, heard)? {
                return Ok(Duration::ZERO);
            }
        }
        Ok(STANDBY_LOOK)
    }

    fn note_level(&self, last: i64, sequence: i64) {
        let mut receiver = self.receiver.lock();
        if receiver.state != ReceiverState::Following {
            log::info!("following the commit log, from group {sequence} on");
            receiver.state = ReceiverState::Following;
            receiver.last_error = None;
        }
        drop(receiver);
        self.note_heard(last, sequence);
    }

    /// Notes where the owner is, for clients that want to write.
    fn note_owner(&self, owner: &Owner, id: &str) -> Result<()> {
        let address = if owner.id.is_empty() || owner.id == id { "" } else { owner.address.as_str() };
        let noted = self.parts.dbs.copy_state().primary.unwrap_or_default();
        if noted == address {
            return Ok(());
        }
        self.receiver.lock().primary = address.parse().ok();
        self.parts.dbs.change_copy_state(|copy_state| copy_state.primary = Some(address.to_string()))
    }

    fn find_place(&self, shared: &SharedLog, view: &View, watch: &mut Watch) -> Result<Place, Ended> {
        let dbs = &self.parts.dbs;
        let has_books = Bank::stored_name(dbs)?.is_some();
        if self.receiver.lock().wants_snapshot {
            return Ok(Place::Nowhere { keep_old: has_books });
        }
        let Some(position) = dbs.position() else {
            let own = "this database has books of its own, which are not in the commit log";
            return if has_books { Err(Ended::Diverged(own.into())) } else { Ok(Place::Nowhere { keep_old: false }) };
        };
        let diverged = |text: String| match has_books {
            true => Err(Ended::Diverged(text)),
            // The log was begun by another process while this one was about to.
            false => Ok(Place::Nowhere { keep_old: false }),
        };
        let sequence = position.sequence;
        if view.last < sequence {
            return diverged(format!(
                "the commit log ends at group {}, and this copy is at group {sequence}: the store was put back to an older state, or lost",
                view.last
            ));
        }
        if view.first > sequence {
            return Ok(Place::Nowhere { keep_old: has_books });
        }
        if !watch.is_placed {
            match shared.store().position_at(sequence)? {
                Some(theirs) if theirs.digest == position.digest => {}
                Some(_) => {
                    return diverged(format!("group {sequence} of the commit log is another than this copy's"));
                }
                None => return Ok(Place::Nowhere { keep_old: has_books }),
            }
            watch.is_placed = true;
            self.mark()?;
        }
        Ok(Place::At(position))
    }

    /// Notes that this copy's log is elsewhere, so that nobody writes here without it.
    fn mark(&self) -> Result<()> {
        self.parts.dbs.change_copy_state(|copy_state| copy_state.started_with = Some(COMMIT_LOG.into()))
    }

    /// Begins the branch's log with the books that are here.
    fn begin_log(self: &Arc<Self>, shared: &SharedLog) -> Result<Duration, Ended> {
        let dbs = &self.parts.dbs;
        let CopyState { started_with, heard, .. } = dbs.copy_state();
        if started_with.as_deref() == Some(COMMIT_LOG) {
            return Err(Ended::Diverged(
                "the commit log has nothing of this branch, and this copy is one of a log: the store was lost. bank-client promote --yes begins the log anew with the books of this copy".into(),
            ));
        }
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| Error::Database(format!("no randomness: {error}")))?;
        dbs.start_logging(&salt, unix_ms_now())?;
        let sequence = dbs.position().map_or(0, |position| position.sequence);
        let rows = dbs.log_after(sequence - 1, 1)?.unwrap_or_default();
        let row = rows.first().ok_or_else(|| Ended::Again("the log of this copy has no row".into()))?;
        let path = self.path_beside(".outgoing-log");
        let _deleted = DeleteOnDrop(path.clone());
        dbs.copy_to(&path, &|| self.is_stopping())?;
        let epoch = heard.next_number().ok_or_else(|| Ended::Again("there is no higher epoch".into()))?;
        if shared.store().begin(epoch, row, &path)? {
            log::info!("the branch's log begins in {}, at group {sequence}", shared.store().name());
        }
        Ok(Duration::ZERO)
    }

    /// Takes a copy of the books from the store.
    fn take_copy(
        self: &Arc<Self>,
        shared: &SharedLog,
        view: &View,
        owner: &Owner,
        keep_old: bool,
    ) -> Result<Duration, Ended> {
        let store = shared.store();
        log::info!("taking a snapshot from {}, of group {}", store.name(), view.snapshot);
        {
            let mut receiver = self.receiver.lock();
            receiver.state = ReceiverState::Snapshot;
            receiver.last_error = None;
        }
        let head = store.snapshot(view.snapshot)?.ok_or_else(|| Ended::Again("there is no snapshot yet".into()))?;
        let mut incoming = Incoming::begin(self.path_beside(".incoming"))?;
        for piece in 1..=head.pieces {
            if self.is_stopping() {
                return Err(Ended::Again("the branch is stopping".into()));
            }
            incoming.add(&store.snapshot_piece(view.snapshot, piece)?)?;
        }
        let copy_state = self.parts.dbs.copy_state();
        let branch = self.parts.dialler.branch.as_str();
        let finished = incoming.finish((head.bytes, &head.digest), branch, &owner.address, &copy_state);
        let (copy, sequence) = finished.map_err(Ended::Again)?;
        // What was read is safe with this.
        store.note(sequence)?;
        log::info!("the snapshot is here and sound, up to group {sequence}");
        self.claim_end()?;
        (self.parts.reopen)(Reopen::Snapshot { copy, keep_old });
        Err(Ended::Reopening)
    }

    /// This process owns the branch and has all of the log: it begins the epoch.
    fn take_over(self: &Arc<Self>, shared: &SharedLog, epoch: i64, asked_at: Instant) -> Result<Duration, Ended> {
        // The claim itself is safe with this.
        shared.store().note(self.parts.dbs.position().map_or(0, |position| position.sequence))?;
        shared.claimed(asked_at);
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| Error::Database(format!("no randomness: {error}")))?;
        self.claim_end()?;
        let began = self.parts.dbs.take_over(epoch, &salt, unix_ms_now()).map_err(|error| {
            self.ending.store(false, Ordering::SeqCst);
            Ended::from(Error::from(error))
        })?;
        let branch = &self.parts.dialler.branch;
        log::warn!(
            "this process owns branch {branch} now: epoch {}, after group {}",
            began.epoch,
            began.after_sequence
        );
        drop(self.change_role());
        Err(Ended::Reopening)
    }
}
