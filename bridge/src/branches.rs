//! The branches that the bridge talks to: those that it was told of, and those that these know. Nobody else.
//!
//! A request names a branch, or gives host and port as older programs do; both are looked up here, and what is not
//! found is refused before any connection is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use branch_client::Credentials;
use parking_lot::RwLock;
use protocol::{Address, BranchName};

use crate::branch::Branch;
use crate::error::Error;
use crate::limits::BRANCHES;

/// The allow-list.
pub struct Branches {
    credentials: Arc<Credentials>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// In the order in which they became known.
    list: Vec<Arc<Branch>>,
    /// Every address at which a branch was, written in the one way of [`canonical`].
    by_address: BTreeMap<Address, BranchName>,
    /// Those that were named on the command line.
    told: BTreeSet<BranchName>,
}

impl Branches {
    /// No branch yet.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials: Arc::new(credentials), known: RwLock::new(Known::default()) }
    }

    /// How they are met.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Takes a branch that was named on the command line. Returns it when it is new.
    pub fn tell(&self, name: &BranchName, address: &Address) -> Option<Arc<Branch>> {
        self.known.write().told.insert(name.clone());
        self.learn(name, address)
    }

    /// Takes a branch that a known one knows, or its new address. Returns it when it is new.
    ///
    /// One that was named on the command line is looked for elsewhere only while it is not found where it was said
    /// to be, or while there is only a copy that was replaced.
    pub fn learn(&self, name: &BranchName, address: &Address) -> Option<Arc<Branch>> {
        let address = canonical(&address.host, address.port);
        let mut known = self.known.write();
        if let Some(branch) = known.find(name) {
            let is_told = known.told.contains(name);
            let state = branch.state.snapshot();
            let is_missing = state.was_asked && (!state.is_up || state.is_fenced());
            if branch.address() != address && (!is_told || is_missing) {
                known.by_address.insert(address.clone(), name.clone());
                branch.moved_to(address);
            }
            return None;
        }
        if known.list.len() >= BRANCHES {
            log::warn!("branch {name} at {address} is left out: {BRANCHES} branches are known");
            return None;
        }
        log::info!("branch {name} at {address}");
        let branch = Arc::new(Branch::new(name.clone(), address.clone(), Arc::clone(&self.credentials)));
        known.by_address.insert(address.clone(), name.clone());
        known.list.push(Arc::clone(&branch));
        Some(branch)
    }

    /// Whether a branch of that name is known.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        self.known.read().list.iter().any(|branch| branch.name().as_str() == name)
    }

    /// All of them, in the order in which they became known.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Branch>> {
        self.known.read().list.clone()
    }

    /// The branch of that name.
    ///
    /// # Errors
    /// [`Error::BranchNotAllowed`].
    pub fn by_name(&self, name: &str) -> Result<Arc<Branch>, Error> {
        let known = self.known.read();
        let found = known.list.iter().find(|branch| branch.name().as_str() == name);
        found.cloned().ok_or_else(|| Error::BranchNotAllowed(shown(name)))
    }

    /// The branch at that address. A host that none of ours can have is not allowed, whatever it looks like.
    ///
    /// # Errors
    /// [`Error::BranchNotAllowed`].
    pub fn by_address(&self, host: &str, port: u16) -> Result<Arc<Branch>, Error> {
        let known = self.known.read();
        let address = canonical(host, port);
        let found = known.by_address.get(&address).and_then(|name| known.find(name));
        found.ok_or_else(|| Error::BranchNotAllowed(shown(&address.to_string())))
    }

    /// The branch at that port of this machine.
    ///
    /// # Errors
    /// [`Error::BranchNotAllowed`].
    pub fn here(&self, port: u16) -> Result<Arc<Branch>, Error> {
        self.by_address(&Ipv4Addr::LOCALHOST.to_string(), port)
            .or_else(|error| self.by_address(&Ipv6Addr::LOCALHOST.to_string(), port).map_err(|_| error))
    }

    /// The branch of those who name none: the first.
    ///
    /// # Errors
    /// [`Error::Conflict`] when no branch is known yet.
    pub fn first(&self) -> Result<Arc<Branch>, Error> {
        self.known.read().list.first().cloned().ok_or_else(|| Error::Conflict {
            code: "no_branch",
            text: "no branch is known yet: start one, or name one with bank-bridge --branch".into(),
        })
    }
}

