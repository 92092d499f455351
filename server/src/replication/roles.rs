//! What this copy is to be: from the command line at the start, and by order while it runs.

use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use protocol::Address;
use protocol::answer::Promotion;
use protocol::request::{Action, Demote, Follow, Following, Promote};

use super::dial::{DialError, Dialler};
use super::{FollowState, Replication};
use crate::clock::{iso_utc, unix_ms_now};
use crate::config::ReplicationSettings;
use crate::dbs_exec::{CopyRole, DbsExec, Epoch};
use crate::error::{Error, Result};
use crate::limits::PRIMARY_SILENCE;

/// Makes the database what the command line says that it is. Done once, at the start of the process.
///
/// # Errors
/// Trouble of the database.
pub fn settle_role(dbs: &DbsExec, settings: &ReplicationSettings) -> Result<()> {
    dbs.keep_log(i64::try_from(settings.log_mib.saturating_mul(1 << 20)).unwrap_or(i64::MAX));
    let standing = dbs.standing();
    let Some(primary) = settings.replica_of.as_ref().map(ToString::to_string) else { return Ok(()) };
    if standing.role == CopyRole::Primary && standing.promoted_from.as_ref() == Some(&primary) {
        log::warn!(
            "--replica-of {primary} is passed over: this copy was promoted in that one's place (epoch {}); bank-client demote --to makes it a replica again",
            standing.epoch
        );
        return Ok(());
    }
    if standing.role == CopyRole::Replica && standing.primary.as_ref() == Some(&primary) {
        return Ok(());
    }
    dbs.change_standing(|standing| standing.begin_to_follow(&primary))
}

/// Asks the other copies whether one of them is of a higher epoch, and tells them of this one. `true` when this
/// primary was replaced: it is fenced then.
///
/// Done before a primary opens its doors: one that comes back after another was promoted in its place takes no
/// write, if any other copy can be reached.
///
/// # Errors
/// Trouble of the database.
pub fn is_replaced(dbs: &DbsExec, dialler: &Dialler, port: u16, expected: &[Address]) -> Result<bool> {
    let standing = dbs.standing();
    if standing.role != CopyRole::Primary || !standing.is_logging {
        return Ok(false);
    }
    let mut others: Vec<Address> = expected.to_vec();
    others.extend(dbs.members()?.iter().chain(&standing.promoted_from).filter_map(|address| address.parse().ok()));
    others.retain(|other| !is_here(other, port));
    others.sort();
    others.dedup();
    let name = &dialler.branch;
    let params = Follow { branch: name.clone(), port, epoch: standing.epoch };
    let heard = std::thread::scope(|scope| {
        let asked: Vec<_> =
            others.iter().map(|other| scope.spawn(|| tell_of_primary(other, dialler, &params).ok())).collect();
        asked.into_iter().filter_map(|asked| asked.join().ok().flatten()).map(|following| following.epoch).max()
    });
    match heard {
        Some(heard) if heard > standing.epoch => {
            log::error!("another copy of branch {name} was promoted (epoch {heard}): this one takes no writes");
            dbs.fence(heard)?;
            Ok(true)
        }
        Some(_) | None => Ok(false),
    }
}

/// Whether an address is this very copy's, whatever name it has there.
pub(super) fn is_here(address: &Address, port: u16) -> bool {
    // Only an address of this machine can be bound.
    address.port == port && UdpSocket::bind((address.host.as_str(), 0)).is_ok()
}

/// Tells another copy that this one is the primary; gives what the other is then.
///
/// # Errors
/// [`DialError`].
pub(super) fn tell_of_primary(
    other: &Address,
    dialler: &Dialler,
    params: &Follow,
) -> std::result::Result<Following, DialError> {
    let mut connection = dialler.dial(other)?;
    connection.call(Action::Follow, params, None).map_err(|error| DialError::of(other, error))
}

