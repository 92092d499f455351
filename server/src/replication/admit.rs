//! Who may follow this primary, and from where.

use std::net::IpAddr;
use std::sync::Arc;

use protocol::Address;
use protocol::proof::{from_hex, to_hex};
use protocol::request::{Follow, Following, Link, LogPosition, Replicate, Replicating};

use super::Replication;
use crate::clock::unix_ms_now;
use crate::dbs_exec::{CopyRole, Position, newest_version};
use crate::error::{Error, Result};
use crate::transfer::directory::Directory;

/// A stream that a replica was granted.
#[derive(Clone, Debug)]
pub struct Shipment {
    /// Where the replica takes requests.
    pub(super) address: String,
    /// The last group that it has; none when it gets a snapshot.
    pub(super) from: Option<i64>,
}

impl Replication {
    /// Looks at a replica's wish to follow. No shipment comes of it when the replica's log is not a part of this one.
    ///
    /// # Errors
    /// [`Error::NotPrimary`], [`Error::Fenced`], [`Error::Invalid`], or trouble of the database.
    pub fn admit(&self, params: &Replicate, ip: IpAddr) -> Result<(Replicating, Option<Shipment>)> {
        let dbs = &self.parts.dbs;
        self.check_branch(&params.branch)?;
        if self.role != CopyRole::Primary {
            return Err(self.refusal());
        }
        let epoch = dbs.standing().epoch;
        if params.heard_epoch > epoch {
            self.fence(params.heard_epoch);
            return Err(Error::Fenced { epoch: params.heard_epoch });
        }
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
        let answer = |mode: &str, common| Replicating { epoch, sequence, mode: mode.into(), common };
        let shipment = |from| Some(Shipment { address: address.clone(), from });
        let Some(position) = &params.position else { return Ok((answer("snapshot", None), shipment(None))) };
        let here = dbs.position_at(position.sequence)?;
        let is_ours = here.is_some_and(|here| to_hex(&here.digest) == position.digest);
        if is_ours {
            return Ok((answer("log", None), shipment(Some(position.sequence))));
        }
        // The first epoch that the replica's log has nothing of began where the two logs part.
        let parted = dbs.epochs()?.into_iter().find(|began| began.epoch > position.epoch);
        let is_old = here.is_none()
            && position.sequence < sequence
            && parted.as_ref().is_none_or(|began| position.sequence <= began.after_sequence);
        if is_old {
            return Ok((answer("snapshot", None), shipment(None)));
        }
        let common = parted.map(|began| LogPosition {
            sequence: began.after_sequence,
            epoch: began.epoch - 1,
            digest: began.after_digest.map_or_else(String::new, |digest| to_hex(&digest)),
        });
        Ok((answer("diverged", common), None))
    }

    /// Another copy says that it is the primary. Gives what this one is then.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is a copy of another branch, or trouble of the database.
    pub fn told_of_primary(&self, params: &Follow, ip: IpAddr) -> Result<Following> {
        let dbs = &self.parts.dbs;
        self.check_branch(&params.branch)?;
        let standing = dbs.standing();
        let say = |role: CopyRole, epoch| Ok(Following { role: role.as_str().into(), epoch });
        if params.epoch < standing.heard_epoch {
            return say(standing.role, standing.heard_epoch);
        }
        match standing.role {
            CopyRole::Replica => {
                let address = Address::from((ip, params.port));
                let primary = address.to_string();
                dbs.change_standing(|standing| {
                    standing.heard_epoch = standing.heard_epoch.max(params.epoch);
                    // Unless it was promoted in this very moment.
                    if standing.role == CopyRole::Replica {
                        standing.primary = Some(primary.clone());
                    }
                })?;
                let mut following = self.following.lock();
                let is_other = following.primary.as_ref() != Some(&address);
                following.primary = Some(address);
                drop(following);
                if is_other {
                    log::info!("the primary is at {primary} now, epoch {}", params.epoch);
                    self.interrupt();
                }
                say(CopyRole::Replica, params.epoch)
            }
            CopyRole::Primary if params.epoch > standing.epoch => {
                self.fence(params.epoch);
                say(CopyRole::Fenced, params.epoch)
            }
            CopyRole::Primary => say(CopyRole::Primary, standing.epoch),
            CopyRole::Fenced => {
                dbs.fence(params.epoch)?;
                say(CopyRole::Fenced, params.epoch)
            }
        }
    }

    /// Looks at a branch's wish to link. Gives this branch's epoch.
    ///
    /// # Errors
    /// [`Error::LowerEpoch`] when the branch was replaced by a copy that is known here, [`Error::Fenced`] when this one
    /// was, as the other knows.
    pub fn admit_link(&self, params: &Link, directory: &Directory) -> Result<i64> {
        let epoch = self.parts.dbs.standing().epoch;
        if params.your_epoch > epoch {
            self.fence(params.your_epoch);
            return Err(Error::Fenced { epoch: params.your_epoch });
        }
        directory.learn_epoch(&params.branch, params.epoch)?;
        Ok(epoch)
    }

    /// Ends this primary's writing: somebody has heard of a higher epoch.
    pub fn fence(&self, epoch: i64) {
        if self.role != CopyRole::Primary || self.claim_end().is_err() {
            return;
        }
        log::error!(
            "another copy of branch {} was promoted (epoch {epoch}): this one takes no writes",
            self.parts.dialler.branch
        );
        match self.parts.dbs.fence(epoch) {
            Ok(()) => drop(self.change_role()),
            Err(error) => {
                self.ending.store(false, std::sync::atomic::Ordering::SeqCst);
                log::error!("that could not be noted: {error}");
            }
        }
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
    /// Trouble of the database.
    pub fn log_from_now_on(&self) -> Result<()> {
        if self.parts.dbs.standing().is_logging {
            return Ok(());
        }
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| Error::Database(format!("no randomness: {error}")))?;
        self.parts.dbs.start_logging(&salt, unix_ms_now())?;
        log::info!("group commits are logged for replicas from now on");
        Ok(())
    }
}

/// A place as it goes over the wire.
pub(super) fn to_wire(position: &Position) -> LogPosition {
    LogPosition { sequence: position.sequence, epoch: position.epoch, digest: to_hex(&position.digest) }
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
