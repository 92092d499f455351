//! A site: both machines of one branch, behind one dispatch.
//!
//! Whoever drives a branch asks the site and never has to say which machine is meant: a message goes to the one that
//! its [`Message::role`] names, a confirmation to the one whose output was written. What comes back says which machine
//! it was and how the transaction moved there, so that nobody need look at a machine before and after to see it.

use std::fmt;

use protocol::TxId;

use crate::coordinator::{Booked, Coordinator, CoordinatorState};
use crate::error::{BeginError, ResolveError};
use crate::message::{Message, Role};
use crate::options::{Options, Tick};
use crate::output::Output;
use crate::participant::{OnDisk, Participant, ParticipantState};
use crate::record::{Outcome, Record};
use crate::refusal::Refusal;
use crate::transfer::{Leg, PeerAddr};

/// The coordinator and the participant of one branch.
///
/// They share the branch's name, clock and log, and nothing else: a transaction of the one is unknown to the other. The
/// ledger refuses to hold anything at the participant for an id that the coordinator has given (rule 11).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    coordinator: Coordinator,
    participant: Participant,
}

/// What one machine of a site did with one input: the output to carry out, and how the transaction moved.
#[must_use = "what a machine puts out must be written, confirmed and sent, or the protocol stops here"]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// The machine, which is the one to confirm the output to.
    pub role: Role,
    /// From which state to which its transaction went; `None` when it stayed where it was.
    pub transition: Option<Transition>,
    /// What to do.
    pub output: Output,
}

/// How a transaction moved at one of the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    /// Where it stood.
    pub from: PartyState,
    /// Where it stands.
    pub to: PartyState,
}

/// Where a transaction stands at one of the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartyState {
    /// At the coordinator.
    Coordinator(CoordinatorState),
    /// At the participant.
    Participant(ParticipantState),
}

