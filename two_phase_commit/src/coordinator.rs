//! The coordinator: it begins transactions, gathers votes, decides, and delivers what it has decided.
//!
//! It owns rules 1, 3, 4, 5, and the coordinator's half of 7, 9, 11, 12 and 14. It keeps no accounts (the ledger does),
//! no log (the driver does) and no clock (the driver tells it the tick). Until [`Coordinator::recover`] has read
//! the log it answers nothing and begins nothing.
//!
//! This file is the plain path, in the order in which a transfer takes it: [`Coordinator::begin`], the votes that
//! [`Coordinator::step`] takes, `commit` or `abort`, the acknowledgements, the end; then the questions of participants
//! in doubt, and time. Beside it stand `recovery` (the log, after a start) and `contradiction` (a participant that can't
//! follow what was decided, and the person who settles that).

mod contradiction;
mod recovery;
mod state;
mod transaction;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::TxId;

pub use self::state::{Booked, CoordinatorState, Status};
use self::transaction::{Party, Transaction};
use crate::error::BeginError;
use crate::message::{Message, Vote};
use crate::options::{Options, Tick};
use crate::output::{AbortReason, Decision, LedgerAction, Notice, Output};
use crate::record::{Outcome, Record};
use crate::refusal::Refusal;
use crate::timers::Timers;
use crate::transfer::{Leg, PeerAddr, Transfer};

/// The coordinator of one branch, for all its transactions.
///
/// Invariants, asserted after each transition for the transaction that it touched:
/// - states change only along [`CoordinatorState::LEGAL`];
/// - no transaction makes or loses money: its withdrawals equal its deposits;
/// - while voting, at least one vote is missing; from `Committing` on, none is;
/// - while delivering, at least one acknowledgement is missing; from `Ending` on, none is; before
///   `Delivering` there is none;
/// - while an abort is retracted, at least one acknowledgement is missing; who is settled by hand counts as if it had
///   acknowledged;
/// - a timer runs exactly in `Voting`, `Delivering`, `Retracting` and `Ended`; with a write under way, none does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    options: Options,
    now: Tick,
    recovering: bool,
    transactions: BTreeMap<TxId, Transaction>,
    timers: Timers,
    /// How many of `transactions` are `Ended`, and so no longer count as under way.
    ended: usize,
}

