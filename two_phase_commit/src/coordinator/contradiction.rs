//! When a participant can't follow what was decided (rule 14), and how a person ends that (rule 9).
//!
//! One of the two has lost what it wrote: it was restored from a backup, or a copy was promoted that lagged behind. The
//! decision stays what it is. It is told again only now and then, and waits for a copy that knows, or for a person.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::TxId;

use super::transaction::{Party, Transaction};
use super::{Coordinator, CoordinatorState};
use crate::error::ResolveError;
use crate::output::{AbortReason, Notice, Output};
use crate::record::{Outcome, Record};
use crate::refusal::Refusal;
use crate::transfer::PeerAddr;

impl Coordinator {
    /// Settles by an operator's order (rule 9) what this coordinator can't finish. One that is not decided is given
    /// up. One that is decided stays so, and nothing is delivered any more: the part of a participant that has said
    /// that it can't follow goes to the suspense account, whatever `outcome` says of what the person will do with it;
    /// the part of one that is only silent is taken as done, and so can't be given up.
    ///
    /// # Errors
    /// Nothing has been done: there is nothing to settle, or it can't be settled in this way.
    pub fn resolve_by_hand(&mut self, txid: &TxId, outcome: Outcome, reason: &str) -> Result<Output, ResolveError> {
        if self.recovering {
            return Err(ResolveError::Recovering);
        }
        let Some(transaction) = self.transactions.get(txid) else { return Err(ResolveError::Unknown) };
        match transaction.state {
            // A write is under way, and may be just the outcome.
            CoordinatorState::Beginning
            | CoordinatorState::Committing
            | CoordinatorState::Aborting
            | CoordinatorState::Ending
            | CoordinatorState::Noting(_)
            | CoordinatorState::Resolving(_) => return Err(ResolveError::UnderWay),
            CoordinatorState::Unknown => return Err(ResolveError::Unknown),
            CoordinatorState::Ended => return Err(ResolveError::Settled(Outcome::Committed)),
            // A commit without a vote would be a withdrawal here that nobody elsewhere can pay out.
            CoordinatorState::Voting if outcome == Outcome::Committed => return Err(ResolveError::NotVoted),
            // Its abort is only told for a while. Nobody contradicts it, so nothing is there to settle.
            CoordinatorState::Retracting if transaction.contradicted().next().is_none() => {
                return Err(ResolveError::Settled(Outcome::Aborted));
            }
            // Whoever is only silent may have followed the commit and paid: taken back here, the money would be there twice.
            CoordinatorState::Delivering if outcome == Outcome::Aborted && transaction.awaits_someone() => {
                let may_have_paid = |party: &Party| party.acknowledged.is_none() && party.contradicted.is_none();
                let silent = transaction.parties.iter().filter(|(_, party)| may_have_paid(party));
                return Err(ResolveError::MayBePaid(silent.map(|(peer, _)| peer.clone()).collect()));
            }
            CoordinatorState::Voting | CoordinatorState::Delivering | CoordinatorState::Retracting => {}
        }
        let by_hand = Record::Resolved { txid: txid.clone(), outcome, reason: reason.into() };
        if transaction.state == CoordinatorState::Voting {
            // Nothing is decided, so this is an ordinary abort, with the person's reason in the log.
            return Ok(self
                .abort_if_voting(txid, AbortReason::Cancelled { text: reason.into() }, |_| true)
                .record(by_hand));
        }
        let transaction = self.take(txid).ok_or(ResolveError::Unknown)?;
        Ok(self.resolve(transaction, by_hand))
    }

