//! One transaction at a participant: what it has promised to whom, and what must hold in each state.

use std::sync::Arc;

use protocol::TxId;

use super::answers::{coordinated, not_prepared};
use super::state::ParticipantState;
use crate::message::Message;
use crate::options::Tick;
use crate::output::Output;
use crate::record::Outcome;
use crate::refusal::Refusal;
use crate::transfer::{PeerAddr, Transfer};

/// The most inputs about one transaction that wait for its write. More are dropped, as a network might.
const DEFERRED_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) txid: TxId,
    pub(super) state: ParticipantState,
    /// What is durably prepared; `None` before that, and for an abort that came first.
    pub(super) held: Option<Arc<Transfer>>,
    /// What is being prepared, and for whom.
    pub(super) asked: Option<(PeerAddr, Arc<Transfer>)>,
    /// What came while a write was under way.
    pub(super) deferred: Vec<(PeerAddr, Message)>,
    /// Whether a person has settled it.
    pub(super) by_hand: bool,
    /// Whether the coordinator has agreed with that person, or nobody is there who could.
    pub(super) confirmed: bool,
    /// Since when it is prepared, for the operator.
    pub(super) since: Tick,
    /// Whether the last inquiry has had no answer, for the operator.
    pub(super) is_unanswered: bool,
    /// How many inquiries the back-off counts.
    pub(super) attempt: u32,
    /// When `expire` is to be called.
    pub(super) due: Option<Tick>,
}

impl Entry {
    pub(super) fn new(txid: &TxId) -> Self {
        Self {
            txid: txid.clone(),
            state: ParticipantState::Unknown,
            held: None,
            asked: None,
            deferred: Vec::new(),
            by_hand: false,
            confirmed: false,
            since: 0,
            is_unanswered: false,
            attempt: 0,
            due: None,
        }
    }

    pub(super) fn enter(&mut self, next: ParticipantState) {
        let (txid, state) = (&self.txid, self.state);
        assert!(state.may_become(next), "{txid} may not go from {state:?} to {next:?}");
        self.state = next;
    }

    pub(super) fn coordinator(&self) -> Option<&PeerAddr> {
        self.held.as_ref().and_then(|held| held.coordinator.as_ref())
    }

    /// Why `from` may not decide this (rule 11); `None` when it may.
    pub(super) fn refuse_decision(&self, from: &PeerAddr) -> Option<Refusal> {
        // An abort that came before its prepare has no legs, and so nobody whose word counts more.
        let held = self.held.as_ref()?;
        match &held.coordinator {
            Some(coordinator) if coordinator == from => None,
            // A program would settle here what the coordinator may decide otherwise for the other branches.
            Some(coordinator) if from.is_program() => Some(coordinated(coordinator)),
            // Rule 10: what programs have prepared without a coordinator, programs settle.
            None if from.is_program() => None,
            // Another branch: nothing of its own transfers is prepared here.
            Some(_) | None => Some(not_prepared()),
        }
    }

    /// Whether a program had it prepared in a branch's name.
    pub(super) fn is_no_part_of_its_coordinators(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.by_program && held.coordinator.is_some())
    }

    /// Whether there is someone to ask and something to learn.
    pub(super) fn may_ask(&self) -> bool {
        (self.state == ParticipantState::Prepared || self.awaits_confirmation()) && self.coordinator().is_some()
    }

    /// Whether it is only kept to answer repeats.
    pub(super) fn is_retained(&self) -> bool {
        match self.state {
            ParticipantState::Settled(_) => !self.awaits_confirmation(),
            ParticipantState::Mixed(_) => true,
            ParticipantState::Unknown
            | ParticipantState::Preparing
            | ParticipantState::Prepared
            | ParticipantState::Settling(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_) => false,
        }
    }

    /// Whether a person has settled it and its coordinator has not said what it decided.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.by_hand && !self.confirmed
    }

    /// Whether it was settled by hand and nobody has confirmed or contradicted that yet. Only people make
    /// such entries, so they are few, and they are kept.
    pub(super) fn awaits_confirmation(&self) -> bool {
        // What an older version settled without a coordinator is not recorded as confirmed.
        let has_coordinator = self.coordinator().is_some();
        matches!(self.state, ParticipantState::Settled(_)) && self.is_unconfirmed() && has_coordinator
    }

    /// Asks the coordinator how it ended.
    pub(super) fn ask(&mut self) -> Output {
        let output = Output::new(&self.txid);
        let Some(coordinator) = self.coordinator() else { return output };
        let output = output.send(coordinator, Message::Inquiry { txid: self.txid.clone() });
        self.is_unanswered = true;
        output
    }

    /// Keeps a message until the write that is under way has ended, unless that write is its answer.
    pub(super) fn defer(&mut self, from: &PeerAddr, message: &Message) {
        // The same prepare again gets its vote when the first is durable; taken up then, it would be voted on twice.
        let is_under_way = match (&self.asked, message) {
            (Some((asker, asked)), Message::Prepare(transfer)) => asker == from && asked == transfer,
            (_, _) => false,
        };
        let waits = self.deferred.iter().any(|(asker, deferred)| asker == from && deferred == message);
        // Whoever repeats itself is answered once, and whoever repeats itself endlessly can't fill the memory: what is
        // dropped is sent again.
        if !is_under_way && !waits && self.deferred.len() < DEFERRED_MAX {
            self.deferred.push((from.clone(), message.clone()));
        }
    }

    pub(super) fn check_invariants(&self) {
        let (txid, state) = (&self.txid, self.state);
        let has_legs = self.held.as_ref().is_some_and(|held| held.check_part().is_ok() && held.txid == *txid);
        let is_timed = self.due.is_some();
        let holds = match state {
            ParticipantState::Unknown => false,
            ParticipantState::Preparing => self.asked.is_some() && !is_timed,
            ParticipantState::Prepared => has_legs && is_timed == self.may_ask(),
            ParticipantState::Settled(_) if self.awaits_confirmation() => has_legs && is_timed == self.may_ask(),
            ParticipantState::Settling(Outcome::Committed)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_) => has_legs && !is_timed,
            // It may be an abort that came before its prepare, which has no legs.
            ParticipantState::Settling(Outcome::Aborted) => !is_timed,
            ParticipantState::Settled(_) | ParticipantState::Mixed(_) => is_timed,
        };
        assert!(holds, "{txid} breaks an invariant of {state:?}: {self:?}");
        assert!(state == ParticipantState::Preparing || self.asked.is_none(), "{txid} prepares in {state:?}");
        assert!(state.is_writing() || self.deferred.is_empty(), "{txid} keeps inputs waiting in {state:?}");
    }
}
