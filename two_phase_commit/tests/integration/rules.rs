//! One test for each of the rules, by name; rule 13 is the driver's. The golden scripts show their cases one by one; here each
//! rule is one short story, told with the two machines and a disk that can crash.

use std::sync::Arc;

use protocol::{Money, TxId};
use two_phase_commit::{
    Booked, Coordinator, CoordinatorState, Decision, LedgerAction, Leg, Message, Notice, OnDisk, Options, Outcome,
    Output, Participant, ParticipantState, PeerAddr, Record, Refusal, Side, Site, Status, Transfer, Vote,
};

fn mumbai() -> PeerAddr {
    "Mumbai".into()
}

fn delhi() -> PeerAddr {
    "Delhi".into()
}

fn txid() -> TxId {
    "T1".parse().unwrap()
}

fn coordinator(log: &[Record]) -> (Coordinator, Vec<Output>) {
    let mut coordinator = Coordinator::new(Options::new(mumbai()));
    let outputs = coordinator.recover(log.to_vec());
    (coordinator, outputs)
}

fn participant(log: &[Record]) -> (Participant, Vec<Output>) {
    let mut participant = Participant::new(Options::new(delhi()));
    let outputs = participant.recover(log.to_vec());
    (participant, outputs)
}

fn legs() -> Vec<Leg> {
    let leg = |index, branch, account: &str, side| {
        let (account, amount) = (account.parse().unwrap(), Money::from_rupees(50));
        Leg { index, branch, account, amount, side }
    };
    vec![leg(0, None, "1001", Side::Withdraw), leg(1, Some(delhi()), "1002", Side::Deposit)]
}

fn prepare(coordinator: Option<PeerAddr>) -> Message {
    let legs = vec![Leg { branch: None, ..legs()[1].clone() }];
    Message::Prepare(Arc::new(Transfer { txid: txid(), coordinator, legs, note: "".into(), by_program: false }))
}

fn vote_yes() -> Message {
    Message::Vote { txid: txid(), vote: Vote::Yes }
}

fn decision(outcome: Outcome) -> Message {
    Message::Decision { txid: txid(), outcome }
}

fn acknowledged() -> Message {
    Message::Acknowledged { txid: txid(), outcome: Outcome::Committed, mixed: false }
}

fn messages(output: &Output) -> Vec<Message> {
    output.messages.iter().map(|envelope| envelope.message.clone()).collect()
}

fn actions(output: &Output) -> Vec<LedgerAction> {
    output.ledger_ops.iter().map(|op| op.action).collect()
}

/// A coordinator whose transaction is at its commit point, and its log.
fn committed() -> (Coordinator, Vec<Record>) {
    let (mut coordinator, _) = coordinator(&[]);
    let mut log = coordinator.begin(txid(), legs(), "").unwrap().records;
    let _ = coordinator.on_durable(&txid());
    log.extend(coordinator.step(&delhi(), &vote_yes(), &Booked::Nothing).records);
    let _ = coordinator.on_durable(&txid());
    (coordinator, log)
}

/// A participant that has voted yes, and its log.
fn prepared(of: Option<PeerAddr>) -> (Participant, Vec<Record>) {
    let asker = of.clone().unwrap_or_else(|| PeerAddr::program(8));
    let (mut participant, _) = participant(&[]);
    let log = participant.step(&asker, &prepare(of), OnDisk::Nothing).records;
    let _ = participant.on_durable(&txid());
    (participant, log)
}

#[test]
fn rule_01_begin_is_durable_with_its_hold_before_the_first_prepare() {
    let (mut coordinator, _) = coordinator(&[]);
    let output = coordinator.begin(txid(), legs(), "").unwrap();
    assert!(matches!(&output.records[..], [Record::Begun(transfer)] if transfer.legs == legs()));
    assert_eq!(actions(&output), [LedgerAction::Hold]);
    assert!(output.is_forced(), "the prepare waits for the disk");
    assert!(matches!(messages(&output)[..], [Message::Prepare(_)]));
    assert_eq!(coordinator.state(&txid()), CoordinatorState::Beginning, "and the machine knows that it waits");
    assert!(coordinator.tick(1_000_000).is_empty(), "nothing is sent again before it was sent once");
}