impl Replication {
    /// Makes this replica the primary.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no replica, has no copy, has diverged, or its primary still answers and `force`
    /// is not given.
    pub fn promote(&self, params: &Promote) -> Result<(Promotion, Receiver<()>)> {
        if self.role != CopyRole::Replica {
            return Err(Error::Invalid(format!("this copy is no replica but {}", self.role.as_str())));
        }
        let (heard_sequence, silent, state, primary) = {
            let following = self.following.lock();
            let silent = following.heard_at.map(|heard_at| heard_at.elapsed());
            (following.heard_sequence, silent, following.state, following.primary.clone())
        };
        if state == FollowState::Diverged && !params.force {
            return Err(Error::Diverged(
                "this replica's books are not its primary's; promote another one, or repeat the order with --yes"
                    .into(),
            ));
        }
        if state == FollowState::Following && silent.is_some_and(|silent| silent < PRIMARY_SILENCE) && !params.force {
            let primary = primary.map_or_else(String::new, |primary| format!(" at {primary}"));
            return Err(Error::Invalid(format!(
                "the primary{primary} still answers; stop it first, or repeat the order with --yes: what it commits from now on is lost"
            )));
        }
        let silent_ms = silent.and_then(|silent| i64::try_from(silent.as_millis()).ok());
        self.claim_end()?;
        let promoted = self.parts.dbs.promote(unix_ms_now(), heard_sequence, silent_ms);
        promoted.inspect_err(|_| self.ending.store(false, Ordering::SeqCst))?;
        let promotion = self.promotion()?.ok_or_else(|| Error::Database("the new epoch is not on disk".into()))?;
        log::warn!(
            "this copy is the primary of branch {} now: epoch {}, after group {}",
            self.parts.dialler.branch,
            promotion.epoch,
            promotion.after_sequence
        );
        Ok((promotion, self.change_role()))
    }

    /// Makes this copy a replica of the primary at an address.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that is no address of a primary of this branch.
    pub fn demote(&self, params: &Demote) -> Result<Receiver<()>> {
        let to: Address = params.to.parse()?;
        if is_here(&to, self.parts.port) {
            return Err(Error::Invalid("that is this copy itself; name another one".into()));
        }
        // Whoever is there must be this branch; whether it is the primary shows when it is followed.
        let connection = self.parts.dialler.dial(&to);
        connection.map_err(|error| Error::Invalid(format!("that is no primary to follow: {error}")))?;
        self.claim_end()?;
        let demoted = self.parts.dbs.demote(&to.to_string());
        demoted.inspect_err(|_| self.ending.store(false, Ordering::SeqCst))?;
        log::warn!("this copy of branch {} is a replica of {to} now", self.parts.dialler.branch);
        Ok(self.change_role())
    }

    /// Has this replica take a new copy of the primary's books, whatever it has. The old file is kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no replica.
    pub fn resync(&self) -> Result<()> {
        if self.role != CopyRole::Replica {
            return Err(Error::Invalid(format!("this copy is no replica but {}", self.role.as_str())));
        }
        self.parts.dbs.change_standing(|standing| standing.diverged = None)?;
        let mut following = self.following.lock();
        following.wants_snapshot = true;
        following.state = FollowState::Connecting;
        following.trouble = None;
        drop(following);
        log::warn!("a new copy of the primary's books is ordered");
        self.interrupt();
        Ok(())
    }

    /// How this copy became the primary, if it was promoted.
    pub(super) fn promotion(&self) -> Result<Option<Promotion>> {
        let epoch = self.parts.dbs.standing().epoch;
        Ok(self.parts.dbs.epochs()?.iter().find(|began| began.epoch == epoch).map(tell_promotion))
    }
}

fn tell_promotion(began: &Epoch) -> Promotion {
    let silent = began.silent_ms.and_then(|silent| u64::try_from(silent).ok());
    Promotion {
        epoch: began.epoch,
        after_sequence: began.after_sequence,
        heard_sequence: began.heard_sequence,
        silent_seconds: silent.map(|silent| Duration::from_millis(silent).as_secs()),
        at: iso_utc(began.began_unix_ms),
    }
}
