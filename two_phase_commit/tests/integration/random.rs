//! Any input in any order: whatever peers send, however writes end, no machine breaks an invariant.
//!
//! Unlike the simulator and the model, the peers here keep to no protocol at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use protocol::{Money, TxId};
use two_phase_commit::{
    Backoff, Booked, Coordinator, LedgerAction, Leg, Message, OnDisk, Options, Outcome, Output, Participant,
    ParticipantState, PeerAddr, Record, Refusal, Side, Transfer, Vote,
};

fn options() -> Options {
    let mut options = Options::new("Mumbai".into());
    (options.resend, options.inquiry) =
        (Backoff { first_ticks: 2, max_ticks: 9 }, Backoff { first_ticks: 3, max_ticks: 7 });
    (options.vote_timeout_ticks, options.commit_retention_ticks) = (20, 15);
    (options.settled_retention_ticks, options.retained_max, options.prepared_max) = (25, 2, 3);
    options
}

fn txid(number: u8) -> TxId {
    format!("T{number}").parse().unwrap()
}

fn leg(index: u32, branch: Option<&str>, side: Side, rupees: u32) -> Leg {
    let (account, amount) = ("1001".parse().unwrap(), Money::from_rupees(rupees));
    Leg { index, branch: branch.map(PeerAddr::new), account, amount, side }
}

fn refusal() -> Refusal {
    Refusal::new("refused", "the ledger refuses")
}

fn settled() -> Refusal {
    Refusal::new(Refusal::SETTLED, "it has ended")
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Committed), Just(Outcome::Aborted)]
}

fn txids() -> impl Strategy<Value = TxId> {
    (0_u8..4).prop_map(txid)
}

fn messages() -> impl Strategy<Value = Message> {
    let coordinators = prop_oneof![Just(None), Just(Some(PeerAddr::new("Delhi")))];
    let prepare = (txids(), coordinators, proptest::collection::vec((0_u32..3, 0_u32..3), 0..3));
    prop_oneof![
        4 => prepare.prop_map(|(txid, coordinator, legs)| {
            let legs = legs.into_iter().map(|(index, rupees)| leg(index, None, Side::Deposit, rupees)).collect();
            Message::Prepare(Arc::new(Transfer { txid, coordinator, legs, note: "".into(), by_program: false }))
        }),
        4 => (txids(), outcomes()).prop_map(|(txid, outcome)| Message::Decision { txid, outcome }),
        4 => txids().prop_map(|txid| Message::Vote { txid, vote: Vote::Yes }),
        1 => txids().prop_map(|txid| Message::Vote { txid, vote: Vote::No(refusal()) }),
        2 => (txids(), outcomes(), any::<bool>())
            .prop_map(|(txid, outcome, mixed)| Message::Acknowledged { txid, outcome, mixed }),
        1 => txids().prop_map(|txid| Message::Inquiry { txid }),
        1 => txids().prop_map(|txid| Message::Undecided { txid }),
        1 => txids().prop_map(|txid| Message::Rejected { txid, refusal: refusal() }),
        1 => txids().prop_map(|txid| Message::Rejected { txid, refusal: settled() }),
    ]
}

#[derive(Clone, Debug)]
enum Input {
    Message(u8, Message),
    Begin(TxId),
    Resolve(TxId, Outcome),
    Cancel(TxId),
    Unreachable(TxId, bool),
    Tick(u64),
    /// The oldest write is durable, or refused where it may be.
    Write(bool),
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => (0_u8..3, messages()).prop_map(|(sender, message)| Input::Message(sender, message)),
        2 => txids().prop_map(Input::Begin),
        1 => (txids(), outcomes()).prop_map(|(txid, outcome)| Input::Resolve(txid, outcome)),
        1 => txids().prop_map(Input::Cancel),
        1 => (txids(), any::<bool>()).prop_map(|(txid, is_delhi)| Input::Unreachable(txid, is_delhi)),
        2 => (0_u64..12).prop_map(Input::Tick),
        6 => any::<bool>().prop_map(Input::Write),
    ]
}

fn peer(is_delhi: bool) -> PeerAddr {
    PeerAddr::new(if is_delhi { "Delhi" } else { "Pune" })
}

/// A branch, another, or an outside program.
fn sender(number: u8) -> PeerAddr {
    if number == 2 { PeerAddr::program(7) } else { peer(number == 0) }
}

/// Keeps the writes under way, and asserts that there is one at a time for a transaction.
#[derive(Default)]
struct Writes {
    under_way: Vec<Output>,
}