#[test]
fn rule_02_yes_only_after_record_and_hold_and_a_refusal_leaves_nothing() {
    let (mut participant, _) = participant(&[]);
    let output = participant.step(&mumbai(), &prepare(Some(mumbai())), OnDisk::Nothing);
    assert!(matches!(&output.records[..], [Record::Prepared(_)]) && output.is_forced());
    assert_eq!((actions(&output), messages(&output)), (vec![LedgerAction::Hold], vec![vote_yes()]));
    let output = participant.on_hold_refused(&txid(), Refusal::new("account_closed", "the account is closed"));
    assert!(!output.needs_write());
    assert!(
        matches!(&messages(&output)[..], [Message::Vote { vote: Vote::No(why), .. }] if why.code == "account_closed")
    );
    assert!(!participant.remembers(&txid()));
}

#[test]
fn rule_03_the_commit_record_and_the_own_legs_are_one_write_and_anything_else_aborts() {
    let (mut coordinator, _) = coordinator(&[]);
    let begin = |coordinator: &mut Coordinator| {
        let _ = coordinator.begin(txid(), legs(), "").unwrap();
        let _ = coordinator.on_durable(&txid());
    };
    begin(&mut coordinator);
    for input in ["no", "lost link", "timeout"] {
        let output = match input {
            "no" => {
                let vote = Vote::No(Refusal::new("insufficient_room", "the balance would be too large"));
                coordinator.step(&delhi(), &Message::Vote { txid: txid(), vote }, &Booked::Nothing)
            }
            "lost link" => coordinator.unreachable(&txid(), &delhi()),
            _ => coordinator.tick(1_000_000).remove(0),
        };
        assert_eq!(output.records, [Record::Aborted { txid: txid() }], "{input}");
        assert_eq!(actions(&output), [LedgerAction::Release], "{input}");
        let _ = coordinator.on_durable(&txid());
        begin(&mut coordinator);
    }
    let output = coordinator.step(&delhi(), &vote_yes(), &Booked::Nothing);
    assert_eq!(output.records, [Record::Committed { txid: txid() }]);
    assert_eq!(actions(&output), [LedgerAction::Apply]);
    assert_eq!(messages(&output), [decision(Outcome::Committed)]);
    assert_eq!(coordinator.status(&txid()), Status::Undecided, "the disk decides");
    let _ = coordinator.on_durable(&txid());
    assert_eq!(coordinator.status(&txid()), Status::Decided(Outcome::Committed));
}

#[test]
fn rule_04_a_commit_is_delivered_until_acknowledged_across_restarts() {
    let (mut first, mut log) = committed();
    for now in (1_000..100_000).step_by(1_000) {
        let sent: Vec<Message> = first.tick(now).iter().flat_map(messages).collect();
        assert_eq!(sent, [decision(Outcome::Committed)], "tick {now}");
    }
    let (mut second, outputs) = coordinator(&log);
    assert_eq!(outputs.iter().flat_map(messages).collect::<Vec<_>>(), [decision(Outcome::Committed)]);
    let output = second.step(&delhi(), &acknowledged(), &Booked::Nothing);
    assert!(output.notices.iter().any(|notice| matches!(notice, Notice::Delivered { .. })));
    log.extend(output.records);
    assert!(coordinator(&log).1.is_empty(), "what has ended is not delivered again");
}

