//! A primary tells the other copies that it is the primary, and a promoted one tells all branches.
//!
//! Those copies that were named, those that have followed, and the one whose place it took are told every two seconds
//! for as long as they don't follow. One of a lower epoch is fenced by that; one of a higher epoch fences this one; and of
//! two of one number, neither goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::request::Follow;
use protocol::{Address, Epoch};
use two_phase_commit::PeerAddr;

use crate::dbs_exec::CopyState;
use crate::limits::{ANNOUNCE_INTERVAL, COPIES_ASKED_FOR_PROMOTION};
use crate::peers::links::is_here;
use crate::replication::ask::{heard_by, tell_copies};
use crate::replication::handshake::members;
use crate::replication::{Replication, StreamState};
use crate::transfer::Engine;

impl Replication {
    /// Tells, until this copy is no primary any more.
    pub(super) fn announce(self: &Arc<Self>, engine: &Arc<Engine>) {
        let mut said: BTreeMap<Address, String> = BTreeMap::new();
        while !self.is_stopping() && !self.parts.dbs.is_closed() {
            let copy_state = self.parts.dbs.copy_state();
            if copy_state.epoch.number > 1 {
                greet_all(engine);
            }
            if copy_state.is_logging {
                self.tell_others(&copy_state, &mut said);
            }
            let mut receiver = self.receiver.lock();
            if !self.is_stopping() {
                self.woken.wait_for(&mut receiver, ANNOUNCE_INTERVAL);
            }
        }
    }

    /// Tells the other copies once: one round of a primary's announcing.
    pub fn tell_once(self: &Arc<Self>) {
        let copy_state = self.parts.dbs.copy_state();
        if copy_state.is_logging {
            self.tell_others(&copy_state, &mut BTreeMap::new());
        }
    }

    /// Tells the copies that don't follow, all at the same time: one that hangs doesn't keep it from the others.
    fn tell_others(self: &Arc<Self>, copy_state: &CopyState, said: &mut BTreeMap<Address, String>) {
        let others = members(self).into_iter().chain(copy_state.promoted_from.clone());
        let mut others: Vec<Address> =
            others.filter(|other| !self.is_following(other)).filter_map(|other| other.parse().ok()).collect();
        others.retain(|other| !is_here(other, self.parts.port));
        others.sort();
        others.dedup();
        let Epoch { number: epoch, id: epoch_id } = copy_state.epoch.clone();
        let params = Follow { branch: self.parts.dialler.branch.clone(), port: self.parts.port, epoch, epoch_id };
        for (other, told) in tell_copies(&self.parts.dialler, &others, &params, COPIES_ASKED_FOR_PROMOTION) {
            let outcome = match told {
                Ok(following) if self.hear(&heard_by(&following)).is_some() => return,
                Ok(following) if following.role == "primary" => format!(
                    "the copy at {other} says that it is a primary of the same epoch; start it with --replica-of"
                ),
                Ok(following) => format!("the copy at {other} is {}", following.role),
                Err(error) => format!("the copy at {other} does not answer: {error}"),
            };
            if said.get(&other) != Some(&outcome) {
                log::info!("{outcome}");
                said.insert(other, outcome);
            }
        }
    }

    fn is_following(&self, address: &str) -> bool {
        self.streams.lock().get(address).is_some_and(|stream| stream.state != StreamState::Away)
    }
}

/// Links to every known branch, so that it learns where this branch is now.
fn greet_all(engine: &Engine) {
    for (name, _) in engine.links().directory().all() {
        let peer = PeerAddr::from(&name);
        if engine.links().is_up(&peer) != Some(true) {
            engine.links().greet(&peer);
        }
    }
}
