//! Every interval and bound of the two machines, in one place.
//!
//! Time is counted in ticks, whose length the driver chooses. The defaults suit a tick of 10 ms. No
//! interval here decides an outcome, except that a coordinator which has **not** decided may abort.

use protocol::TxId;

use crate::transfer::PeerAddr;

/// A moment or a duration on the machines' clock, which the driver advances by `tick`.
pub type Tick = u64;

/// Intervals and bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// How a participant reaches this branch's coordinator to ask.
    pub own_address: PeerAddr,
    /// How long a coordinator waits for votes before it aborts.
    pub vote_timeout_ticks: Tick,
    /// How often a prepare without a vote and a decision without an acknowledgement are sent again.
    pub resend: Backoff,
    /// How often a participant in doubt asks.
    pub inquiry: Backoff,
    /// How often a decision is told again to a participant that has said that it can't follow it.
    pub insist_ticks: Tick,
    /// How long a coordinator remembers a commit after the last acknowledgement, so that a doubled inquiry
    /// which is still under way is answered without the books. Longer than any message can be under way.
    pub commit_retention_ticks: Tick,
    /// How long a participant remembers an outcome, so that repeats are answered without the disk and a
    /// prepare that its abort has overtaken is refused. Longer than any message can be under way.
    pub settled_retention_ticks: Tick,
    /// The most transactions that a coordinator has under way; `begin` refuses more. Each takes about 1 KiB.
    pub coordinated_max: usize,
    /// The most transactions that a participant has prepared; it votes no to more. Each takes about 1 KiB.
    pub prepared_max: usize,
    /// The most settled transactions that a participant remembers; past it the oldest are forgotten before
    /// their time, at the next tick. The disk answers for them: see [`crate::Notice::Forgotten`].
    pub retained_max: usize,
    /// Spreads the resends of many transactions and many branches. Any number; different at each branch.
    pub jitter_seed: u64,
}

impl Options {
    /// The defaults, for a tick of 10 ms.
    #[must_use]
    pub fn new(own_address: PeerAddr) -> Self {
        Self {
            own_address,
            vote_timeout_ticks: 500,
            resend: Backoff { first_ticks: 25, max_ticks: 200 },
            inquiry: Backoff { first_ticks: 50, max_ticks: 200 },
            insist_ticks: 3_000,
            commit_retention_ticks: 1_000,
            settled_retention_ticks: 3_000,
            coordinated_max: 65_536,
            prepared_max: 65_536,
            retained_max: 262_144,
            jitter_seed: 0,
        }
    }

    /// Asserts what the machines rely on.
    pub(crate) fn check(&self) {
        for backoff in [self.resend, self.inquiry] {
            // `tick` does all that is due; with an interval of nothing it would never come to an end.
            assert!(backoff.first_ticks >= 1, "a message must not be sent again in the same tick");
            assert!(backoff.first_ticks <= backoff.max_ticks, "a back-off grows");
        }
        assert!(self.coordinated_max > 0 && self.prepared_max > 0, "a bound of nothing allows nothing");
    }
}

/// An interval that doubles from the first to the longest, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// The first interval.
    pub first_ticks: Tick,
    /// The longest interval.
    pub max_ticks: Tick,
}

impl Backoff {
    /// The interval after `attempt` sendings: between half and the whole of the doubled one, at least 1.
    ///
    /// Half of it varies from one transaction and moment to the next, so that what failed together is not
    /// sent again together.
    pub(crate) fn delay_ticks(self, attempt: u32, jitter_seed: u64, txid: &TxId, now: Tick) -> Tick {
        let whole = self.whole_ticks(attempt);
        let spread = whole / 2;
        // A function of transaction and moment instead of chance: the same run can be repeated, in a test and in a
        // simulation.
        let chance = txid.as_str().bytes().fold(mix(jitter_seed ^ now), |hash, byte| mix(hash ^ u64::from(byte)));
        whole - chance % (spread + 1)
    }

    /// The attempt that follows. It stops growing when the interval does, so a long wait does not change
    /// a machine's state.
    pub(crate) fn next(self, attempt: u32) -> u32 {
        if self.whole_ticks(attempt) < self.max_ticks { attempt + 1 } else { attempt }
    }

    fn whole_ticks(self, attempt: u32) -> Tick {
        let factor = 1_u64.checked_shl(attempt).unwrap_or(u64::MAX);
        self.first_ticks.saturating_mul(factor).min(self.max_ticks)
    }
}

/// One round of SplitMix64 (Steele, Lea and Flood 2014): a fixed function, so a machine stays reproducible.
fn mix(value: u64) -> u64 {
    let mut hash = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_back_off_doubles_up_to_its_longest_and_varies_by_half() {
        let backoff = Backoff { first_ticks: 10, max_ticks: 100 };
        let txid: TxId = "T1".parse().unwrap();
        for (attempt, whole) in [(0, 10), (1, 20), (2, 40), (3, 80), (4, 100), (40, 100), (99, 100)] {
            let delays: Vec<Tick> = (0..200).map(|now| backoff.delay_ticks(attempt, 7, &txid, now)).collect();
            assert!(delays.iter().all(|delay| (whole / 2..=whole).contains(delay)), "attempt {attempt}");
            assert!(delays.iter().min() < delays.iter().max(), "attempt {attempt} has no jitter");
        }
        assert_eq!((backoff.next(3), backoff.next(4)), (4, 4));
    }

    #[test]
    fn an_interval_of_one_tick_stays_one_tick() {
        let backoff = Backoff { first_ticks: 1, max_ticks: 1 };
        let txid: TxId = "T1".parse().unwrap();
        assert!((0..100).all(|now| backoff.delay_ticks(0, 1, &txid, now) == 1));
    }
}
