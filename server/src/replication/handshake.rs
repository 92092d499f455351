//! Who may follow this primary, and from where.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::proof::{from_hex, to_hex};
use protocol::request::{Follow, Following, Link, LogPosition, Replicate, Replicating};
use protocol::{Address, Epoch, EpochOrder};

use crate::clock::unix_ms_now;
use crate::dbs_exec::{CopyRole, Position, RemoteLog as _, newest_version};
use crate::error::{Error, Result};
use crate::peers::directory::Directory;
use crate::replication::Replication;

/// A stream that a replica was granted.
#[derive(Clone, Debug)]
pub struct GrantedStream {
    /// Where the replica takes requests.
    pub(super) address: String,
    /// The last group that it has; none when it gets a snapshot.
    pub(super) from: Option<i64>,
}

impl Replication {
    /// Looks at a replica's wish to follow. No stream is granted when the replica's log is not a part of this one.
    ///
    /// # Errors
    /// [`Error::NotPrimary`], [`Error::Fenced`], [`Error::Invalid`], or a database error.
    pub fn grant_stream(&self, params: &Replicate, ip: IpAddr) -> Result<(Replicating, Option<GrantedStream>)> {
        let dbs = &self.parts.dbs;
        self.check_branch(&params.branch)?;
        if self.role != CopyRole::Primary {
            return Err(self.refusal());
        }
        let epoch = dbs.copy_state().epoch;
        self.hear(&Epoch::new(params.heard_epoch, &params.heard_epoch_id)).map_or(Ok(()), Err)?;
        if params.version != newest_version() {
            return Err(Error::Invalid(format!(
                "this primary's tables have version {} and the replica's {}: run the same program at both",
                newest_version(),
                params.version
            )));
        }
        self.log_from_now_on()?;
        let address = Address::from((ip, params.port)).to_string();
        let sequence = dbs.position().map_or(0, |last| last.sequence);
        let Epoch { number: epoch, id: epoch_id } = epoch;
        let answer =
            |mode: &str, common| Replicating { epoch, epoch_id: epoch_id.clone(), sequence, mode: mode.into(), common };
        let stream = |from| Some(GrantedStream { address: address.clone(), from });
        let Some(position) = &params.position else { return Ok((answer("snapshot", None), stream(None))) };
        let here = dbs.position_at(position.sequence)?;
        let is_ours = here.is_some_and(|here| to_hex(&here.digest) == position.digest);
        if is_ours {
            return Ok((answer("log", None), stream(Some(position.sequence))));
        }
        // The first epoch that the replica's log has nothing of began where the two logs part.
        let theirs = Epoch::new(position.epoch, &position.epoch_id);
        let parted = dbs.epochs()?.into_iter().find(|began| match began.epoch.stands_to(&theirs) {
            EpochOrder::Newer | EpochOrder::Conflict => true,
            EpochOrder::Same | EpochOrder::Older => false,
        });
        let is_old = here.is_none()
            && position.sequence < sequence
            && parted.as_ref().is_none_or(|began| position.sequence <= began.after_sequence);
        if is_old {
            return Ok((answer("snapshot", None), stream(None)));
        }
        let common = parted.map(|began| LogPosition {
            sequence: began.after_sequence,
            epoch: began.epoch.number - 1,
            epoch_id: String::new(),
            digest: began.after_digest.map_or_else(String::new, |digest| to_hex(&digest)),
        });
        Ok((answer("diverged", common), None))
    }

    /// Another copy says that it is the primary, or asks what this one is. Returns what this one is then.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is a copy of another branch or its epoch can't be, or a database error.
    pub fn told_of_primary(&self, params: &Follow, ip: IpAddr) -> Result<Following> {
        let dbs = &self.parts.dbs;
        self.check_branch(&params.branch)?;
        let copy_state = dbs.copy_state();
        let theirs = Epoch::new(params.epoch, &params.epoch_id);
        let own = copy_state.epoch.clone();
        let say = |role: CopyRole, epoch: Epoch| {
            let position = dbs.position().map(|last| to_wire(&last, &own));
            Ok(Following { role: role.as_str().into(), epoch: epoch.number, epoch_id: epoch.id, position })
        };
        if !copy_state.heard.may_become(&theirs) {
            return Err(Error::Invalid(format!("no copy of this branch can be of epoch {theirs}")));
        }
        // In a conflict the answer tells of what this copy is of, so that the other one hears of it too and stops; also
        // when this one has stopped for it already.
        let is_older = theirs.stands_to(&copy_state.heard) == EpochOrder::Older;
        if let Some(against) = copy_state.contradicts(&theirs).filter(|_| !is_older).cloned() {
            self.hear(&theirs);
            let role = if copy_state.role == CopyRole::Primary { CopyRole::Fenced } else { copy_state.role };
            return say(role, against);
        }
        match (copy_state.role, theirs.stands_to(&copy_state.heard)) {
            (role, EpochOrder::Older | EpochOrder::Conflict) => say(role, copy_state.heard),
            (CopyRole::Replica, EpochOrder::Newer | EpochOrder::Same) => {
                self.follow_from_now_on(&Address::from((ip, params.port)), &theirs)?;
                say(CopyRole::Replica, theirs)
            }
            (CopyRole::Primary, EpochOrder::Newer) => {
                self.hear(&theirs);
                say(CopyRole::Fenced, theirs)
            }
            (CopyRole::Primary, EpochOrder::Same) => say(CopyRole::Primary, copy_state.epoch),
            (CopyRole::Fenced, EpochOrder::Newer | EpochOrder::Same) => {
                dbs.fence(&theirs)?;
                say(CopyRole::Fenced, theirs)
            }
        }
    }