impl Site {
    /// A site that has not read its log yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { coordinator: Coordinator::new(options.clone()), participant: Participant::new(options) }
    }

    /// Reads the log and completes the recovery of both machines (rule 7).
    ///
    /// # Panics
    /// When called twice.
    #[must_use = "recovered transactions must be finished"]
    pub fn recover(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<Step> {
        // Each machine passes over the records of the other.
        let records: Vec<Record> = records.into_iter().collect();
        let mut steps = Vec::new();
        for output in self.coordinator.recover(records.iter().cloned()) {
            // Before its log was read a machine knew no transaction, so each comes from `Unknown`.
            steps.push(self.made(PartyState::Coordinator(CoordinatorState::Unknown), output));
        }
        for output in self.participant.recover(records) {
            steps.push(self.made(PartyState::Participant(ParticipantState::Unknown), output));
        }
        steps
    }

    /// Begins a transaction; see [`Coordinator::begin`].
    ///
    /// # Errors
    /// As there; nothing has been done.
    pub fn begin(&mut self, txid: TxId, legs: Vec<Leg>, note: &str) -> Result<Step, BeginError> {
        let from = self.state(Role::Coordinator, &txid);
        let output = self.coordinator.begin(txid, legs, note)?;
        Ok(self.made(from, output))
    }

    /// Whether [`Site::step`] must be told what the disk knows of this message's transaction: its machine does not
    /// remember it. (A prepare of one that has ended is refused by the ledger.)
    #[must_use]
    pub fn needs_the_disk_for(&self, message: &Message) -> bool {
        match message {
            // Rule 12: before "aborted" is answered, the books are asked.
            Message::Inquiry { txid } => !self.coordinator.remembers(txid),
            // It may be settled, or mixed, and forgotten: that gets an acknowledgement and no second effect.
            Message::Decision { txid, .. } => !self.participant.remembers(txid),
            Message::Prepare(_)
            | Message::Vote { .. }
            | Message::Acknowledged { .. }
            | Message::Undecided { .. }
            | Message::Rejected { .. } => false,
        }
    }

    /// Hands a message to the machine that it is for. `on_disk` as in [`Participant::step`], `booked` as in
    /// [`Coordinator::step`].
    pub fn step(&mut self, from: &PeerAddr, message: &Message, on_disk: OnDisk, booked: &Booked) -> Step {
        self.ask(message.role(), message.txid(), |site| match message.role() {
            Role::Coordinator => site.coordinator.step(from, message, booked),
            Role::Participant => site.participant.step(from, message, on_disk),
        })
    }

    /// The last output of this machine that needed a write for `txid` is durable.
    ///
    /// # Panics
    /// When no write for `txid` is under way there: the driver has lost count.
    pub fn on_durable(&mut self, role: Role, txid: &TxId) -> Step {
        self.ask(role, txid, |site| match role {
            Role::Coordinator => site.coordinator.on_durable(txid),
            Role::Participant => site.participant.on_durable(txid),
        })
    }

    /// The ledger refused the hold of this machine's last output, and nothing was written.
    ///
    /// # Panics
    /// When it asked for no hold: nothing else may be refused.
    pub fn on_hold_refused(&mut self, role: Role, txid: &TxId, refusal: Refusal) -> Step {
        self.ask(role, txid, |site| match role {
            Role::Coordinator => site.coordinator.on_hold_refused(txid, refusal),
            Role::Participant => site.participant.on_hold_refused(txid, refusal),
        })
    }

    /// A prepare could not be handed to `peer`; see [`Coordinator::unreachable`].
    pub fn unreachable(&mut self, txid: &TxId, peer: &PeerAddr) -> Step {
        self.ask(Role::Coordinator, txid, |site| site.coordinator.unreachable(txid, peer))
    }

    /// Abandons a transaction, if it is not decided yet.
    pub fn cancel(&mut self, txid: &TxId, text: &str) -> Step {
        self.ask(Role::Coordinator, txid, |site| site.coordinator.cancel(txid, text))
    }

    /// Settles by an operator's order (rule 9) what is in doubt at the participant, or what the coordinator can't finish.
    ///
    /// # Errors
    /// Nothing has been done: there is nothing to settle, or not in this way.
    pub fn resolve_by_hand(&mut self, txid: &TxId, outcome: Outcome, reason: &str) -> Result<Step, ResolveError> {
        // An id belongs to one of the two: the ledger refuses to prepare what this coordinator has begun.
        let role = if self.coordinator.remembers(txid) { Role::Coordinator } else { Role::Participant };
        let from = self.state(role, txid);
        let output = match role {
            Role::Coordinator => self.coordinator.resolve_by_hand(txid, outcome, reason)?,
            Role::Participant => self.participant.resolve_by_hand(txid, outcome, reason)?,
        };
        Ok(self.made(from, output))
    }

    /// Advances the clock of both and does what is due.
    #[must_use = "what is due must be sent"]
    pub fn tick(&mut self, now: Tick) -> Vec<Step> {
        // Both clocks first: a timer that is set meanwhile counts from now.
        self.coordinator.advance(now);
        self.participant.advance(now);
        let mut steps = Vec::new();
        while let Some(txid) = self.coordinator.due() {
            steps.push(self.expire(Role::Coordinator, &txid));
        }
        while let Some(txid) = self.participant.due() {
            steps.push(self.expire(Role::Participant, &txid));
        }
        steps
    }

    /// Does what this machine's timer for the transaction is set for, whether its time has come or not. `tick` is made
    /// of this; a model checker, whose clock stands still, calls it directly.
    pub fn expire(&mut self, role: Role, txid: &TxId) -> Step {
        self.ask(role, txid, |site| match role {
            Role::Coordinator => site.coordinator.expire(txid),
            Role::Participant => site.participant.expire(txid),
        })
    }

    /// A link to `peer` works again: what waits for it need not wait for its back-off.
    pub fn reconnected(&mut self, peer: &PeerAddr) {
        self.coordinator.reconnected(peer);
        self.participant.reconnected(peer);
    }

    /// When `tick` has something to do next; `None` while nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.coordinator.next_deadline().into_iter().chain(self.participant.next_deadline()).min()
    }

    /// The coordinator, to look at.
    #[must_use]
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// The participant, to look at.
    #[must_use]
    pub fn participant(&self) -> &Participant {
        &self.participant
    }

    /// Where a transaction stands at one of the machines.
    #[must_use]
    pub fn state(&self, role: Role, txid: &TxId) -> PartyState {
        match role {
            Role::Coordinator => PartyState::Coordinator(self.coordinator.state(txid)),
            Role::Participant => PartyState::Participant(self.participant.state(txid)),
        }
    }

    /// Asserts every invariant of both machines.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check_invariants(&self) {
        self.coordinator.check_invariants();
        self.participant.check_invariants();
    }

    /// One input of one machine, with how the transaction moved by it: nothing else can come in between.
    fn ask(&mut self, role: Role, txid: &TxId, act: impl FnOnce(&mut Self) -> Output) -> Step {
        let from = self.state(role, txid);
        let output = act(self);
        self.made(from, output)
    }

    fn made(&self, from: PartyState, output: Output) -> Step {
        let role = from.role();
        // It may have gone through several states: a confirmation takes up the decision that had waited for it. What is
        // told is where the transaction stood and where it stands.
        let to = self.state(role, &output.txid);
        let transition = (from != to).then_some(Transition { from, to });
        Step { role, transition, output }
    }
}

impl PartyState {
    /// The machine at which it stands so.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Coordinator(_) => Role::Coordinator,
            Self::Participant(_) => Role::Participant,
        }
    }
}

impl fmt::Display for PartyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator(state) => write!(f, "{state:?}"),
            Self::Participant(state) => write!(f, "{state:?}"),
        }
    }
}
