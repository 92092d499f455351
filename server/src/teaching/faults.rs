//! Which links are cut or slow, at most one fault to a link. What a cut does is the links' own work.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::BranchName;
use protocol::teaching::{Fault, LinkFault};

/// The faults, by the branch at the other end. A healed link has no entry.
#[derive(Debug, Default)]
pub struct Faults {
    by_peer: BTreeMap<BranchName, FaultKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    Cut,
    Slow(Duration),
}

impl Faults {
    /// Replaces whatever fault the link has. A slow one without a delay is as good as healed.
    pub fn set(&mut self, peer: &BranchName, fault: LinkFault, delay: Option<Duration>) {
        let kind = match fault {
            LinkFault::Cut => Some(FaultKind::Cut),
            LinkFault::Slow => delay.map(FaultKind::Slow),
            LinkFault::Heal => None,
        };
        match kind {
            Some(kind) => self.by_peer.insert(peer.clone(), kind),
            None => self.by_peer.remove(peer),
        };
    }

    /// How long a message from that branch takes, if its link is slow.
    #[must_use]
    pub fn delay_of(&self, peer: &str) -> Option<Duration> {
        let kind = self.by_peer.iter().find(|(name, _)| name.as_str() == peer).map(|(_, kind)| *kind);
        match kind? {
            FaultKind::Slow(delay) => Some(delay),
            FaultKind::Cut => None,
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Fault> {
        let tell = |(peer, kind): (&BranchName, &FaultKind)| {
            let (fault, delay_ms) = match kind {
                FaultKind::Cut => (LinkFault::Cut, None),
                FaultKind::Slow(delay) => (LinkFault::Slow, u64::try_from(delay.as_millis()).ok()),
            };
            Fault { peer: peer.clone(), fault, delay_ms, lease: None }
        };
        self.by_peer.iter().map(tell).collect()
    }
}