    /// Rule 14: a participant can't follow what was decided: one of the two has lost what it wrote. Nothing here
    /// changes by that but what is shown; whoever looks must be able to see it, after a restart too.
    pub(super) fn rejected(&mut self, from: &PeerAddr, txid: &TxId, refusal: &Refusal) -> Output {
        let Some(mut transaction) = self.take(txid) else { return Output::new(txid) };
        let ours = match transaction.state {
            // It was to commit, and never prepared it or has aborted it.
            CoordinatorState::Delivering => Outcome::Committed,
            // It was to abort, and has committed it: this log has lost the decision.
            CoordinatorState::Retracting if refusal.code == Refusal::SETTLED => Outcome::Aborted,
            // It has nothing of this, which is what an abort wants.
            CoordinatorState::Retracting => {
                self.keep(transaction);
                return self.acknowledged_abort(from, txid);
            }
            // Nothing is being told, so this is an answer to what was said long ago.
            CoordinatorState::Unknown
            | CoordinatorState::Beginning
            | CoordinatorState::Voting
            | CoordinatorState::Committing
            | CoordinatorState::Aborting
            | CoordinatorState::Ending
            | CoordinatorState::Ended
            | CoordinatorState::Noting(_)
            | CoordinatorState::Resolving(_) => {
                return self.kept(transaction);
            }
        };
        // It says so each time that it is told. The first time is written.
        let is_news =
            |party: &&mut Party| party.acknowledged.is_none() && !party.given_up && party.contradicted.is_none();
        let Some(party) = transaction.parties.get_mut(from).filter(is_news) else {
            return self.kept(transaction);
        };
        party.contradicted = Some(refusal.clone());
        transaction.enter(CoordinatorState::Noting(ours));
        transaction.due = None;
        transaction.insist_at = self.now + self.options.insist_ticks;
        let transfer = Arc::clone(&transaction.transfer);
        self.keep(transaction);
        let (by, refusal) = (from.clone(), refusal.clone());
        Output::new(txid)
            .record(Record::Contradicted { transfer, ours, by: by.clone(), refusal: refusal.clone() })
            .tell(Notice::Contradicted { txid: txid.clone(), by, refusal })
    }

    /// Aborts are not waited for (rule 5), but for those of a restart, which are told for a while.
    pub(super) fn acknowledged_abort(&mut self, from: &PeerAddr, txid: &TxId) -> Output {
        let Some(mut transaction) = self.take(txid) else { return Output::new(txid) };
        if transaction.state == CoordinatorState::Retracting
            && let Some(party) = transaction.parties.get_mut(from)
        {
            party.acknowledged.get_or_insert(false);
            if transaction.parties.values().all(|party| party.acknowledged.is_some()) {
                return self.end_retraction(transaction);
            }
        }
        self.kept(transaction)
    }

    /// Whoever had contradicted the abort has followed it after all, so nothing is left to settle.
    fn end_retraction(&mut self, mut transaction: Transaction) -> Output {
        let txid = transaction.transfer.txid.clone();
        if transaction.parties.values().all(|party| party.contradicted.is_none()) {
            // There is no record of it but the abort: presumption takes over.
            transaction.enter(CoordinatorState::Unknown);
            return Output::new(&txid);
        }
        // What was shown to people is taken off their list, durably.
        transaction.enter(CoordinatorState::Resolving(Outcome::Aborted));
        transaction.due = None;
        self.keep(transaction);
        Output::new(&txid).record(Record::Ended { txid, mixed: BTreeSet::new() })
    }

    /// Rule 9: the parts that can't be delivered go to the suspense account; the others are taken as done.
    fn resolve(&mut self, mut transaction: Transaction, by_hand: Record) -> Output {
        let txid = transaction.transfer.txid.clone();
        let ours = if transaction.state.is_committed() { Outcome::Committed } else { Outcome::Aborted };
        let given_up: BTreeSet<PeerAddr> = transaction.contradicted().map(|(peer, _)| peer.clone()).collect();
        for (peer, party) in &mut transaction.parties {
            party.given_up = given_up.contains(peer);
            // Nobody is told or waited for any more.
            party.acknowledged.get_or_insert(false);
        }
        transaction.enter(CoordinatorState::Resolving(ours));
        transaction.due = None;
        let elsewhere = Arc::new(transaction.transfer.legs_at(&given_up));
        self.keep(transaction);
        let output = Output::new(&txid).record(by_hand);
        output.settle_elsewhere(ours, &elsewhere)
    }

    /// Tells the decision again to those that have not acknowledged it; only now and then to those that have said that
    /// they can't follow: a copy that can may have taken their place.
    pub(super) fn tell_again(&self, transaction: &mut Transaction, outcome: Outcome) -> Output {
        let insists = self.now >= transaction.insist_at;
        if insists {
            transaction.insist_at = self.now + self.options.insist_ticks;
        }
        let output = transaction.send_decisions(Output::new(&transaction.transfer.txid), outcome, insists);
        self.wait_for_acknowledgements(transaction);
        output
    }
}