impl Writes {
    fn take(&mut self, output: Output) {
        if output.needs_write() {
            assert!(self.under_way.iter().all(|other| other.txid != output.txid), "two writes for one transaction");
            self.under_way.push(output);
        }
    }

    /// The oldest write, and whether the ledger refuses it.
    fn next(&mut self, wants_refusal: bool) -> Option<(TxId, bool)> {
        if self.under_way.is_empty() {
            return None;
        }
        let output = self.under_way.remove(0);
        let is_hold = output.ledger_ops.iter().any(|op| op.action == LedgerAction::Hold);
        Some((output.txid, wants_refusal && is_hold))
    }
}

proptest! {
    #[test]
    fn no_input_breaks_a_participant(inputs in proptest::collection::vec(inputs(), 1..120)) {
        let mut participant = Participant::new(options());
        let _ = participant.recover([]);
        let (mut writes, mut now) = (Writes::default(), 0);
        let mut settled: BTreeMap<TxId, Outcome> = BTreeMap::new();
        for input in inputs {
            match input {
                Input::Message(from, message) => {
                    writes.take(participant.step(&sender(from), &message, OnDisk::Nothing));
                }
                Input::Resolve(txid, outcome) => {
                    if let Ok(output) = participant.resolve_by_hand(&txid, outcome, "why not") {
                        writes.take(output);
                    }
                }
                Input::Tick(ticks) => {
                    now += ticks;
                    participant.tick(now).into_iter().for_each(|output| writes.take(output));
                    prop_assert!(participant.next_deadline().is_none_or(|deadline| deadline > now));
                }
                Input::Write(wants_refusal) => match writes.next(wants_refusal) {
                    Some((txid, true)) => writes.take(participant.on_hold_refused(&txid, refusal())),
                    Some((txid, false)) => writes.take(participant.on_durable(&txid)),
                    None => {}
                },
                Input::Begin(_) | Input::Cancel(_) | Input::Unreachable(..) => {}
            }
            participant.check_invariants();
            // What has settled stays so for as long as it is remembered.
            settled.retain(|txid, _| participant.remembers(txid));
            for (txid, state) in participant.transactions() {
                if let ParticipantState::Settled(outcome) | ParticipantState::Mixed(outcome) = state {
                    prop_assert_eq!(*settled.entry(txid.clone()).or_insert(outcome), outcome);
                }
            }
        }
    }

    #[test]
    fn no_input_breaks_a_coordinator(inputs in proptest::collection::vec(inputs(), 1..120)) {
        let mut coordinator = Coordinator::new(options());
        let (mut writes, mut now) = (Writes::default(), 0);
        // One that was undecided at the crash is told as aborted for a while, whoever knows better.
        let coordinator_address = Some(options().own_address);
        let legs = vec![leg(0, None, Side::Withdraw, 1), leg(1, Some("Delhi"), Side::Deposit, 1)];
        let begun = Transfer { txid: txid(0), coordinator: coordinator_address, legs, note: "".into(), by_program: false };
        coordinator.recover([Record::Begun(begun.into())]).into_iter().for_each(|output| writes.take(output));
        for input in inputs {
            match input {
                Input::Message(from, message) => {
                    writes.take(coordinator.step(&sender(from), &message, &Booked::Nothing));
                }
                Input::Begin(txid) => {
                    let legs = vec![
                        leg(0, None, Side::Withdraw, 3),
                        leg(1, Some("Delhi"), Side::Deposit, 1),
                        leg(2, Some("Pune"), Side::Deposit, 2),
                    ];
                    if let Ok(output) = coordinator.begin(txid, legs, "") {
                        writes.take(output);
                    }
                }
                Input::Cancel(txid) => writes.take(coordinator.cancel(&txid, "why not")),
                Input::Unreachable(txid, is_delhi) => {
                    writes.take(coordinator.unreachable(&txid, &peer(is_delhi)));
                }
                Input::Tick(ticks) => {
                    now += ticks;
                    coordinator.tick(now).into_iter().for_each(|output| writes.take(output));
                    prop_assert!(coordinator.next_deadline().is_none_or(|deadline| deadline > now));
                }
                Input::Write(wants_refusal) => match writes.next(wants_refusal) {
                    Some((txid, true)) => writes.take(coordinator.on_hold_refused(&txid, refusal())),
                    Some((txid, false)) => writes.take(coordinator.on_durable(&txid)),
                    None => {}
                },
                Input::Resolve(txid, outcome) => {
                    if let Ok(output) = coordinator.resolve_by_hand(&txid, outcome, "why not") {
                        writes.take(output);
                    }
                }
            }
            coordinator.check_invariants();
        }
    }
}
