//! The participant: it promises, waits to be told the outcome, and asks when it isn't.
//!
//! It owns rules 2, 6 and 8, and the participant's half of 5, 7, 9, 10 and 11. It keeps no accounts, no log and no
//! clock. Once it has voted yes it never decides alone: neither a timer nor a restart settles anything.
//! Until [`Participant::recover`] has read the log it takes no message.
//!
//! This file is the plain path, in the order in which a transfer takes it: [`Participant::step`] takes a message,
//! `prepare` promises, `decide` learns the outcome, [`Participant::on_durable`] goes on when the disk has it, and
//! [`Participant::tick`] asks. Beside it stand `recovery` (the log, after a start), `by_hand` (what a person settles) and
//! `by_program` (what an outside program prepared in a coordinator's name).

mod answers;
mod by_hand;
mod by_program;
mod entry;
mod recovery;
mod state;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::TxId;

use self::answers::{
    aborted, acknowledge, busy, contradict, id_reused, not_prepared, not_the_askers, reject, settled, vote_no,
};
use self::by_program::asked_by;
use self::entry::Entry;
pub use self::state::{OnDisk, ParticipantState};
pub use self::view::InDoubt;
use crate::message::{Message, Vote};
use crate::options::{Options, Tick};
use crate::output::{LedgerAction, Notice, Output};
use crate::record::{Outcome, Record};
use crate::refusal::Refusal;
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

    /// Takes a message from `from`, to whom the answer goes. Unless [`Participant::remembers`] the
    /// transaction, `on_disk` says what the driver's disk knows of it. (For a prepare the driver may leave
    /// that to its ledger, which must then refuse the hold of a transaction that has rows in the books or
    /// a record of its abort.)
    pub fn step(&mut self, from: &PeerAddr, message: &Message, on_disk: OnDisk) -> Output {
        let txid = message.txid();
        if self.recovering {
            // What the log says of this transaction is not known yet, so any answer could be a lie. The sender repeats
            // what matters to it.
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
            // The answer depends on what is just being written: a repeated prepare must not be told yes before the
            // promise is durable, and a decision can't be followed before it. The message waits for the disk.
            entry.defer(from, message);
            return self.kept(entry);
        }
        match message {
            // The coordinator asks for legs of a transaction that is here already: it has had no vote, or adds a leg.
            Message::Prepare(transfer) => self.prepare_known(entry, from, transfer),
            // The coordinator says how it ends: it has decided, or answers an inquiry.
            Message::Decision { outcome, .. } => self.decide_known(entry, from, *outcome),
            // The coordinator answers an inquiry: it is alive and hasn't decided. Nothing changes but what is shown.
            Message::Undecided { .. } => {
                entry.is_unanswered &= entry.coordinator() != Some(from);
                self.kept(entry)
            }
            // These are for a coordinator.
            Message::Vote { .. }
            | Message::Acknowledged { .. }
            | Message::Inquiry { .. }
            | Message::Rejected { .. } => self.kept(entry),
        }
    }

    /// A message about a transaction that is not in memory: new, refused before, or settled so long ago that only the
    /// disk knows it.
    fn step_unknown(&mut self, from: &PeerAddr, message: &Message, on_disk: OnDisk) -> Output {
        let txid = message.txid();
        match message {
            Message::Prepare(transfer) => match on_disk {
                // The ordinary beginning.
                OnDisk::Nothing => self.prepare(Entry::new(txid), from, transfer),
                // Its abort came first, or this is a very late copy. A yes would hold money for nobody (rule 8).
                OnDisk::Settled(Outcome::Aborted) => vote_no(txid, from, aborted()),
                // It was paid already; to prepare it again would be to pay it twice.
                OnDisk::Settled(Outcome::Committed) | OnDisk::Mixed => vote_no(txid, from, settled()),
            },
            Message::Decision { outcome, .. } => match (on_disk, outcome) {
                // The acknowledgement was lost, and the coordinator delivers again. It gets the same answer.
                (OnDisk::Settled(ours), theirs) if ours == *theirs => acknowledge(txid, from, ours, false),
                // A person settled it otherwise, which is booked: the coordinator may forget it, and knows it is mixed.
                (OnDisk::Mixed, theirs) => acknowledge(txid, from, *theirs, true),
                // The opposite of what was followed, or a commit of what was never promised: one side has lost what it
                // wrote (rule 14). To follow now would move money twice, or money that was never held.
                (OnDisk::Settled(Outcome::Committed), _) => contradict(txid, from, settled()),
                (OnDisk::Settled(Outcome::Aborted), _) => contradict(txid, from, aborted()),
                (OnDisk::Nothing, Outcome::Committed) => contradict(txid, from, not_prepared()),
                (OnDisk::Nothing, Outcome::Aborted) => self.remember_abort(txid, from),
            },
            // Answers to an inquiry about what is settled by now, and messages for a coordinator.
            Message::Undecided { .. }
            | Message::Vote { .. }
            | Message::Acknowledged { .. }
            | Message::Inquiry { .. }
            | Message::Rejected { .. } => Output::new(txid),
        }
    }

    /// Rule 8: the abort has overtaken its prepare. Without a record of it the prepare would be voted yes to when it
    /// comes, and its hold would stand until the coordinator is asked.
    fn remember_abort(&mut self, txid: &TxId, from: &PeerAddr) -> Output {
        let output = self.settle(Entry::new(txid), Outcome::Aborted, None);
        output.and(acknowledge(txid, from, Outcome::Aborted, false))
    }

    /// Rule 2: the record and the hold, in one write; the vote after it. `entry` is new, or prepared with other legs.
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
            // A refusal leaves nothing behind, but what was prepared before stays promised.
            if entry.held.is_some() {
                self.keep(entry);
            }
            return vote_no(&txid, from, refusal);
        }
        entry.enter(ParticipantState::Preparing);
        // No inquiry while the disk works: its answer could settle legs that are not durable yet.
        entry.due = None;
        // `held` grows only once the new legs are durable, so that a refused hold leaves it as it was.
        entry.asked = Some((from.clone(), Arc::clone(transfer)));
        self.kept(entry)
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
            // One more leg of the same transaction (rule 10), with a write and a vote of its own.
            ParticipantState::Prepared if is_further_leg => return self.prepare(entry, from, transfer),
            // The vote was lost. It was yes, and still is.
            ParticipantState::Prepared | ParticipantState::Settled(Outcome::Committed) if is_repeat => Vote::Yes,
            // The abort came first, or a copy of the prepare came very late.
            ParticipantState::Settled(Outcome::Aborted) => Vote::No(aborted()),
            // What has ended takes no further leg, or a part of a transaction would have another outcome.
            ParticipantState::Settled(Outcome::Committed) if is_further_leg => Vote::No(settled()),
            ParticipantState::Mixed(_) => Vote::No(settled()),
            // Somebody else's, or other legs under the same numbers. (Where a write is under way the message waits.)
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

    /// Somebody says how a transaction in memory ends. If it is who decides it, that is how it ends here.
    fn decide_known(&mut self, mut entry: Entry, from: &PeerAddr, theirs: Outcome) -> Output {
        let txid = entry.txid.clone();
        if let Some(refusal) = entry.refuse_decision(from) {
            // Rule 11: whoever it is, it doesn't decide this. Nothing changes.
            self.keep(entry);
            return reject(&txid, from, refusal);
        }
        entry.is_unanswered = false;
        if entry.is_no_part_of_its_coordinators() && theirs == Outcome::Committed {
            return self.commit_without_program(entry, from);
        }
        match entry.state {
            // The end of the doubt, and the only place where a promise is kept or released in the plain path.
            ParticipantState::Prepared => self.settle(entry, theirs, None).and(acknowledge(&txid, from, theirs, false)),
            // A person has settled it before its coordinator could say anything (rule 9). Now the two are compared.
            ParticipantState::Settled(ours) if entry.is_unconfirmed() => self.compare(entry, from, ours, theirs),
            // The acknowledgement was lost. What is said again has no second effect.
            ParticipantState::Settled(ours) if ours == theirs => {
                self.keep(entry);
                acknowledge(&txid, from, theirs, false)
            }
            // It stands in the books as mixed, and the coordinator delivers again.
            ParticipantState::Mixed(ours) if ours != theirs => {
                self.keep(entry);
                acknowledge(&txid, from, theirs, true)
            }
            // The opposite of what the coordinator itself has said before: one of the two has lost what it wrote (rule
            // 14). What is settled is never changed; both sides show it, and a person must look.
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

    /// Rule 6: the outcome and its effect, in one write; the acknowledgement after it, since it allows the coordinator to
    /// forget.
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
            // An abort that came before its prepare has nothing to release.
            None => output,
        };
        self.keep(entry);
        output
    }

    /// The last output that needed a write for `txid` is durable. Call it before sending that output's
    /// messages. What arrived meanwhile is taken now, so the answer may need a write of its own.
    ///
    /// # Panics
    /// When no write for `txid` is under way: the driver has lost count.
    pub fn on_durable(&mut self, txid: &TxId) -> Output {
        let mut entry = self.take(txid).expect("only a transaction that asked for a write is confirmed");
        match entry.state {
            // The promise is durable: in doubt from here on, and the vote may leave.
            ParticipantState::Preparing => {
                let (_, asked) = entry.asked.take().expect("what is being prepared was asked for");
                entry.held = Some(match entry.held.take() {
                    Some(held) => Arc::new(held.joined_with(&asked)),
                    None => asked,
                });
                entry.since = self.now;
                entry.enter(ParticipantState::Prepared);
            }
            // The outcome is durable. It is remembered for a while, so that repeats are answered without the disk.
            ParticipantState::Settling(outcome) => entry.enter(ParticipantState::Settled(outcome)),
            // The coordinator agrees with the person, durably: nobody has to be asked any more.
            ParticipantState::Confirming(ours) => {
                entry.confirmed = true;
                entry.enter(ParticipantState::Settled(ours));
            }
            // The coordinator disagrees with the person, and the difference stands in the books.
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
            // No trace is left: a "no" needs no record, for whoever asks again is refused again or prepared anew.
            entry.enter(ParticipantState::Unknown);
        }
        self.replay(vote_no(txid, &asker, refusal), deferred)
    }

    /// Takes what waited for a write. As soon as one needs a write itself, the rest waits again.
    fn replay(&mut self, output: Output, deferred: Vec<(PeerAddr, Message)>) -> Output {
        deferred.iter().fold(output, |output, (from, message)| output.and(self.step(from, message, OnDisk::Nothing)))
    }

    /// Advances the clock and does what is due: asks, and forgets what was settled long ago.
    #[must_use = "what is due must be sent"]
    pub fn tick(&mut self, now: Tick) -> Vec<Output> {
        self.advance(now);
        std::iter::from_fn(|| self.due().map(|txid| self.expire(&txid))).collect()
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
            // No message of this transaction is under way any more; should one be, the disk answers for it.
            let keep_until = entry.due.unwrap_or(self.now);
            entry.enter(ParticipantState::Unknown);
            return Output::new(txid).tell(Notice::Forgotten { txid: txid.clone(), keep_until });
        }
        // Rule 6: all that time can do is to ask again. A timer that aborted here could undo half of a transfer that
        // its coordinator has committed, and that others have paid.
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

    /// Sets the timer that the state calls for: to be forgotten, to ask, or none.
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

    /// Puts an entry back. The output has nothing to do yet.
    fn kept(&mut self, entry: Entry) -> Output {
        let output = Output::new(&entry.txid);
        self.keep(entry);
        output
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
}
