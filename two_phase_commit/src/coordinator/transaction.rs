//! One transaction at its coordinator: who has voted and acknowledged, and what must hold in each state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::CoordinatorState;
use crate::message::Message;
use crate::options::Tick;
use crate::output::{AbortReason, Output};
use crate::record::Outcome;
use crate::refusal::Refusal;
use crate::transfer::{PeerAddr, Transfer};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    pub(super) state: CoordinatorState,
    pub(super) transfer: Arc<Transfer>,
    pub(super) parties: BTreeMap<PeerAddr, Party>,
    /// Until when votes are waited for.
    pub(super) decide_by: Tick,
    /// How many sendings the back-off counts.
    pub(super) attempt: u32,
    /// When `expire` is to be called.
    pub(super) due: Option<Tick>,
    /// When those that have contradicted are told again.
    pub(super) insist_at: Tick,
    /// Until when an abort is told.
    pub(super) retract_until: Tick,
    /// Why it is to be aborted as soon as its begin is durable.
    pub(super) cancelled: Option<AbortReason>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Party {
    pub(super) voted_yes: bool,
    /// Set by the acknowledgement; true when the participant had been settled by hand the other way.
    pub(super) acknowledged: Option<bool>,
    /// Why it can't follow what was decided, if it has said so.
    pub(super) contradicted: Option<Refusal>,
    /// Whether a person has settled its part otherwise: it is told "aborted" should it ask.
    pub(super) given_up: bool,
}

impl Transaction {
    pub(super) fn new(transfer: Arc<Transfer>, voted_yes: bool) -> Self {
        let party = |peer| (peer, Party { voted_yes, acknowledged: None, contradicted: None, given_up: false });
        let parties = transfer.participants().into_iter().map(party).collect();
        let state = CoordinatorState::Unknown;
        let (decide_by, attempt, due, insist_at, retract_until) = (0, 0, None, 0, 0);
        Self { state, transfer, parties, decide_by, attempt, due, insist_at, retract_until, cancelled: None }
    }

    pub(super) fn enter(&mut self, next: CoordinatorState) {
        let (txid, state) = (&self.transfer.txid, self.state);
        assert!(state.may_become(next), "{txid} may not go from {state:?} to {next:?}");
        self.state = next;
    }

    /// Asks those that have not voted.
    pub(super) fn send_prepares(&self, output: Output) -> Output {
        // Whoever has voted is bound already; asked again, it would answer the same.
        let missing = self.parties.iter().filter(|(_, party)| !party.voted_yes);
        missing.fold(output, |output, (peer, _)| {
            output.send(peer, Message::Prepare(Arc::new(self.transfer.part_of(peer))))
        })
    }

    /// Tells those that have not acknowledged; those that have said that they can't follow, only if `insists`.
    pub(super) fn send_decisions(&self, output: Output, outcome: Outcome, insists: bool) -> Output {
        // Whoever can't follow stays unable for a long time. To tell it as often as one whose acknowledgement was lost
        // would fill the log at both ends.
        let is_missing = |party: &Party| party.acknowledged.is_none() && (insists || party.contradicted.is_none());
        let missing = self.parties.iter().filter(|(_, party)| is_missing(party));
        missing.fold(output, |output, (peer, _)| {
            output.send(peer, Message::Decision { txid: self.transfer.txid.clone(), outcome })
        })
    }

    /// Whether anyone is still waited for who has not said that it can't follow.
    pub(super) fn awaits_someone(&self) -> bool {
        self.parties.values().any(|party| party.acknowledged.is_none() && party.contradicted.is_none())
    }

    /// Those that have said that they can't follow, and have not been settled since.
    pub(super) fn contradicted(&self) -> impl Iterator<Item = (&PeerAddr, &Refusal)> {
        let open = self.parties.iter().filter(|(_, party)| party.acknowledged.is_none() && !party.given_up);
        open.filter_map(|(peer, party)| party.contradicted.as_ref().map(|refusal| (peer, refusal)))
    }

    pub(super) fn check_invariants(&self) {
        let (txid, state) = (&self.transfer.txid, self.state);
        assert_eq!(self.transfer.check_whole(), Ok(()), "{txid} makes or loses money");
        let votes_are_in = self.parties.values().all(|party| party.voted_yes);
        let none_acknowledged = self.parties.values().all(|party| party.acknowledged.is_none());
        let all_acknowledged = self.parties.values().all(|party| party.acknowledged.is_some());
        let is_timed = self.due.is_some();
        let holds = match state {
            // One that is not known is not in memory.
            CoordinatorState::Unknown => false,
            CoordinatorState::Beginning => none_acknowledged && !is_timed,
            CoordinatorState::Voting => !votes_are_in && none_acknowledged && is_timed,
            // The heart of it: no decision to commit without every vote, and nobody can have acknowledged it yet.
            CoordinatorState::Committing => votes_are_in && none_acknowledged && !is_timed,
            CoordinatorState::Aborting => none_acknowledged && !is_timed,
            CoordinatorState::Delivering => votes_are_in && !all_acknowledged && is_timed,
            CoordinatorState::Ending => votes_are_in && all_acknowledged && !is_timed,
            CoordinatorState::Ended => votes_are_in && all_acknowledged && is_timed,
            CoordinatorState::Retracting => !all_acknowledged && is_timed,
            CoordinatorState::Noting(_) => !all_acknowledged && !is_timed,
            CoordinatorState::Resolving(_) => all_acknowledged && !is_timed,
        };
        assert!(holds, "{txid} breaks an invariant of {state:?}: {self:?}");
    }
}
