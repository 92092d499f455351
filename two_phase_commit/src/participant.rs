//! The participant: it promises, waits to be told the outcome, and asks when it isn't.
//!
//! It owns rules 2, 6, 8, 9, 10 and the participant's half of 5 and 7. It keeps no accounts, no log and no
//! clock. Once it has voted yes it never decides alone: neither a timer nor a restart settles anything.
//! Until [`Participant::recover`] has read the log it takes no message.

mod answers;
mod entry;
mod state;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::TxId;

use self::answers::{
    aborted, acknowledge, busy, contradict, id_reused, not_prepared, not_the_askers, reject, settled, vote_no,
};
use self::entry::Entry;
pub use self::state::{OnDisk, ParticipantState};
pub use self::view::InDoubt;
use crate::by_hand::ResolveError;
use crate::message::{Message, Refusal, Vote};
#[cfg(feature = "sabotage")]
use crate::options::Sabotage;
use crate::options::{Options, Tick};
use crate::output::{LedgerAction, Notice, Output};
use crate::record::{Outcome, Record};
use crate::timers::Timers;
use crate::transfer::{PeerAddr, Transfer};

/// The participant of one branch, for all its transactions.
///
/// Invariants, asserted after each transition for the transaction that it touched:
/// - states change only along [`ParticipantState::LEGAL`];
/// - what is prepared has legs, all of them here;
/// - a transaction in doubt with a coordinator has a timer that asks; without one it has none;
/// - what is settled by hand is not forgotten, and asks, until its coordinator has agreed or disagreed;
/// - with a write under way there is no timer, and inputs wait; otherwise none waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Participant {
    options: Options,
    now: Tick,
    recovering: bool,
    entries: BTreeMap<TxId, Entry>,
    /// When those in doubt ask.
    inquiries: Timers,
    /// When those that are settled are forgotten.
    retained: Timers,
}

