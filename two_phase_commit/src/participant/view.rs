//! What others may see of a participant: what is in doubt, what it remembers, what is due.

use std::sync::Arc;

use protocol::TxId;

use super::{Entry, Participant, ParticipantState};
use crate::options::Tick;
use crate::timers::Timers;
use crate::transfer::{PeerAddr, Transfer};

/// A transaction in doubt, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubt<'a> {
    /// What it moves here and who coordinates it.
    pub transfer: &'a Arc<Transfer>,
    /// The tick at which it was prepared, or read from the log after a restart.
    pub since: Tick,
    /// Whether the last inquiry has gone unanswered so far.
    pub is_unanswered: bool,
}

impl Participant {
    /// Where a transaction stands.
    #[must_use]
    pub fn state(&self, txid: &TxId) -> ParticipantState {
        self.entries.get(txid).map_or(ParticipantState::Unknown, |entry| entry.state)
    }

    /// Whether the transaction is in memory, so that [`Participant::step`] needs nothing from the disk.
    #[must_use]
    pub fn remembers(&self, txid: &TxId) -> bool {
        self.entries.contains_key(txid)
    }

    /// Who coordinates a transaction that is in memory.
    #[must_use]
    pub fn coordinator_of(&self, txid: &TxId) -> Option<&PeerAddr> {
        self.entries.get(txid).and_then(Entry::coordinator)
    }

    /// Whether the log has not been read yet.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.recovering
    }

    /// The transactions in doubt, by id. One whose outcome has come stays in doubt until that is durable: before
    /// that, neither the log nor the ledger shows it.
    pub fn in_doubt(&self) -> impl Iterator<Item = InDoubt<'_>> {
        let is_in_doubt = |entry: &&Entry| match entry.state {
            // The vote is out, and what the disk shows is the doubt.
            ParticipantState::Prepared | ParticipantState::Settling(_) => true,
            // No vote is out yet, or the outcome is durable; what is compared with a person's word is settled already.
            ParticipantState::Unknown
            | ParticipantState::Preparing
            | ParticipantState::Settled(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_)
            | ParticipantState::Mixed(_) => false,
        };
        self.entries.values().filter(is_in_doubt).filter_map(|entry| {
            let (since, is_unanswered) = (entry.since, entry.is_unanswered);
            entry.held.as_ref().map(|transfer| InDoubt { transfer, since, is_unanswered })
        })
    }

    /// The transactions in memory and where each stands, by id.
    pub fn transactions(&self) -> impl Iterator<Item = (&TxId, ParticipantState)> {
        self.entries.iter().map(|(txid, entry)| (txid, entry.state))
    }

    /// When `tick` has something to do next; `None` while nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.inquiries.first().into_iter().chain(self.retained.first()).min()
    }

    /// Asserts every invariant of every transaction. Each transition has asserted those of its own.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check_invariants(&self) {
        let (mut inquiries, mut retained) = (Timers::default(), Timers::default());
        for (txid, entry) in &self.entries {
            assert_eq!(txid, &entry.txid, "a transaction is filed under its id");
            entry.check_invariants();
            if entry.is_retained() { &mut retained } else { &mut inquiries }.insert(txid, entry.due);
        }
        assert_eq!((&inquiries, &retained), (&self.inquiries, &self.retained), "the timers are those of the entries");
    }
}
