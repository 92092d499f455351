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

use crate::error::{Error, Result};
use crate::limits::{NAME_CHECK, NAME_CHECK_STEP};
use crate::peers::links::{Identity, Links, Up};

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
    /// or started again; so it is listened to for a moment, and counts when something comes over it and it is still there.
    ///
    /// # Errors
    /// [`Error::NameTaken`].
    pub fn refuse_name_conflict(&self, peer: &LinkParams, at: IpAddr) -> Result<()> {
        // An older version's branch does not say which process it is; only this branch's own name can be seen to be
        // taken.
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

    /// Refuses a process that has the name of a branch to which a working link goes, unless that one is of a lower epoch:
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
        if !is_alive(rivals, || std::thread::sleep(NAME_CHECK_STEP), Instant::now() + NAME_CHECK) {
            return Ok(());
        }
        let known = self.directory.address_of(name);
        Err(two_of(name, &known.map_or_else(String::new, |address| format!(", one of them at {address}"))))
    }
}

/// Whether one of these links, each with the frames that have come over it, is still there at the deadline and was
/// heard from until then.
///
/// One that was heard from does not count at once: a process that is dead has left frames behind which were not read
/// yet, and the end of its link comes after them.
fn is_alive(rivals: impl Fn() -> BTreeMap<u64, u64>, mut pause: impl FnMut(), deadline: Instant) -> bool {
    let before = rivals();
    let is_heard =
        |now: &BTreeMap<u64, u64>| now.iter().any(|(id, frames)| before.get(id).is_some_and(|before| frames > before));
    loop {
        let now = rivals();
        // All have ended: the branch was started again, and this is it.
        if now.is_empty() {
            return false;
        }
        if Instant::now() >= deadline {
            return is_heard(&now);
        }
        pause();
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    /// Looks at one link after another state of it: its frames, or nothing once it has ended.
    #[track_caller]
    fn check(states: &[Option<u64>], expected: bool) {
        let left = RefCell::new(states.iter());
        let last = RefCell::new(None);
        let look = || {
            if let Some(next) = left.borrow_mut().next() {
                *last.borrow_mut() = *next;
            }
            last.borrow().map(|frames| (7, frames)).into_iter().collect()
        };
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(is_alive(look, || std::thread::sleep(Duration::from_millis(1)), deadline), expected, "{states:?}");
    }

    #[test]
    fn a_process_is_alive_that_is_heard_from_and_not_one_that_has_left_frames_behind() {
        check(&[None], false);
        check(&[Some(3)], false);
        check(&[Some(3), Some(3), Some(4)], true);
        // What the dead one had sent is read, and then the end.
        check(&[Some(3), Some(4), Some(5), None], false);
    }
}
