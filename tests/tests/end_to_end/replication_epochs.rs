//! One epoch, one copy: of copies that were promoted side by side none goes on beside another, a person is asked
//! before anything is lost, and no word about an epoch makes a branch useless.

use bank_tests::{Bank, Books, Branch, BranchConnection, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn deposit(branch: &Branch, rupees: i64) -> bool {
    // The connection may end in the moment in which the role does.
    let connection = BranchConnection::connect_with(branch.port(), &branch.key());
    let params = json!({"account_no": 1001, "amount": rupees});
    connection.and_then(|mut connection| connection.try_ask("deposit", params, None)).is_ok_and(|reply| reply.is_ok())
}

fn pay_delhi(branch: &Branch) -> String {
    let params = json!({"src_account_no": 1001, "dest_branch": "Delhi", "dest_account_no": 1002, "amount": 10});
    let connection = BranchConnection::connect_with(branch.port(), &branch.key());
    let reply = connection.and_then(|mut connection| connection.try_ask("inter_branch_transfer", params, None));
    reply.map_or_else(|_| "lost".into(), |reply| if reply.is_ok() { "ok".into() } else { reply.code().to_string() })
}

fn promote(branch: &Branch) -> Value {
    branch.connect().ask("promote", json!({"force": true})).ok()
}

fn is(branch: &Branch, role: &str, state: &str) -> bool {
    branch
        .replication()
        .is_some_and(|status| status["role"] == role && (state.is_empty() || status["replication"]["state"] == state))
}

/// Mumbai with two replicas that know of one another, and Delhi.
fn two_copies(bank: &Bank) -> (Branch, Branch, Branch, Branch) {
    let delhi = bank.branch("Delhi");
    let mumbai = bank.branch("Mumbai");
    let (one, other) = (bank.replica_of(&mumbai, "one"), bank.replica_of(&mumbai, "other"));
    Bank::introduce(&[&mumbai, &delhi]);
    for copy in [&one, &other] {
        copy.wait_until_caught_up(&mumbai);
        let known = || Books::open(copy.database_path()).number("SELECT count(*) FROM replication_members");
        wait_until("each copy knows the other", || known() == 2);
    }
    (mumbai, one, other, delhi)
}

#[test]
fn the_second_of_two_copies_that_are_promoted_takes_a_higher_epoch_and_is_not_promoted_unasked() {
    let bank = Bank::new();
    let (mut mumbai, one, other, delhi) = two_copies(&bank);
    mumbai.kill9();
    assert_eq!(promote(&one)["epoch"], 2);
    let refused = other.connect().ask("promote", json!({}));
    refused.refused("invalid_params");
    assert!(refused.text.contains("--yes"), "{}", refused.text);
    assert_eq!(promote(&other)["epoch"], 3);
    one.wait_until_state("fenced", "fenced");
    assert!(!deposit(&one, 1) && deposit(&other, 1));
    wait_until("the later one pays Delhi", || pay_delhi(&other) == "ok");
    assert_eq!(pay_delhi(&one), "fenced");
    Bank::wait_until_settled(&[&other, &delhi]);
    Bank::assert_exact(&[&other, &delhi]);
}

#[test]
fn two_copies_of_one_number_stop_both_until_a_person_chooses_one_and_the_peer_mixes_none_of_it() {
    let bank = Bank::new();
    let (mut mumbai, mut one, mut other, delhi) = two_copies(&bank);
    mumbai.kill9();
    // Neither can hear of the other when it is promoted. (To one that is only stopped the system would keep what it was
    // told meanwhile.)
    other.kill9();
    let first = promote(&one);
    wait_until("the first pays Delhi", || pay_delhi(&one) == "ok");
    one.signal(Signal::STOP);
    other.restart();
    let second = promote(&other);
    assert_eq!((&first["epoch"], &second["epoch"]), (&json!(2), &json!(2)));
    assert_ne!(first["epoch_id"], second["epoch_id"]);
    // The peer has met the first: it has nothing to do with the second, which hears of it there.
    wait_until("the second is refused by the peer and stops", || is(&other, "fenced", "conflict"));
    assert!(!deposit(&other, 1));
    assert_eq!(pay_delhi(&other), "fenced");
    one.signal(Signal::CONT);
    // The first hears of the second when one of them comes back and looks round.
    one.kill9();
    one.restart();
    wait_until("the first stops too", || is(&one, "fenced", "conflict"));
    let trouble = one.replication().unwrap()["replication"]["trouble"].to_string();
    assert!(trouble.contains("two copies") && trouble.contains("promote --yes"), "{trouble}");
    // It stays so over restarts, in which each says what it said.
    for copy in [&mut one, &mut other] {
        copy.kill9();
        copy.restart();
        assert!(is(copy, "fenced", "conflict"));
        copy.connect().ask("promote", json!({})).refused("invalid_params");
    }
    // A person chooses; the other one follows.
    assert_eq!(promote(&one)["epoch"], 3);
    assert!(deposit(&one, 1));
    wait_until("the other one hears of the choice", || {
        other.replication().is_some_and(|status| status["replication"]["state"] == "fenced")
    });
    other.connect().ask("demote", json!({"to": format!("127.0.0.1:{}", one.port())})).ok();
    other.wait_until_state("replica", "diverged");
    let trouble = other.replication().unwrap()["replication"]["trouble"].to_string();
    assert!(trouble.contains("group commits after group"), "{trouble}");
    other.connect().ask("resync", json!({})).ok();
    other.wait_until_following();
    other.wait_until_caught_up(&one);
    wait_until("Delhi deals with the chosen one", || pay_delhi(&one) == "ok");
    Bank::wait_until_settled(&[&one, &delhi]);
    Bank::assert_exact(&[&one, &delhi]);
}

#[test]
fn an_epoch_that_is_merely_claimed_stops_nobody_for_good() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let mumbai = bank.branch("Mumbai");
    Bank::introduce(&[&mumbai, &delhi]);
    let epoch = |of: &Branch| of.replication().unwrap()["epoch"].as_i64();
    // What can't be is not believed, whoever says it and of whom.
    for claimed in [i64::MAX, 1 << 62, -1] {
        let link = |branch: &str, epoch: i64, yours: i64| json!({"branch": branch, "port": 9, "instance": "x", "epoch": epoch, "your_epoch": yours});
        delhi.connect().ask("link", link("Mumbai", claimed, 0)).refused("invalid_params");
        let follow = json!({"branch": "Delhi", "port": 9, "epoch": claimed});
        delhi.connect().ask("follow", follow).refused("invalid_params");
        // A word about Delhi's own epoch is passed over.
        delhi.connect().ask("link", link("Pune", 1, claimed)).ok();
    }
    assert!(deposit(&delhi, 1) && epoch(&delhi).is_none());
    // What may be is believed; a person takes it back.
    mumbai.connect().ask("link", json!({"branch": "Delhi", "port": 9, "instance": "x", "epoch": 99})).ok();
    wait_until("Delhi is fenced", || is(&delhi, "fenced", "fenced"));
    delhi.connect().ask("promote", json!({})).refused("invalid_params");
    assert_eq!(promote(&delhi)["epoch"], 100);
    assert!(deposit(&delhi, 1), "it serves at once");
    wait_until("Mumbai deals with it again", || pay_delhi(&mumbai) == "ok");
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    Bank::assert_exact(&[&mumbai, &delhi]);
}