/// An address as it stands in the list, which people may write in several ways: in small letters, without brackets,
/// and `localhost` as 127.0.0.1.
fn canonical(host: &str, port: u16) -> Address {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Address { host: if host == "localhost" { "127.0.0.1".into() } else { host }, port }
}

impl Known {
    fn find(&self, name: &BranchName) -> Option<Arc<Branch>> {
        self.list.iter().find(|branch| branch.name() == name).cloned()
    }
}

/// What a client sent, short enough to be shown in an answer.
#[must_use]
pub fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BranchName {
        text.parse().unwrap()
    }

    fn at(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_was_told_or_learned_is_found() {
        let branches = Branches::new(Credentials::default());
        assert!(branches.first().is_err());
        let mumbai = at("127.0.0.1:9100");
        assert!(branches.tell(&name("Mumbai"), &mumbai).is_some());
        assert!(branches.learn(&name("Delhi"), &at("10.0.0.2:9101")).is_some());
        assert!(branches.learn(&name("Delhi"), &at("10.0.0.2:9101")).is_none(), "known already");
        assert_eq!(branches.by_name("Delhi").unwrap().name().as_str(), "Delhi");
        for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
            assert_eq!(branches.by_address(host, 9100).unwrap().name().as_str(), "Mumbai", "{host}");
        }
        for (host, port) in [("127.0.0.1", 9101), ("10.0.0.2", 9100), ("no host at all", 9100), ("", 0)] {
            assert_eq!(branches.by_address(host, port).err().unwrap().code(), "branch_not_allowed", "{host}");
        }
        assert_eq!(branches.by_name("Pune").err().unwrap().code(), "branch_not_allowed");
        assert_eq!(branches.first().unwrap().name().as_str(), "Mumbai");
    }

    #[test]
    fn a_learned_branch_moves_and_a_told_one_only_when_it_is_not_there() {
        let branches = Branches::new(Credentials::default());
        let (one, other) = (at("127.0.0.1:1"), at("127.0.0.1:2"));
        let learned = branches.learn(&name("Delhi"), &one).unwrap();
        branches.learn(&name("Delhi"), &other);
        assert_eq!(learned.address(), other);
        let told = branches.tell(&name("Mumbai"), &one).unwrap();
        branches.learn(&name("Mumbai"), &other);
        assert_eq!(told.address(), one, "not looked for yet");
        told.state.silent();
        branches.learn(&name("Mumbai"), &other);
        assert_eq!(told.address(), other);
        // A copy that was replaced answers, and is not the branch.
        told.state.answered(serde_json::json!({"role": "primary"}));
        branches.learn(&name("Mumbai"), &one);
        assert_eq!(told.address(), other);
        told.state.answered(serde_json::json!({"role": "fenced"}));
        branches.learn(&name("Mumbai"), &one);
        assert_eq!(told.address(), one);
    }

    #[test]
    fn one_place_may_be_written_in_several_ways() {
        let branches = Branches::new(Credentials::default());
        branches.learn(&name("Mumbai"), &at("LocalHost:9100"));
        branches.learn(&name("Delhi"), &at("Bank.Example:9101"));
        branches.learn(&name("Pune"), &at("[::1]:9102"));
        for (host, port, expected) in [
            ("127.0.0.1", 9100, "Mumbai"),
            ("bank.example", 9101, "Delhi"),
            ("::1", 9102, "Pune"),
            ("[::1]", 9102, "Pune"),
        ] {
            assert_eq!(branches.by_address(host, port).unwrap().name().as_str(), expected, "{host}");
        }
        assert_eq!(branches.here(9100).unwrap().name().as_str(), "Mumbai");
        assert_eq!(branches.here(9102).unwrap().name().as_str(), "Pune");
        assert!(branches.here(9101).is_err(), "it is on another machine");
    }

    #[test]
    fn there_is_a_most() {
        let branches = Branches::new(Credentials::default());
        for number in 0..BRANCHES {
            assert!(branches.learn(&name(&format!("B{number}")), &at("127.0.0.1:1")).is_some());
        }
        assert!(branches.learn(&name("OneMore"), &at("127.0.0.1:1")).is_none());
        assert_eq!(branches.all().len(), BRANCHES);
    }
}
