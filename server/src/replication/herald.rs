//! A primary tells the other copies that it is the primary, and a promoted one tells all branches.
//!
//! Those copies that were named, those that have followed, and the one whose place it took are told every two seconds
//! for as long as they don't follow. One of a lower epoch is fenced by that; one of a higher epoch fences this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Address;
use protocol::request::Follow;
use two_phase_commit::PeerAddr;

use super::admit::members;
use super::roles::{is_here, tell_of_primary};
use super::{Replication, ShipState};
use crate::limits::HERALD_INTERVAL;
use crate::transfer::Engine;

impl Replication {
    /// Tells, until this copy is no primary any more.
    pub(super) fn herald(self: &Arc<Self>, engine: &Arc<Engine>) {
        let mut said: BTreeMap<String, String> = BTreeMap::new();
        while !self.is_stopping() && !self.parts.dbs.is_closed() {
            let standing = self.parts.dbs.standing();
            if standing.epoch > 1 {
                greet_all(engine);
            }
            if standing.is_logging {
                let params =
                    Follow { branch: self.parts.dialler.branch.clone(), port: self.parts.port, epoch: standing.epoch };
                let others = members(self).into_iter().chain(standing.promoted_from);
                for other in others.filter(|other| !self.is_following(other)) {
                    self.tell(&other, &params, &mut said);
                    if self.is_stopping() {
                        return;
                    }
                }
            }
            let mut following = self.following.lock();
            if !self.is_stopping() {
                self.woken.wait_for(&mut following, HERALD_INTERVAL);
            }
        }
    }

    fn is_following(&self, address: &str) -> bool {
        self.ships.lock().get(address).is_some_and(|ship| ship.state != ShipState::Away)
    }

    fn tell(&self, other: &str, params: &Follow, said: &mut BTreeMap<String, String>) {
        let Some(address) = other.parse::<Address>().ok().filter(|address| !is_here(address, self.parts.port)) else {
            return;
        };
        let outcome = match tell_of_primary(&address, &self.parts.dialler, params) {
            Ok(following) if following.epoch > params.epoch => {
                self.fence(following.epoch);
                return;
            }
            Ok(following) if following.role == "primary" => {
                format!("the copy at {other} says that it is a primary of the same epoch; start it with --replica-of")
            }
            Ok(following) => format!("the copy at {other} is {}", following.role),
            Err(error) => format!("the copy at {other} does not answer: {error}"),
        };
        if said.get(other) != Some(&outcome) {
            log::info!("{outcome}");
            said.insert(other.to_string(), outcome);
        }
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