#[test]
fn rule_05_not_knowing_means_aborted_but_only_after_recovery_and_retention() {
    let inquiry = Message::Inquiry { txid: txid() };
    let mut recovering = Coordinator::new(Options::new(mumbai()));
    assert!(recovering.step(&delhi(), &inquiry, &Booked::Nothing).is_empty());
    let (mut fresh, _) = coordinator(&[]);
    assert_eq!(messages(&fresh.step(&delhi(), &inquiry, &Booked::Nothing)), [decision(Outcome::Aborted)]);
    let _ = fresh.begin(txid(), legs(), "").unwrap();
    assert_eq!(messages(&fresh.step(&delhi(), &inquiry, &Booked::Nothing)), [Message::Undecided { txid: txid() }]);
    let (mut done, _) = committed();
    let _ = done.step(&delhi(), &acknowledged(), &Booked::Nothing);
    let _ = done.on_durable(&txid());
    let retention = Options::new(mumbai()).commit_retention_ticks;
    assert!(done.tick(retention - 1).is_empty());
    assert_eq!(messages(&done.step(&delhi(), &inquiry, &Booked::Nothing)), [decision(Outcome::Committed)]);
    assert_eq!(done.tick(retention).len(), 1);
    assert_eq!(done.state(&txid()), CoordinatorState::Unknown);
}

#[test]
fn rule_06_in_doubt_asks_and_never_decides_and_acknowledges_what_is_durable() {
    let (mut participant, _) = prepared(Some(mumbai()));
    for now in (1_000..1_000_000).step_by(1_000) {
        let outputs = participant.tick(now);
        assert_eq!(outputs.iter().flat_map(messages).collect::<Vec<_>>(), [Message::Inquiry { txid: txid() }]);
        assert!(outputs.iter().all(|output| !output.needs_write()));
    }
    let output = participant.step(&mumbai(), &decision(Outcome::Committed), OnDisk::Nothing);
    assert!(output.is_forced(), "the acknowledgement waits for the disk");
    assert_eq!((actions(&output), messages(&output)), (vec![LedgerAction::Apply], vec![acknowledged()]));
}

#[test]
fn rule_07_at_a_restart_undecided_aborts_decided_is_delivered_and_prepared_asks() {
    let (mut first, _) = coordinator(&[]);
    let begun = first.begin(txid(), legs(), "").unwrap().records;
    let (_, outputs) = coordinator(&begun);
    assert_eq!(
        (actions(&outputs[0]), messages(&outputs[0])),
        (vec![LedgerAction::Release], vec![decision(Outcome::Aborted)])
    );
    let (_, outputs) = coordinator(&committed().1);
    assert_eq!((actions(&outputs[0]), messages(&outputs[0])), (vec![], vec![decision(Outcome::Committed)]));
    let (participant, outputs) = participant(&prepared(Some(mumbai())).1);
    assert_eq!(messages(&outputs[0]), [Message::Inquiry { txid: txid() }]);
    assert_eq!(participant.state(&txid()), ParticipantState::Prepared);
}

#[test]
fn rule_08_every_message_has_one_effect_and_an_abort_before_its_prepare_is_remembered() {
    let (mut participant, _) = prepared(Some(mumbai()));
    let again = participant.step(&mumbai(), &prepare(Some(mumbai())), OnDisk::Nothing);
    assert!(!again.needs_write() && messages(&again) == [vote_yes()]);
    assert_eq!(
        actions(&participant.step(&mumbai(), &decision(Outcome::Committed), OnDisk::Nothing)),
        [LedgerAction::Apply]
    );
    let _ = participant.on_durable(&txid());
    let again = participant.step(&mumbai(), &decision(Outcome::Committed), OnDisk::Nothing);
    assert!(!again.needs_write() && messages(&again) == [acknowledged()]);

    let (mut participant, _) = self::participant(&[]);
    let tombstone = participant.step(&mumbai(), &decision(Outcome::Aborted), OnDisk::Nothing);
    assert!(tombstone.is_forced() && tombstone.ledger_ops.is_empty());
    let _ = participant.on_durable(&txid());
    let late = participant.step(&mumbai(), &prepare(Some(mumbai())), OnDisk::Nothing);
    assert!(
        matches!(&messages(&late)[..], [Message::Vote { vote: Vote::No(why), .. }] if why.code == Refusal::ABORTED)
    );
}

