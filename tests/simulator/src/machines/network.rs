//! The network: it delays, loses, doubles, reorders and cuts, as the seed says.
//!
//! Nothing is under way longer than `delay_max_ticks`, which the retention times of the machines rely on.

use std::collections::{BTreeMap, BTreeSet};

use two_phase_commit::{Message, PeerAddr, Tick};

use crate::rng::Rng;

/// A message under way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Who sent it.
    pub from: PeerAddr,
    /// Who gets it.
    pub to: PeerAddr,
    /// What it says.
    pub message: Message,
}

/// How bad the network is.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Messages lost, of a thousand.
    pub loss_per_mille: u64,
    /// Messages doubled, of a thousand.
    pub double_per_mille: u64,
    /// Messages that take up to the longest time, of a thousand; the others take up to an eighth of it.
    pub late_per_mille: u64,
    /// The longest time that a message is under way.
    pub delay_max_ticks: Tick,
}

/// What is under way and what is cut.
#[derive(Clone, Debug, Default)]
pub struct Network {
    under_way: BTreeMap<(Tick, u64), Packet>,
    sent: u64,
    /// Cut links, as ordered pairs: a cut may be one-way.
    cuts: BTreeSet<(PeerAddr, PeerAddr)>,
}

impl Network {
    /// Sends a message into the weather.
    pub fn send(&mut self, now: Tick, packet: &Packet, weather: &Weather, rng: &mut Rng) {
        let copies = 1 + u64::from(rng.chance(weather.double_per_mille));
        for _ in 0..copies {
            if rng.chance(weather.loss_per_mille) || self.is_cut(packet) {
                continue;
            }
            let longest = if rng.chance(weather.late_per_mille) {
                weather.delay_max_ticks
            } else {
                weather.delay_max_ticks / 8 + 1
            };
            self.sent += 1;
            self.under_way.insert((now + rng.between(1, longest), self.sent), packet.clone());
        }
    }

    /// The next message that has arrived; one whose link was cut meanwhile is lost.
    pub fn receive(&mut self, now: Tick) -> Option<Packet> {
        loop {
            let entry = self.under_way.first_entry().filter(|entry| entry.key().0 <= now)?;
            let packet = entry.remove();
            if !self.is_cut(&packet) {
                return Some(packet);
            }
        }
    }

    /// Cuts the way from one party to another.
    pub fn cut(&mut self, from: &PeerAddr, to: &PeerAddr) {
        self.cuts.insert((from.clone(), to.clone()));
    }

    /// Whether the way from one party to another is cut, as a sender may notice.
    #[must_use]
    pub fn is_cut_between(&self, from: &PeerAddr, to: &PeerAddr) -> bool {
        !self.cuts.is_empty() && self.cuts.contains(&(from.clone(), to.clone()))
    }

    /// Mends every link.
    pub fn mend(&mut self) {
        self.cuts.clear();
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.under_way.is_empty()
    }

    fn is_cut(&self, packet: &Packet) -> bool {
        self.is_cut_between(&packet.from, &packet.to)
    }
}
