//! The network between the processes: it delays, loses and doubles.

use std::collections::BTreeMap;

use bank_server::peers::links::StampedMessage;
use two_phase_commit::Message;

use super::config::Weather;
use crate::rng::Rng;

/// A message under way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The copy that it comes from.
    pub from: usize,
    /// The copy that it is for; the branch, as long as no link is found and when it comes back.
    pub to: usize,
    /// What.
    pub stamped: StampedMessage,
    /// Whether it comes back to its sender as one that can't be delivered.
    pub is_returned: bool,
}

/// All messages under way.
#[derive(Debug, Default)]
pub struct Network {
    packets: BTreeMap<(u64, u64), Packet>,
    sent: u64,
}

impl Network {
    /// Takes a message.
    pub fn send(&mut self, now_ms: u64, packet: Packet, weather: &Weather, rng: &mut Rng) {
        if rng.chance(weather.loss_per_mille) {
            return;
        }
        if rng.chance(weather.double_per_mille) {
            self.enqueue(now_ms, packet.clone(), weather, rng);
        }
        self.enqueue(now_ms, packet, weather, rng);
    }

    /// Tells the sender that its message can't be delivered.
    pub fn give_back(&mut self, now_ms: u64, packet: Packet, rng: &mut Rng) {
        let at_ms = now_ms + 1 + rng.below(50);
        self.sent += 1;
        self.packets.insert((at_ms, self.sent), Packet { is_returned: true, ..packet });
    }

    fn enqueue(&mut self, now_ms: u64, packet: Packet, weather: &Weather, rng: &mut Rng) {
        let delay_ms = 1 + rng.below(weather.delay_max_ms);
        let late_ms = if rng.chance(weather.late_per_mille) { rng.below(20 * weather.delay_max_ms) } else { 0 };
        self.sent += 1;
        self.packets.insert((now_ms + delay_ms + late_ms, self.sent), packet);
    }

    /// The next message that has come.
    pub fn receive(&mut self, now_ms: u64) -> Option<Packet> {
        let first = self.packets.first_entry()?;
        if first.key().0 > now_ms { None } else { Some(first.remove()) }
    }

    /// Whether nothing is under way but questions: what a person has settled asks for ever, if nobody can answer.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.packets.values().all(|packet| matches!(packet.stamped.message, Message::Inquiry { .. }))
    }
}
