//! Appending a row until its fate is known.
//!
//! The first try nearly always settles it. When its answer is missing, the row may be in the log, or not, or on its way
//! still, in a server that is just slow. Nothing may be guessed then: the owner makes a durable write of its own, which
//! a server that is no longer the store's leader can't, and looks. It is there: done. Another row is there, or another
//! owner: it is not, and never will be, because whoever claims a branch waits for what was under way. It is not there:
//! the same row is appended again under the same number, of which there is one at most, so even a first try that comes
//! through late does no harm. Once a row was sent, a plain "could not" of a later try proves nothing of the first one;
//! so from then on there are three ends: it is in the log, it can't be any more, or time is over and nobody knows.

use std::time::{Duration, Instant};

use super::{Look, SharedLog, Tried};
use crate::dbs_exec::{CommitError, LogRow, Position};
use crate::error::Error;
use crate::limits::{LOG_RETRY_PAUSE, LOG_UNKNOWN_MAX};

/// Appends a row behind the row `before`. Takes at most about [`LOG_UNKNOWN_MAX`].
///
/// # Errors
/// [`CommitError`].
pub(super) fn append(shared: &SharedLog, before: &Position, row: &LogRow) -> Result<(), CommitError> {
    let deadline = Instant::now() + LOG_UNKNOWN_MAX;
    let mut was_sent = false;
    let mut said = false;
    let mut is_not_owner = false;
    loop {
        let asked_at = Instant::now();
        let tried = shared.store.append(before, row);
        // Twice in a row, and looked at in between: this process owns the branch, and the log is not the one it had.
        if tried == Tried::NotOwner && std::mem::replace(&mut is_not_owner, true) {
            shared.depose(None);
            return Err(Error::NotPrimary { primary: None }.into());
        }
        let trouble = match tried {
            Tried::Appended => {
                shared.prove(asked_at);
                return Ok(());
            }
            // What is there is looked at first: it may be this very row, from an earlier try.
            Tried::NotOwner | Tried::Taken => None,
            Tried::Refused(text) if !was_sent => return Err(Error::Database(text).into()),
            Tried::Refused(text) | Tried::NotSent(text) => Some(text),
            Tried::Unknown(text) => {
                was_sent = true;
                Some(text)
            }
        };
        if let Some(trouble) = trouble {
            shared.note_away();
            if !said {
                log::warn!("the commit log does not answer for group {}: {trouble}", row.position.sequence);
                said = true;
            }
            if !was_sent {
                pause(shared, deadline).map_err(|()| Error::NoCommitLog)?;
                continue;
            }
        }
        if let Some(outcome) = look(shared, row, deadline) {
            return outcome;
        }
    }
}

/// Looks for a row until there is an answer. `None` when it is not there and may be appended.
fn look(shared: &SharedLog, row: &LogRow, deadline: Instant) -> Option<Result<(), CommitError>> {
    let sequence = row.position.sequence;
    loop {
        let asked_at = Instant::now();
        match shared.store.look(sequence) {
            Ok(Look { owner, digest }) => {
                let is_owner = owner
                    .as_ref()
                    .is_some_and(|owner| owner.id == shared.store.id() && owner.epoch == row.position.epoch);
                let is_there = digest == Some(row.position.digest);
                if is_owner && (is_there || digest.is_none()) {
                    shared.prove(asked_at);
                    return is_there.then_some(Ok(()));
                }
                // Also an owner's own: a log that has another row in this place is not the one that this copy follows.
                let address = owner.map(|owner| owner.address).filter(|_| !is_owner);
                shared.depose(address.clone());
                let refusal = Error::NotPrimary { primary: address };
                return Some(if is_there { Ok(()) } else { Err(refusal.into()) });
            }
            Err(trouble) => {
                shared.note_away();
                if pause(shared, deadline).is_err() {
                    let text = format!("the commit log has not said whether it has group {sequence}: {trouble}");
                    return Some(Err(CommitError::Unknown(text)));
                }
            }
        }
    }
}

/// Waits a moment before the next try.
///
/// # Errors
/// When time is over, or the process ends.
fn pause(shared: &SharedLog, deadline: Instant) -> Result<(), ()> {
    if Instant::now() + LOG_RETRY_PAUSE >= deadline || shared.is_stopping() {
        return Err(());
    }
    std::thread::sleep(LOG_RETRY_PAUSE.min(Duration::from_secs(1)));
    Ok(())
}
