//! Two branches with one name, and how they are told from one branch that was started again.
//!
//! Each process of a branch draws a random text at its start, its instance, and says it when a link is made. A
//! name that comes with another instance is a second branch if the first one is still heard from, and else the
//! same branch, started again or moved.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use protocol::BranchName;
use protocol::answer::Linked;
use protocol::request::Link as LinkParams;
use two_phase_commit::PeerAddr;

use super::{Identity, Links, Up};
use crate::error::{Error, Result};
use crate::limits::{NAME_CHECK, NAME_CHECK_STEP};

impl Links {
    /// What this branch says of itself when it takes a link.
    #[must_use]
    pub fn introduction(&self) -> Linked {
        let Identity { name, instance, epoch, .. } = &self.identity;
        Linked { branch: name.to_string(), instance: instance.clone(), epoch: epoch.number, epoch_id: epoch.id.clone() }
    }

    /// Refuses a peer that has the name of another branch which is running: this one, or one that is linked.
    ///
    /// A link of the same name whose other end is another process may be what a branch has left behind that was moved
    /// or started again; so it is listened to for a moment, and counts when something comes over it.
    ///
    /// # Errors
    /// [`Error::NameTaken`].
    pub fn refuse_double(&self, peer: &LinkParams, at: IpAddr) -> Result<()> {
        let Some(instance) = &peer.instance else { return self.refuse_own_name(&peer.branch, None) };
        let refused = self
            .refuse_own_name(&peer.branch, Some(instance))
            .and_then(|()| self.refuse_rival(&peer.branch, instance, peer.epoch));
        refused.inspect_err(|error| log::error!("a link from {at}, port {}, is refused: {error}", peer.port))
    }

    fn refuse_own_name(&self, name: &BranchName, instance: Option<&String>) -> Result<()> {
        // A branch that was given its own address meets itself, which does no harm.
        if *name != self.identity.name || instance == Some(&self.identity.instance) {
            return Ok(());
        }
        Err(two_of(name, ""))
    }

    /// Refuses a process that has the name of a branch to which a live link goes, unless that one is of a lower epoch:
    /// then it was replaced.
    ///
    /// # Errors
    /// [`Error::NameTaken`].
    pub(super) fn refuse_rival(&self, name: &BranchName, instance: &str, epoch: i64) -> Result<()> {
        let peer = PeerAddr::from(name);
        let rivals = || -> BTreeMap<u64, u64> {
            let peers = self.peers.lock();
            let up = peers.get(&peer).map_or(&[][..], |peer| &peer.up[..]);
            up.iter()
                .filter(|up| up.is_rival_of(Some(instance)) && up.with.epoch.number >= epoch)
                .map(|up| (up.id, up.frames.load(Ordering::Relaxed)))
                .collect()
        };
        let before = rivals();
        let deadline = Instant::now() + NAME_CHECK;
        loop {
            let now = rivals();
            if now.is_empty() || Instant::now() >= deadline {
                return Ok(());
            }
            if now.iter().any(|(id, frames)| before.get(id).is_some_and(|before| frames > before)) {
                let known = self.directory.address_of(name);
                return Err(two_of(
                    name,
                    &known.map_or_else(String::new, |address| format!(", one of them at {address}")),
                ));
            }
            std::thread::sleep(NAME_CHECK_STEP);
        }
    }
}

impl Up {
    /// Whether another process than this one is at the other end, as far as both have said who they are.
    pub(super) fn is_rival_of(&self, instance: Option<&str>) -> bool {
        self.with.instance.as_deref().zip(instance).is_some_and(|(own, other)| own != other)
    }
}

fn two_of(name: &BranchName, at: &str) -> Error {
    Error::NameTaken(format!(
        "there are two branches {name}{at}, and each branch of a bank needs a name of its own: start one of them under another, with a database of its own"
    ))
}