#[test]
fn a_replica_is_not_promoted_while_there_is_more_than_it_has_and_says_of_its_lag_only_what_it_knows() {
    let bank = Bank::new();
    let (mut mumbai, one, mut other, _delhi) = two_copies(&bank);
    // The one stands still; the other one gets more.
    one.signal(Signal::STOP);
    assert!(deposit(&mumbai, 7));
    other.wait_until_caught_up(&mumbai);
    mumbai.kill9();
    one.signal(Signal::CONT);
    wait_until("the one has lost its primary", || is(&one, "replica", "connecting"));
    let lag = one.replication().unwrap()["lag"].clone();
    assert!(lag["sequence"].is_null() && lag["seconds"].is_u64(), "{lag}");
    if one.sequence() < other.sequence() {
        let refused = one.connect().ask("promote", json!({}));
        refused.refused("invalid_params");
        assert!(refused.text.contains("group"), "{}", refused.text);
    }
    // One that was started anew knows nothing of its primary.
    other.kill9();
    other.restart();
    wait_until("it is a replica again", || is(&other, "replica", ""));
    assert_eq!(other.replication().unwrap()["lag"], json!({"sequence": null, "seconds": null}));
    // Nothing speaks against the one that has all.
    other.connect().ask("promote", json!({})).ok();
    assert!(deposit(&other, 1));
}

#[test]
fn a_promoted_copy_that_was_told_of_another_primary_before_stays_primary_when_it_is_started_as_before() {
    let bank = Bank::new();
    let (mut mumbai, one, mut other, _delhi) = two_copies(&bank);
    mumbai.kill9();
    promote(&one);
    wait_until("the other one follows the promoted one", || {
        let primary = format!("127.0.0.1:{}", one.port());
        other.replication().is_some_and(|status| status["replication"]["primary"] == primary)
    });
    promote(&other);
    assert!(deposit(&other, 1));
    other.kill9();
    other.restart();
    assert!(is(&other, "primary", "") && deposit(&other, 1));
}