#[test]
fn rule_09_settled_by_hand_is_recorded_so_and_a_contrary_decision_makes_it_mixed() {
    let (mut participant, _) = prepared(Some(mumbai()));
    let output = participant.resolve_by_hand(&txid(), Outcome::Aborted, "the coordinator burnt down").unwrap();
    assert!(
        matches!(&output.records[..], [Record::Settled { by_hand: Some(reason), .. }] if &**reason == "the coordinator burnt down")
    );
    assert_eq!(actions(&output), [LedgerAction::Release]);
    let _ = participant.on_durable(&txid());
    let output = participant.step(&mumbai(), &decision(Outcome::Committed), OnDisk::Nothing);
    let (ours, theirs) = (Outcome::Aborted, Outcome::Committed);
    assert_eq!(output.records, [Record::Mixed { txid: txid(), ours, theirs }]);
    assert_eq!(actions(&output), [LedgerAction::Suspense { ours, theirs }], "nothing is overwritten");
    assert_eq!(messages(&output), [Message::Acknowledged { txid: txid(), outcome: theirs, mixed: true }]);
}

#[test]
fn rule_10_a_prepare_without_a_coordinator_waits_for_its_program_or_a_person() {
    let (mut first, log) = prepared(None);
    assert!(first.tick(1_000_000_000).is_empty());
    let (mut second, outputs) = participant(&log);
    assert!(outputs.is_empty() && second.tick(1_000_000_000).is_empty());
    assert_eq!(second.in_doubt().count(), 1);
    let output = second.step(&PeerAddr::program(9), &decision(Outcome::Committed), OnDisk::Nothing);
    assert_eq!(actions(&output), [LedgerAction::Apply], "its program");
    let output = first.resolve_by_hand(&txid(), Outcome::Aborted, "the program is gone").unwrap();
    assert_eq!(actions(&output), [LedgerAction::Release], "or a person");
}

