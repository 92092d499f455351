//! What others may see of a coordinator: the answers of rule 5, what is under way, what is due.

use std::sync::Arc;

use protocol::TxId;

use super::{Coordinator, CoordinatorState, Status, Transaction};
use crate::options::Tick;
use crate::record::Outcome;
use crate::refusal::Refusal;
use crate::timers::Timers;
use crate::transfer::{PeerAddr, Transfer};

impl Coordinator {
    /// Where a transaction stands.
    #[must_use]
    pub fn state(&self, txid: &TxId) -> CoordinatorState {
        self.transactions.get(txid).map_or(CoordinatorState::Unknown, |transaction| transaction.state)
    }

    /// What this coordinator knows of a transaction (rule 5). Of one that is not in memory the books may know more.
    #[must_use]
    pub fn status(&self, txid: &TxId) -> Status {
        if self.recovering {
            return Status::Recovering;
        }
        match self.state(txid) {
            // Presumed abort, unless the books know better: what was committed and forgotten stands there.
            CoordinatorState::Unknown => Status::Decided(Outcome::Aborted),
            // `Committing` is no commit before that is durable: a crash would still abort it. `Aborting` is told once
            // the money that it held is free again.
            CoordinatorState::Beginning
            | CoordinatorState::Voting
            | CoordinatorState::Committing
            | CoordinatorState::Aborting => Status::Undecided,
            // Durable, and so true for ever.
            CoordinatorState::Delivering | CoordinatorState::Ending | CoordinatorState::Ended => {
                Status::Decided(Outcome::Committed)
            }
            // It was undecided at the crash, and its abort is on the disk.
            CoordinatorState::Retracting => Status::Decided(Outcome::Aborted),
            CoordinatorState::Noting(outcome) | CoordinatorState::Resolving(outcome) => Status::Decided(outcome),
        }
    }

    /// Whether the transaction is in memory, so that [`Coordinator::step`] needs nothing from the disk.
    #[must_use]
    pub fn remembers(&self, txid: &TxId) -> bool {
        self.transactions.contains_key(txid)
    }

    /// The participants that have said that they can't follow what was decided, and why (rule 14), as soon as that is
    /// durable.
    pub fn contradicted_by(&self, txid: &TxId) -> impl Iterator<Item = (&PeerAddr, &Refusal)> {
        // While it is on its way to the disk it is not shown: after a crash nobody could find again what they had seen.
        let shown = self.transactions.get(txid).filter(|shown| !matches!(shown.state, CoordinatorState::Noting(_)));
        shown.into_iter().flat_map(Transaction::contradicted)
    }

    /// Whether the log has not been read yet.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.recovering
    }

    /// What a transaction moves, while it is in memory.
    #[must_use]
    pub fn transfer(&self, txid: &TxId) -> Option<&Arc<Transfer>> {
        self.transactions.get(txid).map(|transaction| &transaction.transfer)
    }

    /// The transactions in memory and where each stands, by id.
    pub fn transactions(&self) -> impl Iterator<Item = (&TxId, CoordinatorState)> {
        self.transactions.iter().map(|(txid, transaction)| (txid, transaction.state))
    }

    /// The participants that have not acknowledged a committed transaction yet.
    pub fn undelivered_to(&self, txid: &TxId) -> impl Iterator<Item = &PeerAddr> {
        // An abort is waited for by nobody: its participants need not acknowledge it.
        let committed = self.transactions.get(txid).filter(|transaction| transaction.state.is_committed());
        committed
            .into_iter()
            .flat_map(|transaction| &transaction.parties)
            .filter_map(|(peer, party)| party.acknowledged.is_none().then_some(peer))
    }

    /// When `tick` has something to do next; `None` while nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.timers.first()
    }

    /// Asserts every invariant of every transaction. Each transition has asserted those of its own.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check_invariants(&self) {
        let mut timers = Timers::default();
        for (txid, transaction) in &self.transactions {
            assert_eq!(txid, &transaction.transfer.txid, "a transaction is filed under its id");
            transaction.check_invariants();
            timers.insert(txid, transaction.due);
        }
        assert_eq!(timers, self.timers, "the timers are those of the transactions");
        let ended = self.transactions.values().filter(|transaction| transaction.state == CoordinatorState::Ended);
        assert_eq!(ended.count(), self.ended, "the count of ended transactions is right");
    }
}
