//! Discovery: branches that know one another's names find one another, and learn of further ones by asking.
//!
//! One thread goes round. It greets every branch that is known and not linked, so that one which was down or
//! has moved is met again; and it asks those that are linked whom they know: each new link at once, the others in turn.
//! A chain in which each knows only the next becomes a bank in which each knows all, and a branch that has moved
//! is found under its name as soon as anyone has met it at its new place.
//!
//! What others say is hearsay: an address that was heard of is dialled, and enters the directory only when the branch
//! there has proved the bank's key and said its name. What is heard of a branch that is linked is ignored, so nobody
//! can be talked out of an address that works.

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use protocol::answer::Branch;
use protocol::{Address, BranchName, NamedAddress};
use two_phase_commit::PeerAddr;

use crate::limits::{BRANCHES, DISCOVERY_INTERVAL, DISCOVERY_QUEUE};
use crate::peers::links::Links;

/// Starts the thread; it ends when the links are stopped.
pub fn start(links: &Arc<Links>) {
    let (new_link, linked) = bounded(DISCOVERY_QUEUE);
    links.tell(new_link);
    let (finder, host) = (Finder { links: Arc::clone(links), asked: None }, Arc::clone(links));
    if let Err(error) = host.spawn("discovery", move || finder.run(&linked)) {
        log::warn!("other branches are found by name or address alone: {error}");
    }
}

struct Finder {
    links: Arc<Links>,
    /// Who was asked last, of those that are asked in turn.
    asked: Option<BranchName>,
}

impl Finder {
    fn run(mut self, linked: &Receiver<BranchName>) {
        self.greet_all();
        loop {
            match linked.recv_timeout(DISCOVERY_INTERVAL) {
                // A new link: it may know branches that nobody here has heard of.
                Ok(name) => self.ask(&name),
                // Nothing new for a while. Whoever is not linked is tried again, and one of the others is asked, each
                // in its turn.
                Err(RecvTimeoutError::Timeout) => {
                    self.greet_all();
                    if let Some(name) = self.next_in_turn() {
                        self.ask(&name);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn is_up(&self, name: &BranchName) -> bool {
        self.links.is_up(&PeerAddr::from(name)) == Some(true)
    }

    fn greet_all(&self) {
        for (name, _) in self.links.directory().all() {
            if !self.is_up(&name) {
                self.links.greet(&PeerAddr::from(&name));
            }
        }
    }

    fn next_in_turn(&mut self) -> Option<BranchName> {
        let up: Vec<_> = self.links.directory().all().into_iter().map(|(name, _)| name).collect();
        let up: Vec<_> = up.into_iter().filter(|name| self.is_up(name)).collect();
        let after = |asked: &BranchName| up.iter().find(|name| *name > asked);
        let next = self.asked.as_ref().and_then(after).or(up.first()).cloned();
        self.asked.clone_from(&next);
        next
    }

    /// Asks a branch whom it knows, and meets those who are new here or not where they were.
    fn ask(&self, name: &BranchName) {
        let told = match self.links.ask_branches(name) {
            Ok(told) => told,
            Err(error) => return log::debug!("branch {name} does not tell whom it knows: {error}"),
        };
        let Some(teller) = self.links.directory().address_of(name) else { return };
        for heard in told.iter().take(BRANCHES).filter_map(|branch| heard_of(branch, &teller)) {
            // Another process under this branch's name: a copy that was promoted, most likely.
            if heard.name == *self.links.own_name() {
                self.links.meet_namesake(&heard.address);
            } else if !self.is_up(&heard.name) {
                self.meet(&heard, name);
            }
        }
    }

    fn meet(&self, heard: &NamedAddress, from: &BranchName) {
        match self.links.name_at(&heard.address) {
            Ok(found) if found == heard.name => {
                log::info!("branch {found} at {} is known through {from}", heard.address)
            }
            // The teller's word was old. The branch that is there is known now, under its own name.
            Ok(found) => log::info!("{from} says that {} is at {}, but {found} is there", heard.name, heard.address),
            Err(error) => log::debug!("{from} says that {} is at {}: {error}", heard.name, heard.address),
        }
    }
}

/// What a row of another branch's list says: only of branches to which it is linked, which have proved the key to it.
fn heard_of(branch: &Branch, teller: &Address) -> Option<NamedAddress> {
    if branch.state != "up" {
        return None;
    }
    let address: Address = branch.address.parse().ok()?;
    Some(NamedAddress { name: branch.name.parse().ok()?, address: address.told_by(teller) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_linked_branches_are_believed_to_be_somewhere() {
        let check = |name: &str, address: &str, state: &str, teller: &str, expected: Option<&str>| {
            let branch = Branch { name: name.into(), address: address.into(), state: state.into() };
            let heard = heard_of(&branch, &teller.parse().unwrap());
            assert_eq!(heard.map(|heard| heard.address.to_string()).as_deref(), expected, "{branch:?}");
        };
        check("Delhi", "10.0.0.6:9100", "up", "10.0.0.5:9100", Some("10.0.0.6:9100"));
        check("Delhi", "127.0.0.1:9101", "up", "10.0.0.5:9100", Some("10.0.0.5:9101"));
        check("Delhi", "127.0.0.1:9101", "up", "127.0.0.1:9100", Some("127.0.0.1:9101"));
        for state in ["down", "unknown", "here"] {
            check("Delhi", "10.0.0.6:9100", state, "10.0.0.5:9100", None);
        }
        check("no name", "10.0.0.6:9100", "up", "10.0.0.5:9100", None);
        check("Delhi", "nowhere", "up", "10.0.0.5:9100", None);
    }
}