#[test]
fn rule_11_only_the_coordinator_decides_and_only_the_first_asker_adds() {
    let program = PeerAddr::program(3);
    let refused = |output: &Output, code: &str| {
        assert!(!output.needs_write(), "nothing changes: {output:?}");
        let codes: Vec<_> = messages(output)
            .into_iter()
            .map(|message| match message {
                Message::Rejected { refusal, .. } | Message::Vote { vote: Vote::No(refusal), .. } => refusal.code,
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(codes, [code]);
    };
    let (mut participant, _) = prepared(Some(mumbai()));
    for outcome in [Outcome::Committed, Outcome::Aborted] {
        let output = participant.step(&program, &decision(outcome), OnDisk::Nothing);
        refused(&output, Refusal::COORDINATED);
        let output = participant.step(&"Pune".into(), &decision(outcome), OnDisk::Nothing);
        refused(&output, Refusal::NOT_PREPARED);
    }
    // A further leg, or the same once more, in the coordinator's name; and a branch in another's name.
    let mut further = legs()[1].clone();
    (further.index, further.branch) = (7, None);
    let further =
        Transfer { txid: txid(), coordinator: Some(mumbai()), legs: vec![further], note: "".into(), by_program: false };
    let output = participant.step(&program, &Message::Prepare(further.into()), OnDisk::Nothing);
    refused(&output, Refusal::ID_REUSED);
    refused(&participant.step(&program, &prepare(Some(mumbai())), OnDisk::Nothing), Refusal::ID_REUSED);
    refused(&self::participant(&[]).0.step(&delhi(), &prepare(Some(mumbai())), OnDisk::Nothing), Refusal::MALFORMED);
    // A restart changes nothing of that.
    let (mut participant, _) = self::participant(&prepared(Some(mumbai())).1);
    refused(&participant.step(&program, &decision(Outcome::Committed), OnDisk::Nothing), Refusal::COORDINATED);

    // A coordinator tells an outcome to the parties alone: nobody else's legs go along.
    let (mut coordinator, _) = committed();
    let inquiry = Message::Inquiry { txid: txid() };
    for (asker, outcome) in [(delhi(), Outcome::Committed), ("Pune".into(), Outcome::Aborted)] {
        assert_eq!(messages(&coordinator.step(&asker, &inquiry, &Booked::Nothing)), [decision(outcome)]);
    }
    // What a program prepared in the coordinator's name is no part of what the coordinator has committed.
    let (mut participant, _) = self::participant(&[]);
    let _ = participant.step(&program, &prepare(Some(mumbai())), OnDisk::Nothing);
    let _ = participant.on_durable(&txid());
    let output = participant.step(&mumbai(), &decision(Outcome::Committed), OnDisk::Nothing);
    assert_eq!(actions(&output), [LedgerAction::Release]);
    assert!(matches!(&messages(&output)[..], [Message::Rejected { .. }]));
}

#[test]
fn rule_12_what_the_books_know_was_committed_whoever_has_forgotten_it() {
    let inquiry = Message::Inquiry { txid: txid() };
    let (mut forgetful, _) = coordinator(&[]);
    let booked = Booked::Committed([delhi()].into());
    assert_eq!(messages(&forgetful.step(&delhi(), &inquiry, &booked)), [decision(Outcome::Committed)]);
    // For the parties whose legs are in the books alone.
    assert_eq!(messages(&forgetful.step(&"Pune".into(), &inquiry, &booked)), [decision(Outcome::Aborted)]);
    assert!(forgetful.step(&delhi(), &inquiry, &Booked::Unclear).is_empty(), "no answer is better than a wrong one");
    // The driver looks whenever the machine that is asked does not remember.
    let mut site = Site::new(Options::new(mumbai()));
    let _ = site.recover([]);
    assert!(site.needs_the_disk_for(&inquiry) && site.needs_the_disk_for(&decision(Outcome::Committed)));
    let _ = site.begin(txid(), legs(), "").unwrap();
    assert!(!site.needs_the_disk_for(&inquiry) && site.needs_the_disk_for(&decision(Outcome::Committed)));
    // A participant that has booked its leg follows no abort, and acknowledges a commit.
    let on_disk = OnDisk::Settled(Outcome::Committed);
    let (mut forgetful, _) = participant(&[]);
    assert_eq!(messages(&forgetful.step(&mumbai(), &decision(Outcome::Committed), on_disk)), [acknowledged()]);
    let output = forgetful.step(&mumbai(), &decision(Outcome::Aborted), on_disk);
    assert!(!output.needs_write());
    assert!(matches!(&messages(&output)[..], [Message::Rejected { refusal, .. }] if refusal.code == Refusal::SETTLED));
}

#[test]
fn rule_14_what_the_other_side_cannot_follow_is_recorded_and_a_person_ends_it() {
    let rejected = |code: &'static str| Message::Rejected { txid: txid(), refusal: Refusal::new(code, "") };
    let (mut first, mut log) = committed();
    assert!(first.resolve_by_hand(&txid(), Outcome::Aborted, "").is_err(), "Delhi is silent, and may have paid");
    let output = first.step(&delhi(), &rejected(Refusal::NOT_PREPARED), &Booked::Nothing);
    assert!(matches!(&output.notices[..], [Notice::Contradicted { .. }]));
    log.extend(output.records);
    let _ = first.on_durable(&txid());
    assert!(first.step(&delhi(), &rejected(Refusal::NOT_PREPARED), &Booked::Nothing).is_empty(), "it is told once");
    // It is told again only now and then, and a restart still knows.
    let sent = |coordinator: &mut Coordinator, ticks: u64| {
        (1..=ticks).flat_map(|now| coordinator.tick(now)).flat_map(|output| messages(&output)).count()
    };
    let insist_ticks = Options::new(mumbai()).insist_ticks;
    assert_eq!(sent(&mut first, insist_ticks * 3), 3);
    let (mut second, _) = coordinator(&log);
    assert_eq!(second.contradicted_by(&txid()).count(), 1);
    let output = second.resolve_by_hand(&txid(), Outcome::Aborted, "Delhi was restored").unwrap();
    assert!(matches!(&output.records[..], [Record::Resolved { .. }]) && output.is_forced());
    assert_eq!(actions(&output), [LedgerAction::SettleElsewhere { ours: Outcome::Committed }]);
    log.extend(output.records);
    let _ = second.on_durable(&txid());
    assert!(second.tick(500).is_empty(), "nothing is delivered any more");
    let inquiry = Message::Inquiry { txid: txid() };
    let answer = messages(&second.step(&delhi(), &inquiry, &Booked::Nothing));
    assert_eq!(answer, [decision(Outcome::Aborted)], "the money of its part stands on the suspense account");
    assert!(coordinator(&log).1.is_empty());

    // An abort that somebody contradicts: this log is older than the decision.
    let begun = coordinator(&[]).0.begin(txid(), legs(), "").unwrap().records;
    let (mut restored, _) = coordinator(&begun);
    let _ = restored.on_durable(&txid());
    let output = restored.step(&delhi(), &rejected(Refusal::SETTLED), &Booked::Nothing);
    let [Record::Contradicted { ours: Outcome::Aborted, .. }] = &output.records[..] else { panic!("{output:?}") };
    let log = output.records.clone();
    let (mut restored, _) = coordinator(&log);
    let output = restored.resolve_by_hand(&txid(), Outcome::Committed, "Delhi has paid").unwrap();
    assert_eq!(actions(&output), [LedgerAction::SettleElsewhere { ours: Outcome::Aborted }]);

    // One that is not decided can be given up, and in no other way settled.
    let (mut voting, _) = coordinator(&[]);
    let _ = voting.begin(txid(), legs(), "").unwrap();
    let _ = voting.on_durable(&txid());
    assert!(voting.resolve_by_hand(&txid(), Outcome::Committed, "").is_err());
    let output = voting.resolve_by_hand(&txid(), Outcome::Aborted, "the client is gone").unwrap();
    assert_eq!(actions(&output), [LedgerAction::Release]);
}

#[test]
fn the_client_hears_of_the_commit_with_the_commit_point_and_of_an_abort_with_its_reason() {
    let (mut coordinator, _) = coordinator(&[]);
    let _ = coordinator.begin(txid(), legs(), "").unwrap();
    let output = coordinator.on_hold_refused(&txid(), Refusal::new("insufficient_funds", "insufficient funds"));
    let [Notice::Decided { decision: Decision::Aborted(reason), .. }] = &output.notices[..] else {
        panic!("{output:?}");
    };
    assert_eq!(reason.to_string(), "refused here, insufficient_funds: insufficient funds");
}

#[test]
fn what_a_coordinator_wrote_under_the_same_id_takes_nothing_from_what_is_prepared() {
    let Message::Prepare(transfer) = prepare(Some(mumbai())) else { unreachable!("it is a prepare") };
    let begun = Record::Begun(Arc::new(Transfer {
        txid: txid(),
        coordinator: Some(delhi()),
        legs: legs(),
        note: "".into(),
        by_program: false,
    }));
    let settled = Record::Settled { txid: txid(), outcome: Outcome::Committed, by_hand: Some("gone".into()) };
    let all = [begun, Record::Committed { txid: txid() }, Record::Aborted { txid: txid() }];
    for coordinators in all.iter().chain([&Record::Ended { txid: txid(), mixed: std::collections::BTreeSet::new() }]) {
        let prepared = Record::Prepared(Arc::clone(&transfer));
        let (recovered, asks) = participant(&[prepared.clone(), coordinators.clone()]);
        assert_eq!((recovered.state(&txid()), asks.len()), (ParticipantState::Prepared, 1), "{coordinators}");
        let (recovered, _) =
            participant(&[prepared, settled.clone(), coordinators.clone(), Record::Confirmed { txid: txid() }]);
        assert_eq!(recovered.state(&txid()), ParticipantState::Settled(Outcome::Committed), "{coordinators}");
    }
}