impl Participant {
    /// A participant that has not read its log yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        options.check();
        let (inquiries, retained) = (Timers::default(), Timers::default());
        Self { options, now: 0, recovering: true, entries: BTreeMap::new(), inquiries, retained }
    }

    /// Reads the log and completes the recovery (rule 7): what was prepared stays prepared, and asks.
    /// Records of coordinators are passed over.
    ///
    /// # Panics
    /// When called twice: a second reading could contradict what was done since the first.
    #[must_use = "what is in doubt must ask"]
    pub fn recover(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<Output> {
        assert!(self.recovering, "a log is read once");
        self.recovering = false;
        let mut found: BTreeMap<TxId, Entry> = BTreeMap::new();
        for record in records {
            let txid = record.txid().clone();
            match record {
                Record::Prepared(transfer) => {
                    let entry = entry_of(&mut found, &txid);
                    entry.state = ParticipantState::Prepared;
                    entry.held = Some(transfer);
                }
                Record::Settled { outcome, by_hand, .. } => {
                    let entry = entry_of(&mut found, &txid);
                    entry.state = ParticipantState::Settled(outcome);
                    entry.by_hand = by_hand.is_some();
                }
                Record::Confirmed { .. } => entry_of(&mut found, &txid).confirmed = true,
                Record::Mixed { ours, .. } => entry_of(&mut found, &txid).state = ParticipantState::Mixed(ours),
                // What this branch's coordinator wrote under an id takes nothing away from what stands under it here.
                Record::Begun(_)
                | Record::Committed { .. }
                | Record::Aborted { .. }
                | Record::Ended { .. }
                | Record::Contradicted { .. }
                | Record::Resolved { .. } => {}
            }
        }
        let mut outputs = Vec::new();
        for (txid, mut entry) in found {
            entry.since = self.now;
            let output = if entry.may_ask() { entry.ask() } else { Output::new(&txid) };
            self.arm(&mut entry);
            self.keep(entry);
            if !output.is_empty() {
                outputs.push(output);
            }
        }
        outputs
    }

    /// Takes a message from `from`, to whom the answer goes. Unless [`Participant::remembers`] the
    /// transaction, `on_disk` says what the driver's disk knows of it. (For a prepare the driver may leave
    /// that to its ledger, which must then refuse the hold of a transaction that has rows in the books or
    /// a record of its abort.)
    pub fn step(&mut self, from: &PeerAddr, message: &Message, on_disk: OnDisk) -> Output {
        let txid = message.txid();
        if self.recovering {
            return Output::new(txid);
        }
        if let Message::Prepare(transfer) = message
            && !from.is_program()
            && transfer.coordinator.as_ref() != Some(from)
        {
            // Rule 11: who prepares for another's transfer would add to it what its coordinator never asked for.
            return vote_no(txid, from, not_the_askers(from));
        }
        let Some(mut entry) = self.take(txid) else { return self.step_unknown(from, message, on_disk) };
        if entry.state.is_writing() {
            entry.defer(from, message);
            self.keep(entry);
            return Output::new(txid);
        }
        match message {
            Message::Prepare(transfer) => self.prepare_known(entry, from, transfer),
            Message::Decision { outcome, .. } => match entry.refuse_decision(from) {
                // Rule 11: whoever it is, it doesn't decide this. Nothing changes.
                Some(refusal) => {
                    self.keep(entry);
                    reject(txid, from, refusal)
                }
                None => self.decide_known(entry, from, *outcome),
            },
            Message::Undecided { .. } => {
                entry.is_unanswered &= entry.coordinator() != Some(from);
                self.keep(entry);
                Output::new(txid)
            }
            Message::Vote { .. }
            | Message::Acknowledged { .. }
            | Message::Inquiry { .. }
            | Message::Rejected { .. } => {
                self.keep(entry);
                Output::new(txid)
            }
        }
    }

    /// The last output that needed a write for `txid` is durable. Call it before sending that output's
    /// messages. What arrived meanwhile is taken now, so the answer may need a write of its own.
    ///
    /// # Panics
    /// When no write for `txid` is under way: the driver has lost count.
    pub fn on_durable(&mut self, txid: &TxId) -> Output {
        let mut entry = self.take(txid).expect("only a transaction that asked for a write is confirmed");
        match entry.state {
            ParticipantState::Preparing => {
                let (_, asked) = entry.asked.take().expect("what is being prepared was asked for");
                entry.held = Some(match entry.held.take() {
                    Some(held) => Arc::new(held.joined_with(&asked)),
                    None => asked,
                });
                entry.since = self.now;
                entry.enter(ParticipantState::Prepared);
            }
            ParticipantState::Settling(outcome) => entry.enter(ParticipantState::Settled(outcome)),
            ParticipantState::Confirming(ours) => {
                entry.confirmed = true;
                entry.enter(ParticipantState::Settled(ours));
            }
            ParticipantState::Mixing(ours) => entry.enter(ParticipantState::Mixed(ours)),
            ParticipantState::Unknown
            | ParticipantState::Prepared
            | ParticipantState::Settled(_)
            | ParticipantState::Mixed(_) => panic!("{txid} has no write under way in {:?}", entry.state),
        }
        let deferred = std::mem::take(&mut entry.deferred);
        entry.attempt = 0;
        self.arm(&mut entry);
        self.keep(entry);
        self.replay(Output::new(txid), deferred)
    }

    /// The ledger refused the hold of a prepare, and nothing was written: the vote is no (rule 2).
    ///
    /// # Panics
    /// When nothing is being prepared: nothing else may be refused.
    pub fn on_hold_refused(&mut self, txid: &TxId, refusal: Refusal) -> Output {
        let mut entry = self.take(txid).expect("only a transaction that asked for a hold is refused");
        assert_eq!(entry.state, ParticipantState::Preparing, "what is prepared can always be committed");
        let (asker, _) = entry.asked.take().expect("what is being prepared was asked for");
        let deferred = std::mem::take(&mut entry.deferred);
        if entry.held.is_some() {
            // Only the further leg is refused. What was prepared before it stays so.
            entry.enter(ParticipantState::Prepared);
            self.arm(&mut entry);
            self.keep(entry);
        } else {
            entry.enter(ParticipantState::Unknown);
        }
        self.replay(vote_no(txid, &asker, refusal), deferred)
    }

    /// Settles a transaction in doubt by an operator's order (rule 9). It is recorded as such, and never
    /// changed again; if the coordinator says otherwise later, it is marked mixed.
    ///
    /// # Errors
    /// Nothing has been done: the transaction is not in doubt.
    pub fn resolve_by_hand(&mut self, txid: &TxId, outcome: Outcome, reason: &str) -> Result<Output, ResolveError> {
        if self.recovering {
            return Err(ResolveError::Recovering);
        }
        match self.state(txid) {
            ParticipantState::Unknown => return Err(ResolveError::Unknown),
            ParticipantState::Preparing
            | ParticipantState::Settling(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_) => {
                return Err(ResolveError::UnderWay);
            }
            ParticipantState::Settled(outcome) | ParticipantState::Mixed(outcome) => {
                return Err(ResolveError::Settled(outcome));
            }
            ParticipantState::Prepared => {}
        }
        let mut entry = self.take(txid).ok_or(ResolveError::Unknown)?;
        entry.by_hand = true;
        // Without a coordinator nobody will ever confirm it or say otherwise: a person's word is the last.
        entry.confirmed = entry.coordinator().is_none();
        let is_confirmed = entry.confirmed;
        let output = self.settle(entry, outcome, Some(reason.into()));
        Ok(if is_confirmed { output.record(Record::Confirmed { txid: txid.clone() }) } else { output })
    }

    /// Advances the clock and does what is due: asks, and forgets what was settled long ago.
    #[must_use = "what is due must be sent"]
    pub fn tick(&mut self, now: Tick) -> Vec<Output> {
        self.advance(now);
        let mut outputs = Vec::new();
        while let Some(txid) = self.due() {
            outputs.push(self.expire(&txid));
        }
        outputs
    }

    /// Advances the clock alone.
    pub(crate) fn advance(&mut self, now: Tick) {
        self.now = self.now.max(now);
    }

    /// A transaction that is due to `expire`, if there is one: to ask, to be forgotten in its time, or to be forgotten
    /// because there are too many.
    pub(crate) fn due(&self) -> Option<TxId> {
        let is_surplus = self.retained.len() > self.options.retained_max;
        let due = self.inquiries.first_due(self.now).or_else(|| self.retained.first_due(self.now));
        due.or_else(|| if is_surplus { self.retained.oldest() } else { None })
    }

    /// Does what the transaction's timer is set for, whether its time has come or not. `tick` is made of
    /// this; a model checker, whose clock stands still, calls it directly.
    pub fn expire(&mut self, txid: &TxId) -> Output {
        let Some(mut entry) = self.take(txid) else { return Output::new(txid) };
        if entry.is_retained() {
            let keep_until = entry.due.unwrap_or(self.now);
            entry.enter(ParticipantState::Unknown);
            return Output::new(txid).tell(Notice::Forgotten { txid: txid.clone(), keep_until });
        }
        #[cfg(feature = "sabotage")]
        if self.is_sabotaged(Sabotage::DecideByTimer)
            && entry.state == ParticipantState::Prepared
            && entry.is_unanswered
        {
            return self.settle(entry, Outcome::Aborted, None);
        }
        // Rule 6: all that time can do is to ask again.
        let output = if entry.may_ask() { entry.ask() } else { Output::new(txid) };
        self.arm(&mut entry);
        self.keep(entry);
        output
    }

    /// A link to `coordinator` works again: what is in doubt asks it at the next tick instead of after the
    /// back-off. It looks at every transaction, so it is for a new connection and not for each message.
    pub fn reconnected(&mut self, coordinator: &PeerAddr) {
        let waits = |entry: &&Entry| entry.may_ask() && entry.coordinator() == Some(coordinator);
        let waiting: Vec<TxId> = self.entries.values().filter(waits).map(|entry| entry.txid.clone()).collect();
        for txid in waiting {
            if let Some(mut entry) = self.take(&txid) {
                entry.attempt = 0;
                entry.due = Some(self.now);
                self.keep(entry);
            }
        }
    }

    fn step_unknown(&mut self, from: &PeerAddr, message: &Message, on_disk: OnDisk) -> Output {
        let txid = message.txid();
        match message {
            Message::Prepare(transfer) => match on_disk {
                OnDisk::Nothing => self.prepare(Entry::new(txid), from, transfer),
                OnDisk::Settled(Outcome::Aborted) => vote_no(txid, from, aborted()),
                OnDisk::Settled(Outcome::Committed) | OnDisk::Mixed => vote_no(txid, from, settled()),
            },
            Message::Decision { outcome, .. } => match (on_disk, outcome) {
                (OnDisk::Settled(ours), theirs) if ours == *theirs => acknowledge(txid, from, ours, false),
                (OnDisk::Mixed, theirs) => acknowledge(txid, from, *theirs, true),
                (OnDisk::Settled(Outcome::Committed), _) => contradict(txid, from, settled()),
                (OnDisk::Settled(Outcome::Aborted), _) => contradict(txid, from, aborted()),
                (OnDisk::Nothing, Outcome::Committed) => contradict(txid, from, not_prepared()),
                (OnDisk::Nothing, Outcome::Aborted) => self.remember_abort(txid, from),
            },
            Message::Undecided { .. }
            | Message::Vote { .. }
            | Message::Acknowledged { .. }
            | Message::Inquiry { .. }
            | Message::Rejected { .. } => Output::new(txid),
        }
    }

    /// Rule 8: the abort has overtaken its prepare, which must find it here.
    fn remember_abort(&mut self, txid: &TxId, from: &PeerAddr) -> Output {
        #[cfg(feature = "sabotage")]
        if self.is_sabotaged(Sabotage::NoTombstone) {
            return acknowledge(txid, from, Outcome::Aborted, false);
        }
        let output = self.settle(Entry::new(txid), Outcome::Aborted, None);
        output.and(acknowledge(txid, from, Outcome::Aborted, false))
    }

    /// Rule 2: the record and the hold, in one write; the vote after it.
    fn prepare(&mut self, mut entry: Entry, from: &PeerAddr, transfer: &Arc<Transfer>) -> Output {
        let txid = entry.txid.clone();
        let transfer = &asked_by(from, transfer);
        let all = match &entry.held {
            Some(held) => Arc::new(held.joined_with(transfer)),
            None => Arc::clone(transfer),
        };
        let under_way = self.entries.len() - self.retained.len();
        let refusal = match all.check_part() {
            Err(error) => Some(Refusal::new(Refusal::MALFORMED, error.to_string())),
            Ok(()) if under_way >= self.options.prepared_max => Some(busy()),
            Ok(()) => None,
        };
        if let Some(refusal) = refusal {
            if entry.held.is_some() {
                self.keep(entry);
            }
            return vote_no(&txid, from, refusal);
        }
        entry.enter(ParticipantState::Preparing);
        entry.due = None;
        entry.asked = Some((from.clone(), Arc::clone(transfer)));
        self.keep(entry);
        Output::new(&txid)
            .record(Record::Prepared(all))
            .ledger(LedgerAction::Hold, transfer)
            .send(from, Message::Vote { txid, vote: Vote::Yes })
    }

    /// A prepare for a transaction in memory: most likely the same again, which gets the same answer.
    fn prepare_known(&mut self, entry: Entry, from: &PeerAddr, transfer: &Arc<Transfer>) -> Output {
        let txid = entry.txid.clone();
        let transfer = &asked_by(from, transfer);
        // Rule 11: legs join only from whoever prepared the first. From anyone else it is another's transaction, also
        // when it names the same coordinator, and also when its legs are the same.
        let is_of_same_asker = |held: &&Arc<Transfer>| held.is_of_same_asker(transfer);
        let held = entry.held.as_ref().filter(is_of_same_asker);
        let is_repeat = held.is_some_and(|held| held.contains(transfer));
        let is_further_leg = held.is_some_and(|held| held.is_apart_from(transfer));
        let vote = match entry.state {
            ParticipantState::Prepared if is_further_leg => return self.prepare(entry, from, transfer),
            ParticipantState::Prepared | ParticipantState::Settled(Outcome::Committed) if is_repeat => Vote::Yes,
            ParticipantState::Settled(Outcome::Aborted) => Vote::No(aborted()),
            ParticipantState::Settled(Outcome::Committed) if is_further_leg => Vote::No(settled()),
            ParticipantState::Mixed(_) => Vote::No(settled()),
            ParticipantState::Prepared
            | ParticipantState::Settled(Outcome::Committed)
            | ParticipantState::Unknown
            | ParticipantState::Preparing
            | ParticipantState::Settling(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_) => Vote::No(id_reused()),
        };
        self.keep(entry);
        Output::new(&txid).send(from, Message::Vote { txid, vote })
    }

    fn decide_known(&mut self, mut entry: Entry, from: &PeerAddr, theirs: Outcome) -> Output {
        let txid = entry.txid.clone();
        entry.is_unanswered = false;
        if entry.is_no_part_of_its_coordinators() && theirs == Outcome::Committed {
            return self.decide_otherwise(entry, from);
        }
        match entry.state {
            ParticipantState::Prepared => self.settle(entry, theirs, None).and(acknowledge(&txid, from, theirs, false)),
            ParticipantState::Settled(ours) if ours == theirs => {
                if entry.by_hand && !entry.confirmed {
                    return self.confirm(entry, ours).and(acknowledge(&txid, from, theirs, false));
                }
                self.keep(entry);
                acknowledge(&txid, from, theirs, false)
            }
            ParticipantState::Settled(ours) if entry.by_hand && !entry.confirmed => {
                self.mix(entry, ours, theirs).and(acknowledge(&txid, from, theirs, true))
            }
            ParticipantState::Mixed(ours) if ours != theirs => {
                self.keep(entry);
                acknowledge(&txid, from, theirs, true)
            }
            ParticipantState::Settled(Outcome::Aborted) => {
                self.keep(entry);
                contradict(&txid, from, aborted())
            }
            ParticipantState::Settled(Outcome::Committed) | ParticipantState::Mixed(_) => {
                self.keep(entry);
                contradict(&txid, from, settled())
            }
            ParticipantState::Unknown
            | ParticipantState::Preparing
            | ParticipantState::Settling(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_) => panic!("{txid} takes no decision in {:?}", entry.state),
        }
    }

    /// The coordinator has committed a transfer of this id, and what is here under it was prepared by a program in its
    /// name. A coordinator commits what it has prepared itself, and that would have been refused beside this: so this
    /// is no part of it, and never happens. Its own part is missing here, which it is told.
    fn decide_otherwise(&mut self, entry: Entry, from: &PeerAddr) -> Output {
        let txid = entry.txid.clone();
        let answer = contradict(&txid, from, not_prepared());
        match entry.state {
            ParticipantState::Prepared => self.settle(entry, Outcome::Aborted, None).and(answer),
            ParticipantState::Settled(ours) if ours == Outcome::Aborted && entry.awaits_confirmation() => {
                self.confirm(entry, ours).and(answer)
            }
            ParticipantState::Settled(ours) if entry.awaits_confirmation() => {
                self.mix(entry, ours, Outcome::Aborted).and(answer)
            }
            ParticipantState::Settled(_) | ParticipantState::Mixed(_) => {
                self.keep(entry);
                answer
            }
            ParticipantState::Unknown
            | ParticipantState::Preparing
            | ParticipantState::Settling(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_) => panic!("{txid} takes no decision in {:?}", entry.state),
        }
    }

    /// Rule 6: the outcome and its effect, in one write; the acknowledgement after it.
    fn settle(&mut self, mut entry: Entry, outcome: Outcome, by_hand: Option<Arc<str>>) -> Output {
        let txid = entry.txid.clone();
        entry.enter(ParticipantState::Settling(outcome));
        entry.due = None;
        let output = Output::new(&txid).record(Record::Settled { txid, outcome, by_hand });
        let action = match outcome {
            Outcome::Committed => LedgerAction::Apply,
            Outcome::Aborted => LedgerAction::Release,
        };
        let output = match &entry.held {
            Some(held) => output.ledger(action, held),
            None => output,
        };
        self.keep(entry);
        output
    }

    /// Rule 9: the coordinator agrees, which must be durable before it may forget.
    fn confirm(&mut self, mut entry: Entry, ours: Outcome) -> Output {
        let txid = entry.txid.clone();
        entry.enter(ParticipantState::Confirming(ours));
        entry.due = None;
        self.keep(entry);
        Output::new(&txid).record(Record::Confirmed { txid: txid.clone() }).tell(Notice::Confirmed { txid })
    }

    /// Rule 9: nothing is overwritten; the difference is booked beside it and told.
    fn mix(&mut self, mut entry: Entry, ours: Outcome, theirs: Outcome) -> Output {
        let txid = entry.txid.clone();
        entry.enter(ParticipantState::Mixing(ours));
        entry.due = None;
        let output = Output::new(&txid)
            .record(Record::Mixed { txid: txid.clone(), ours, theirs })
            .tell(Notice::Mixed { txid, ours, theirs });
        let output = match &entry.held {
            Some(held) => output.ledger(LedgerAction::Suspense { ours, theirs }, held),
            None => output,
        };
        self.keep(entry);
        output
    }

    /// Takes what waited for a write. As soon as one needs a write itself, the rest waits again.
    fn replay(&mut self, output: Output, deferred: Vec<(PeerAddr, Message)>) -> Output {
        deferred.iter().fold(output, |output, (from, message)| output.and(self.step(from, message, OnDisk::Nothing)))
    }

    /// Sets the timer that the state calls for.
    fn arm(&self, entry: &mut Entry) {
        entry.due = None;
        if entry.is_retained() {
            entry.due = Some(self.now + self.options.settled_retention_ticks);
        } else if entry.may_ask() {
            let (inquiry, seed) = (self.options.inquiry, self.options.jitter_seed);
            entry.due = Some(self.now + inquiry.delay_ticks(entry.attempt, seed, &entry.txid, self.now));
            entry.attempt = inquiry.next(entry.attempt);
        }
    }

    /// Takes an entry out, with its timer, for one transition; `keep` puts it back.
    fn take(&mut self, txid: &TxId) -> Option<Entry> {
        let entry = self.entries.remove(txid)?;
        self.timers_of(&entry).remove(txid, entry.due);
        Some(entry)
    }

    fn keep(&mut self, entry: Entry) {
        entry.check_invariants();
        let txid = entry.txid.clone();
        self.timers_of(&entry).insert(&txid, entry.due);
        self.entries.insert(txid, entry);
    }

    fn timers_of(&mut self, entry: &Entry) -> &mut Timers {
        if entry.is_retained() { &mut self.retained } else { &mut self.inquiries }
    }

    #[cfg(feature = "sabotage")]
    fn is_sabotaged(&self, rule: Sabotage) -> bool {
        self.options.sabotage == Some(rule)
    }
}

/// What the log has told of a transaction so far.
fn entry_of<'f>(found: &'f mut BTreeMap<TxId, Entry>, txid: &TxId) -> &'f mut Entry {
    found.entry(txid.clone()).or_insert_with(|| Entry::new(txid))
}

/// The transfer as it is kept: with who asked for it, whatever the message says of that.
fn asked_by(from: &PeerAddr, transfer: &Arc<Transfer>) -> Arc<Transfer> {
    let by_program = from.is_program();
    if transfer.by_program == by_program {
        return Arc::clone(transfer);
    }
    Arc::new(Transfer { by_program, ..Transfer::clone(transfer) })
}