    /// The primary is there, as this replica was told.
    fn follow_from_now_on(&self, address: &Address, epoch: &Epoch) -> Result<()> {
        let primary = address.to_string();
        self.parts.dbs.change_copy_state(|copy_state| {
            copy_state.heard = copy_state.heard.clone().or_later(epoch.clone());
            // Unless it was promoted in this very moment.
            if copy_state.role == CopyRole::Replica {
                copy_state.primary = Some(primary.clone());
            }
        })?;
        let mut receiver = self.receiver.lock();
        let is_other = receiver.primary.as_ref() != Some(address);
        receiver.primary = Some(address.clone());
        drop(receiver);
        if is_other {
            log::info!("the primary is at {primary} now, epoch {epoch}");
            self.interrupt();
        }
        Ok(())
    }

    /// Looks at a branch's wish to link.
    ///
    /// # Errors
    /// [`Error::LowerEpoch`] or [`Error::EpochConflict`] when the branch was replaced by a copy that is known here, or
    /// contradicts it, [`Error::Fenced`] when this one was or does, as the other knows.
    pub fn check_link_epochs(&self, params: &Link, directory: &Directory) -> Result<()> {
        self.hear(&Epoch::new(params.your_epoch, &params.your_epoch_id)).map_or(Ok(()), Err)?;
        let theirs = Epoch::new(params.epoch, &params.epoch_id);
        if params.branch != self.parts.dialler.branch {
            return directory.learn_epoch(&params.branch, &theirs);
        }
        // Another copy of this very branch.
        self.hear(&theirs).map_or(Ok(()), Err)?;
        let own = self.parts.dbs.copy_state().epoch;
        match theirs.stands_to(&own) {
            EpochOrder::Older => Err(Error::LowerEpoch { branch: params.branch.to_string(), known: own }),
            EpochOrder::Conflict => Err(Error::EpochConflict { branch: params.branch.to_string(), known: own }),
            EpochOrder::Same | EpochOrder::Newer => Ok(()),
        }
    }

    /// Somebody knows of a copy of this branch that was promoted to an epoch. A higher one ends this primary's writing,
    /// and so does another of the same number: which of the two is right only a person can say. One that can't be is
    /// not believed. Returns what this copy refuses everything with from then on, if so.
    pub fn hear(&self, other: &Epoch) -> Option<Error> {
        let own = self.parts.dbs.copy_state().epoch;
        let is_conflict = match other.stands_to(&own) {
            EpochOrder::Older | EpochOrder::Same => return None,
            EpochOrder::Newer => false,
            EpochOrder::Conflict => true,
        };
        if !own.may_become(other) {
            log::warn!("it is not believed that there is a copy of this branch of epoch {other}: this is {own}");
            return None;
        }
        if let Some(shared) = self.parts.shared_log.as_ref().filter(|_| self.role == CopyRole::Primary) {
            // The store says who owns the branch; the thread that beats asks it, and steps down.
            shared.depose(None);
            return shared.refusal();
        }
        if self.role == CopyRole::Primary && self.claim_end().is_ok() {
            log::error!(
                "another copy of branch {} was promoted: epoch {other}, and this is {own}",
                self.parts.dialler.branch
            );
            match self.parts.dbs.fence(other) {
                Ok(()) => drop(self.change_role()),
                Err(error) => {
                    self.ending.store(false, Ordering::SeqCst);
                    log::error!("that could not be noted: {error}");
                }
            }
        }
        Some(Error::Fenced { epoch: other.number, is_conflict })
    }

    pub(super) fn check_branch(&self, branch: &protocol::BranchName) -> Result<()> {
        if *branch == self.parts.dialler.branch {
            return Ok(());
        }
        Err(Error::Invalid(format!("this is a copy of branch {}, not of {branch}", self.parts.dialler.branch)))
    }

    /// Logs groups from now on, if that was not begun before: the branch has, or is to have, a replica.
    ///
    /// # Errors
    /// A database error.
    pub fn log_from_now_on(&self) -> Result<()> {
        if self.parts.dbs.copy_state().is_logging {
            return Ok(());
        }
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| Error::Database(format!("no randomness: {error}")))?;
        self.parts.dbs.start_logging(&salt, unix_ms_now())?;
        log::info!("group commits are logged for replicas from now on");
        Ok(())
    }
}

/// The end of this copy's log as it goes over the wire.
pub(super) fn to_wire(position: &Position, own: &Epoch) -> LogPosition {
    let is_own = position.epoch == own.number;
    LogPosition {
        sequence: position.sequence,
        epoch: position.epoch,
        epoch_id: if is_own { own.id.clone() } else { String::new() },
        digest: to_hex(&position.digest),
    }
}

/// A place as it came over the wire is the same as one here.
pub(super) fn is_same(theirs: &LogPosition, ours: Option<&Position>) -> bool {
    ours.is_some_and(|ours| {
        ours.sequence == theirs.sequence && from_hex(&theirs.digest).is_some_and(|digest| digest == ours.digest)
    })
}

/// The addresses of a primary's replicas: those that were named and those that have followed.
pub(super) fn members(replication: &Arc<Replication>) -> Vec<String> {
    let mut members = replication.parts.dbs.members().unwrap_or_default();
    members.extend(replication.parts.expected.iter().map(ToString::to_string));
    members.sort();
    members.dedup();
    members.truncate(crate::limits::MEMBERS);
    members
}