impl Coordinator {
    /// A coordinator that has not read its log yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        options.check();
        Self { options, now: 0, recovering: true, transactions: BTreeMap::new(), timers: Timers::default(), ended: 0 }
    }

    /// Begins a transaction: the record and the hold, and the prepares to send when both are durable (rule 1).
    ///
    /// # Errors
    /// Nothing has been done: the legs make no sense, the id is in use, the coordinator is recovering, or
    /// too many transactions are under way.
    pub fn begin(&mut self, txid: TxId, legs: Vec<Leg>, note: &str) -> Result<Output, BeginError> {
        if self.recovering {
            // The log may have a transaction of this id, and every place that is counted may be taken by what is found
            // there.
            return Err(BeginError::Recovering);
        }
        if self.transactions.contains_key(&txid) {
            return Err(BeginError::IdInUse);
        }
        if self.transactions.len() - self.ended >= self.options.coordinated_max {
            // What has ended is not counted: it waits for nobody, and goes by itself.
            return Err(BeginError::Busy);
        }
        let coordinator = Some(self.options.own_address.clone());
        let transfer = Transfer { txid: txid.clone(), coordinator, legs, note: note.into(), by_program: false };
        transfer.check_whole().map_err(BeginError::Transfer)?;
        let mut transaction = Transaction::new(Arc::new(transfer), false);
        transaction.enter(CoordinatorState::Beginning);
        let output = Output::new(&txid)
            .record(Record::Begun(Arc::clone(&transaction.transfer)))
            .ledger(LedgerAction::Hold, &transaction.transfer);
        let output = transaction.send_prepares(output);
        self.keep(transaction);
        Ok(output)
    }

    /// Takes a message from `from`. One that no longer matters, or that is for a participant, does nothing. Unless
    /// [`Coordinator::remembers`] the transaction, `booked` says what the driver's disk knows of it, for an inquiry.
    pub fn step(&mut self, from: &PeerAddr, message: &Message, booked: &Booked) -> Output {
        let txid = message.txid();
        if self.recovering {
            // Rule 5: not knowing is no answer before the log has been read. Whoever asks will ask again.
            return Output::new(txid);
        }
        match message {
            // A participant has promised, durably.
            Message::Vote { vote: Vote::Yes, .. } => self.voted_yes(from, txid),
            // A participant can't, and has kept nothing. One no is enough (rule 3), from a party of this transfer.
            Message::Vote { vote: Vote::No(refusal), .. } => {
                let by = Some(from.clone());
                let reason = AbortReason::Refused { by, refusal: refusal.clone() };
                self.abort_if_voting(txid, reason, |transaction| transaction.parties.contains_key(from))
            }
            // A participant has the outcome on its disk.
            Message::Acknowledged { outcome: Outcome::Committed, mixed, .. } => self.acknowledged(from, txid, *mixed),
            Message::Acknowledged { outcome: Outcome::Aborted, .. } => self.acknowledged_abort(from, txid),
            // A participant is in doubt.
            Message::Inquiry { .. } => self.asked(from, txid, booked),
            // A participant can't follow what was decided (rule 14).
            Message::Rejected { refusal, .. } => self.rejected(from, txid, refusal),
            // These are for a participant.
            Message::Prepare(_) | Message::Decision { .. } | Message::Undecided { .. } => Output::new(txid),
        }
    }

    /// The last output that needed a write for `txid` is durable. Call it before sending that output's messages.
    ///
    /// # Panics
    /// When no write for `txid` is under way: the driver has lost count.
    pub fn on_durable(&mut self, txid: &TxId) -> Output {
        let mut transaction = self.take(txid).expect("only a transaction that asked for a write is confirmed");
        match transaction.state {
            CoordinatorState::Beginning => self.has_begun(transaction),
            CoordinatorState::Committing => self.has_committed(transaction),
            // Undecided at a crash, and aborted since. This log may be older than what was decided, so the abort is told
            // until all have acknowledged it, or for a while: whoever has followed a commit contradicts it.
            CoordinatorState::Aborting if transaction.retract_until > self.now && !transaction.parties.is_empty() => {
                transaction.enter(CoordinatorState::Retracting);
                self.wait_for_acknowledgements(&mut transaction);
                self.kept(transaction)
            }
            // Presumed abort: from here on not knowing it is the answer.
            CoordinatorState::Aborting | CoordinatorState::Resolving(Outcome::Aborted) => {
                transaction.enter(CoordinatorState::Unknown);
                Output::new(txid)
            }
            // That someone can't follow is on the disk, and shown from now on. The decision is told as before.
            CoordinatorState::Noting(outcome) => {
                transaction.enter(match outcome {
                    Outcome::Committed => CoordinatorState::Delivering,
                    Outcome::Aborted => CoordinatorState::Retracting,
                });
                self.wait_for_acknowledgements(&mut transaction);
                self.kept(transaction)
            }
            CoordinatorState::Ending | CoordinatorState::Resolving(Outcome::Committed) => {
                self.end(transaction);
                Output::new(txid)
            }
            CoordinatorState::Unknown
            | CoordinatorState::Voting
            | CoordinatorState::Delivering
            | CoordinatorState::Retracting
            | CoordinatorState::Ended => panic!("{txid} has no write under way in {:?}", transaction.state),
        }
    }

    /// The coordinator's own ledger refused the hold of `begin`, and nothing was written. Nothing was sent
    /// either, so the transaction leaves no trace.
    ///
    /// # Panics
    /// When the transaction is not beginning: nothing else may be refused.
    pub fn on_hold_refused(&mut self, txid: &TxId, refusal: Refusal) -> Output {
        let mut transaction = self.take(txid).expect("only a transaction that asked for a hold is refused");
        assert_eq!(transaction.state, CoordinatorState::Beginning, "what is prepared can always be committed");
        transaction.enter(CoordinatorState::Unknown);
        let reason = AbortReason::Refused { by: None, refusal };
        Output::new(txid).tell(Notice::Decided { txid: txid.clone(), decision: Decision::Aborted(reason) })
    }

    /// Rule 1: record and hold are durable, so the prepares of `begin` may leave.
    fn has_begun(&mut self, mut transaction: Transaction) -> Output {
        if let Some(reason) = transaction.cancelled.take() {
            // Given up while the hold was on its way to the disk. Now it is there, and can be released.
            return self.abort(transaction, reason);
        }
        if transaction.parties.is_empty() {
            // All legs are here: there is nobody whose vote could be missing.
            return self.commit(transaction);
        }
        let output = Output::new(&transaction.transfer.txid);
        transaction.enter(CoordinatorState::Voting);
        transaction.decide_by = self.now + self.options.vote_timeout_ticks;
        self.wait_for_votes(&mut transaction);
        self.keep(transaction);
        output
    }

    fn voted_yes(&mut self, from: &PeerAddr, txid: &TxId) -> Output {
        // Of one that is unknown the vote comes too late: it was aborted, which the voter learns by asking.
        let Some(mut transaction) = self.take(txid) else { return Output::new(txid) };
        if transaction.state == CoordinatorState::Voting
            && let Some(party) = transaction.parties.get_mut(from)
        {
            // A repeat changes nothing, and a yes of somebody who was never asked is not counted at all (rule 11).
            party.voted_yes = true;
            if transaction.parties.values().all(|party| party.voted_yes) {
                return self.commit(transaction);
            }
        }
        self.kept(transaction)
    }

    /// Rule 3: the decision and the coordinator's own legs, in one write. Nobody hears of it before that is durable,
    /// since a crash before it aborts.
    fn commit(&mut self, mut transaction: Transaction) -> Output {
        let txid = transaction.transfer.txid.clone();
        transaction.enter(CoordinatorState::Committing);
        transaction.due = None;
        let output = Output::new(&txid)
            .record(Record::Committed { txid: txid.clone() })
            .ledger(LedgerAction::Apply, &transaction.transfer)
            .tell(Notice::Decided { txid: txid.clone(), decision: Decision::Committed });
        let output = if transaction.parties.is_empty() {
            // With nobody to tell, the commit is the end as well.
            output
                .record(Record::Ended { txid: txid.clone(), mixed: BTreeSet::new() })
                .tell(Notice::Delivered { txid, mixed: BTreeSet::new() })
        } else {
            transaction.send_decisions(output, Outcome::Committed, true)
        };
        self.keep(transaction);
        output
    }

    /// The commit point has passed: rule 4 begins.
    fn has_committed(&mut self, mut transaction: Transaction) -> Output {
        let txid = transaction.transfer.txid.clone();
        if transaction.parties.is_empty() {
            self.end(transaction);
            return Output::new(&txid);
        }
        transaction.enter(CoordinatorState::Delivering);
        // The prepares may have been sent many times, and their back-off grown long; the decision starts anew.
        transaction.attempt = 0;
        self.wait_for_acknowledgements(&mut transaction);
        self.kept(transaction)
    }

    fn acknowledged(&mut self, from: &PeerAddr, txid: &TxId, mixed: bool) -> Output {
        let Some(mut transaction) = self.take(txid) else { return Output::new(txid) };
        if transaction.state == CoordinatorState::Delivering
            && let Some(party) = transaction.parties.get_mut(from)
        {
            // The first word counts; a repeat says the same.
            party.acknowledged.get_or_insert(mixed);
            if transaction.parties.values().all(|party| party.acknowledged.is_some()) {
                return self.finish(transaction);
            }
        }
        self.kept(transaction)
    }

    /// Everybody has the commit on disk. The record of it is not forced: without it a restart delivers once more.
    fn finish(&mut self, mut transaction: Transaction) -> Output {
        let txid = transaction.transfer.txid.clone();
        transaction.enter(CoordinatorState::Ending);
        transaction.due = None;
        let is_mixed = |(peer, party): (&PeerAddr, &Party)| (party.acknowledged == Some(true)).then(|| peer.clone());
        let mixed: BTreeSet<PeerAddr> = transaction.parties.iter().filter_map(is_mixed).collect();
        self.kept(transaction)
            .record(Record::Ended { txid: txid.clone(), mixed: mixed.clone() })
            .tell(Notice::Delivered { txid, mixed })
    }

    /// It is over. It stays in memory for a while, for an inquiry that was doubled and is still under way.
    fn end(&mut self, mut transaction: Transaction) {
        transaction.enter(CoordinatorState::Ended);
        transaction.due = Some(self.now + self.options.commit_retention_ticks);
        self.keep(transaction);
    }

    /// A prepare could not be handed to `peer`. If its vote is missing, the transaction aborts (rule 3): waiting for the
    /// vote's time-out would only keep the client waiting.
    pub fn unreachable(&mut self, txid: &TxId, peer: &PeerAddr) -> Output {
        let reason = AbortReason::Unreachable { peer: peer.clone() };
        self.abort_if_voting(txid, reason, |transaction| {
            transaction.parties.get(peer).is_some_and(|party| !party.voted_yes)
        })
    }

    /// Abandons a transaction, if it is not decided yet.
    pub fn cancel(&mut self, txid: &TxId, text: &str) -> Output {
        let reason = AbortReason::Cancelled { text: text.into() };
        if let Some(transaction) = self.transactions.get_mut(txid)
            && transaction.state == CoordinatorState::Beginning
        {
            // The hold may be on the disk already; it can be released only after that is known.
            transaction.cancelled = Some(reason);
            return Output::new(txid);
        }
        self.abort_if_voting(txid, reason, |_| true)
    }

    /// Aborts what has not been decided; what has been decided stays so, whatever comes too late for it.
    fn abort_if_voting(
        &mut self,
        txid: &TxId,
        reason: AbortReason,
        concerns: impl FnOnce(&Transaction) -> bool,
    ) -> Output {
        let Some(transaction) = self.take(txid) else { return Output::new(txid) };
        if transaction.state == CoordinatorState::Voting && concerns(&transaction) {
            return self.abort(transaction, reason);
        }
        self.kept(transaction)
    }

    /// The hold is released, and the participants are told once: one that misses it will ask, and not knowing will be
    /// the answer (rule 5). So the record need not be forced either.
    fn abort(&mut self, mut transaction: Transaction, reason: AbortReason) -> Output {
        let txid = transaction.transfer.txid.clone();
        transaction.enter(CoordinatorState::Aborting);
        transaction.due = None;
        if let AbortReason::Refused { by: Some(peer), .. } = &reason {
            // Whoever refused has kept nothing, so there is nothing to tell it.
            transaction.parties.remove(peer);
        }
        let output = Output::new(&txid)
            .record(Record::Aborted { txid: txid.clone() })
            .ledger(LedgerAction::Release, &transaction.transfer)
            .tell(Notice::Decided { txid, decision: Decision::Aborted(reason) });
        let output = transaction.send_decisions(output, Outcome::Aborted, true);
        self.keep(transaction);
        output
    }

    /// Rules 5, 11 and 12: an outcome is for the parties of the transfer alone. To anyone else it was never
    /// committed, whatever it is: what it holds under this id is no part of it.
    fn asked(&self, from: &PeerAddr, txid: &TxId, booked: &Booked) -> Output {
        let outcome = match (self.transactions.get(txid), booked) {
            (Some(transaction), _) => match (transaction.parties.get(from), self.status(txid)) {
                (None, _) => Outcome::Aborted,
                // A person has settled its part otherwise, and booked it so.
                (Some(party), _) if party.given_up => Outcome::Aborted,
                (Some(_), Status::Decided(outcome)) => outcome,
                // It stays in doubt; but whoever looks there sees that its coordinator answers.
                (Some(_), Status::Undecided | Status::Recovering) => {
                    return Output::new(txid).send(from, Message::Undecided { txid: txid.clone() });
                }
            },
            // Forgotten here, and not by the books: a restored participant may ask long after the end.
            (None, Booked::Committed(parties)) if parties.contains(from) => Outcome::Committed,
            // Presumed abort: neither memory nor log nor books know of a commit.
            (None, Booked::Committed(_) | Booked::Nothing) => Outcome::Aborted,
            // No answer is better than a wrong one, and whoever asks will ask again.
            (None, Booked::Unclear) => return Output::new(txid),
        };
        Output::new(txid).send(from, Message::Decision { txid: txid.clone(), outcome })
    }

    /// Advances the clock and does what is due: sends again, abandons what lacks votes, forgets.
    #[must_use = "what is due must be sent"]
    pub fn tick(&mut self, now: Tick) -> Vec<Output> {
        self.advance(now);
        std::iter::from_fn(|| self.due().map(|txid| self.expire(&txid))).collect()
    }

    /// Advances the clock alone.
    pub(crate) fn advance(&mut self, now: Tick) {
        self.now = self.now.max(now);
    }

    /// A transaction that is due to `expire`, if there is one.
    pub(crate) fn due(&self) -> Option<TxId> {
        self.timers.first_due(self.now)
    }

    /// Does what the transaction's timer is set for, whether its time has come or not. `tick` is made of
    /// this; a model checker, whose clock stands still, calls it directly.
    pub fn expire(&mut self, txid: &TxId) -> Output {
        let Some(mut transaction) = self.take(txid) else { return Output::new(txid) };
        match transaction.state {
            // Rule 3: nothing is decided, so this coordinator may still abort, and stops holding money for who is silent.
            CoordinatorState::Voting if self.now >= transaction.decide_by => {
                let missing = transaction.parties.iter().filter(|(_, party)| !party.voted_yes);
                let missing = missing.map(|(peer, _)| peer.clone()).collect();
                self.abort(transaction, AbortReason::VoteTimeout { missing })
            }
            // A prepare or its vote was lost.
            CoordinatorState::Voting => {
                let output = transaction.send_prepares(Output::new(txid));
                self.wait_for_votes(&mut transaction);
                self.keep(transaction);
                output
            }
            // Rule 4: it is decided, and no time-out ends that.
            CoordinatorState::Delivering => {
                let output = self.tell_again(&mut transaction, Outcome::Committed);
                self.keep(transaction);
                output
            }
            // Nobody has contradicted the abort for as long as a message can be under way: presumption is enough again.
            CoordinatorState::Retracting
                if self.now >= transaction.retract_until && transaction.contradicted().next().is_none() =>
            {
                transaction.enter(CoordinatorState::Unknown);
                Output::new(txid)
            }
            CoordinatorState::Retracting => {
                let output = self.tell_again(&mut transaction, Outcome::Aborted);
                self.keep(transaction);
                output
            }
            // No doubled inquiry is under way any more. From here on the books answer (rule 12).
            CoordinatorState::Ended => {
                transaction.enter(CoordinatorState::Unknown);
                Output::new(txid).tell(Notice::Forgotten { txid: txid.clone(), keep_until: self.now })
            }
            CoordinatorState::Unknown
            | CoordinatorState::Beginning
            | CoordinatorState::Committing
            | CoordinatorState::Aborting
            | CoordinatorState::Noting(_)
            | CoordinatorState::Resolving(_)
            | CoordinatorState::Ending => self.kept(transaction),
        }
    }

    /// A link to `peer` works again: what waits for it is sent at the next tick instead of after the
    /// back-off. It looks at every transaction, so it is for a new connection and not for each message.
    pub fn reconnected(&mut self, peer: &PeerAddr) {
        let waits = |transaction: &&Transaction| {
            matches!(transaction.state, CoordinatorState::Delivering | CoordinatorState::Retracting)
                && transaction.parties.get(peer).is_some_and(|party| party.acknowledged.is_none())
        };
        let waiting: Vec<TxId> =
            self.transactions.values().filter(waits).map(|transaction| transaction.transfer.txid.clone()).collect();
        for txid in waiting {
            if let Some(mut transaction) = self.take(&txid) {
                transaction.attempt = 0;
                // Whoever answers there now may be a copy that can follow.
                transaction.insist_at = self.now;
                transaction.due = Some(self.now);
                self.keep(transaction);
            }
        }
    }

    fn wait_for_votes(&self, transaction: &mut Transaction) {
        transaction.due = Some(self.next_resend(transaction).min(transaction.decide_by));
        transaction.attempt = self.options.resend.next(transaction.attempt);
    }

    fn wait_for_acknowledgements(&self, transaction: &mut Transaction) {
        transaction.due = Some(if transaction.awaits_someone() {
            self.next_resend(transaction)
        } else {
            // Only those are left that have said that they can't follow. They are told now and then.
            transaction.insist_at.max(self.now + 1)
        });
        transaction.attempt = self.options.resend.next(transaction.attempt);
    }

    fn next_resend(&self, transaction: &Transaction) -> Tick {
        let (txid, seed) = (&transaction.transfer.txid, self.options.jitter_seed);
        self.now + self.options.resend.delay_ticks(transaction.attempt, seed, txid, self.now)
    }

    /// Takes a transaction out, with its timer, for one transition; `keep` puts it back.
    fn take(&mut self, txid: &TxId) -> Option<Transaction> {
        let transaction = self.transactions.remove(txid)?;
        self.timers.remove(txid, transaction.due);
        self.ended -= usize::from(transaction.state == CoordinatorState::Ended);
        Some(transaction)
    }

    /// Puts a transaction back. The output has nothing to do yet.
    fn kept(&mut self, transaction: Transaction) -> Output {
        let output = Output::new(&transaction.transfer.txid);
        self.keep(transaction);
        output
    }

    fn keep(&mut self, transaction: Transaction) {
        transaction.check_invariants();
        let txid = transaction.transfer.txid.clone();
        self.timers.insert(&txid, transaction.due);
        self.ended += usize::from(transaction.state == CoordinatorState::Ended);
        self.transactions.insert(txid, transaction);
    }
}
