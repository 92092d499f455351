//! A branch that voted yes and hears no more from the coordinator: it waits, shows what it waits for, and a person
//! may settle it. When the coordinator comes back the two agree, or the difference is on the suspense account.

use std::time::Duration;

use bank_tests::{Bank, Branch, Reply, SETTLED_WITHIN, audit, figure, wait_until, wait_until_within};
use protocol::answer::Pending;
use serde_json::{Value, json};

/// Mumbai, which dies at a point of a transfer of 50.00 to Delhi's account 1002, and Delhi, which is then in doubt.
struct InDoubt {
    mumbai: Branch,
    delhi: Branch,
    txid: String,
    _bank: Bank,
}

impl InDoubt {
    fn at(point: &str) -> Self {
        let bank = Bank::new();
        let (mut mumbai, delhi) = (bank.branch_that_crashes("Mumbai", point), bank.branch("Delhi"));
        let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "50.00",
            "dest_host": "127.0.0.1", "dest_port": delhi.port()});
        let answer = mumbai.connect().try_ask("inter_branch_transfer", params, Some("pay-1"));
        assert!(answer.is_err(), "the branch was to die: {answer:?}");
        mumbai.wait_for_crash();
        let pending = pending(&delhi);
        assert_eq!(pending.len(), 1, "{pending:?}");
        Self { mumbai, delhi, txid: pending[0].txid.to_string(), _bank: bank }
    }

    fn resolve(&self, outcome: &str, reason: &str) -> Reply {
        self.delhi.connect().ask("resolve", json!({"txid": self.txid, "outcome": outcome, "reason": reason}))
    }

    fn status(&self, branch: &Branch) -> String {
        branch.connect().ask("tx_status", json!({"txid": self.txid})).ok()["outcome"].as_str().unwrap().to_string()
    }
}

fn pending(branch: &Branch) -> Vec<Pending> {
    branch.connect().ask("list_pending", json!({})).result()
}

fn audit_of(branch: &Branch) -> Value {
    branch.connect().ask("audit", json!({})).ok()
}

/// Waits until the branch's audit finds the suspense account in use.
fn wait_for_suspense(branch: &Branch, amount: &str) -> Value {
    let mut audit = Value::Null;
    wait_until_within(SETTLED_WITHIN, "the difference is on the suspense account", || {
        audit = audit_of(branch);
        figure(&audit["suspense"]) == amount
    });
    audit
}

#[test]
fn what_is_in_doubt_is_shown_and_never_decided_alone() {
    let mut case = InDoubt::at("before-decision");
    let shown = &pending(&case.delhi)[0];
    assert_eq!((shown.state.as_str(), shown.coordinator.as_deref()), ("prepared", Some("Mumbai")));
    assert!(shown.legs[0].contains("50.00") && shown.legs[0].contains("1002"), "{shown:?}");
    wait_until("the coordinator's silence shows", || !pending(&case.delhi)[0].coordinator_answers);
    assert_eq!(case.status(&case.delhi), "undecided");
    // Its age grows, and neither that nor a restart decides anything.
    wait_until("it is older than any inquiry's back-off", || pending(&case.delhi)[0].age_seconds >= 3);
    case.delhi.kill9();
    case.delhi.restart();
    let after = &pending(&case.delhi)[0];
    assert!(after.txid.to_string() == case.txid && after.age_seconds >= 3, "{after:?}");
    assert_eq!(case.delhi.connect().ask("status", json!({})).ok()["in_doubt"].to_string(), "1");
    assert_eq!(case.delhi.connect().balance(1002), "1000.00");
    // Everything else goes on.
    case.delhi.connect().ask("deposit", json!({"account_no": 1002, "amount": 5})).ok();
    case.mumbai.restart();
    Bank::wait_until_settled(&[&case.mumbai, &case.delhi]);
    assert_eq!((case.status(&case.mumbai), case.status(&case.delhi)), ("aborted".into(), "aborted".into()));
    assert_eq!(case.delhi.connect().balance(1002), "1005.00");
    Bank::assert_exact(&[&case.mumbai, &case.delhi]);
}

#[test]
fn settling_by_hand_needs_a_reason_and_something_in_doubt() {
    let case = InDoubt::at("before-decision");
    for (outcome, reason) in [("abort", ""), ("abort", "  "), ("maybe", "because"), ("abort", &"x".repeat(501))] {
        case.resolve(outcome, reason).refused("invalid_params");
    }
    let mut connection = case.delhi.connect();
    let params = json!({"txid": "nobody", "outcome": "abort", "reason": "x"});
    connection.ask("resolve", params).refused("no_such_transfer");
    assert_eq!(case.status(&case.delhi), "undecided");
    assert_eq!(case.resolve("aborted", "Mumbai burnt down").text, r#"{"status":"ok","result":{"outcome":"aborted"}}"#);
    assert!(!case.resolve("commit", "no, it did not").is_ok());
    assert_eq!(case.status(&case.delhi), "aborted");
}

#[test]
fn settled_by_hand_as_the_coordinator_had_decided_is_confirmed() {
    for (point, outcome, money) in
        [("after-decision", "committed", ["950.00", "1050.00"]), ("before-decision", "aborted", ["1000.00", "1000.00"])]
    {
        let mut case = InDoubt::at(point);
        case.resolve(outcome, "the courier brought Mumbai's paper log").ok();
        // Nothing is in doubt any more, and nothing is left for a person to do.
        assert_eq!(case.delhi.connect().ask("status", json!({})).ok()["in_doubt"].to_string(), "0");
        assert!(pending(&case.delhi).is_empty());
        // The hand's decision survives a crash of its own branch.
        case.delhi.kill9();
        case.delhi.restart();
        assert_eq!(case.delhi.connect().balance(1002), money[1]);
        case.mumbai.restart();
        Bank::wait_until_settled(&[&case.mumbai, &case.delhi]);
        let txid = case.txid.clone();
        case.delhi.log().wait_for("the confirmation", |log| {
            log.lines().any(|line| line.contains(&txid) && line.contains("confirmed by its coordinator"))
        });
        assert!(pending(&case.delhi).is_empty());
        assert_eq!([case.mumbai.connect().balance(1001), case.delhi.connect().balance(1002)], money);
        assert_eq!((case.status(&case.mumbai).as_str(), case.status(&case.delhi).as_str()), (outcome, outcome));
        Bank::assert_exact(&[&case.mumbai, &case.delhi]);
    }
}

#[test]
fn given_up_by_hand_what_the_coordinator_had_committed_is_mixed() {
    let mut case = InDoubt::at("after-decision");
    case.resolve("abort", "nobody knew").ok();
    // It is released: the account may even be closed.
    assert_eq!(
        case.delhi.connect().ask("close_account", json!({"account_no": 1002})).ok()["paid_out"].to_string(),
        "1000.00"
    );
    case.mumbai.restart();
    let audit = wait_for_suspense(&case.delhi, "50.00");
    assert_eq!(audit["ok"], false);
    let findings = audit["findings"].as_array().unwrap();
    assert!(findings.len() == 1 && findings[0].as_str().unwrap().contains("suspense"), "{audit}");
    mixed_stays_mixed(&mut case, "50.00");
    assert_eq!(case.mumbai.connect().balance(1001), "950.00");
}

#[test]
fn carried_out_by_hand_what_the_coordinator_had_aborted_is_mixed() {
    let mut case = InDoubt::at("before-decision");
    case.resolve("commit", "it seemed a good idea").ok();
    // The money is there and can be spent.
    case.delhi.connect().ask("withdraw", json!({"account_no": 1002, "amount": 1050})).ok();
    case.mumbai.restart();
    wait_for_suspense(&case.delhi, "-50.00");
    mixed_stays_mixed(&mut case, "-50.00");
    assert_eq!(case.mumbai.connect().balance(1001), "1000.00");
}

/// Nothing is pending; a restart of either branch changes nothing; the branches agree on what they owe one another;
/// the identity of the whole bank holds with the suspense account in it; the program's audit at rest says the same.
fn mixed_stays_mixed(case: &mut InDoubt, suspense: &str) {
    Bank::wait_until_settled(&[&case.mumbai, &case.delhi]);
    let before = case.delhi.connect().ask("history", json!({})).text;
    for restarted in [&mut case.delhi, &mut case.mumbai] {
        restarted.kill9();
        restarted.restart();
    }
    Bank::wait_until_settled(&[&case.mumbai, &case.delhi]);
    let (here, there) = (audit_of(&case.mumbai), audit_of(&case.delhi));
    assert_eq!(case.delhi.connect().ask("history", json!({})).text, before, "booked again");
    assert_eq!(there["suspense"].to_string(), suspense, "{there}");
    assert_eq!((&here["ok"], &here["findings"]), (&json!(true), &json!([])), "{here}");
    let paise = |json: &Value| -> i128 { json.to_string().replace('.', "").parse().unwrap() };
    let due = |audit: &Value, peer: &str| audit["due"].get(peer).map_or(0, paise);
    assert_eq!(due(&here, "Delhi") + due(&there, "Mumbai"), 0, "{here} {there}");
    let sum = |field: &str| paise(&here[field]) + paise(&there[field]);
    assert_eq!(sum("balances") + sum("in_transit") + sum("suspense"), sum("paid_in") - sum("paid_out"));
    case.delhi.stop();
    let at_rest = audit(case.delhi.database_path());
    assert!(!at_rest.ok && at_rest.findings.iter().any(|finding| finding.contains("suspense")), "{at_rest:?}");
    case.delhi.restart();
}

#[test]
fn one_that_cannot_be_settled_holds_up_nothing() {
    let mut case = InDoubt::at("after-decision");
    // Mumbai stays away. Delhi restarts, stops in time, and works.
    for _ in 0..2 {
        let start = std::time::Instant::now();
        assert_eq!(case.delhi.stop(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(4), "stopping took {:?}", start.elapsed());
        case.delhi.restart();
        let mut connection = case.delhi.connect();
        let transfer = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1});
        connection.ask("local_transfer", transfer).ok();
        assert!(connection.ask("prepare_withdraw", json!({"txid": "x", "account_no": 1001, "amount": 1})).is_ok());
        connection.ask("close_account", json!({"account_no": 1002})).refused("money_held");
    }
    assert_eq!(pending(&case.delhi).len(), 2);
    let mut connection = case.delhi.connect();
    connection.ask("commit_withdraw", json!({"txid": "x"})).ok();
    case.mumbai.restart();
    wait_until_within(SETTLED_WITHIN, "it is settled", || pending(&case.delhi).is_empty());
    assert_eq!(connection.balance(1002), "1052.00");
    // The client that never got its answer asks again, under its id, and finds the transfer done.
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "50.00",
        "dest_host": "127.0.0.1", "dest_port": case.delhi.port()});
    let again = case.mumbai.connect().ask_once("pay-1", "inter_branch_transfer", params);
    assert_eq!(again.ok()["txid"], case.txid);
    assert_eq!(case.mumbai.connect().balance(1001), "950.00");
}

#[test]
fn the_older_way_of_naming_a_coordinator_by_its_address() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    // Delhi is asked to prepare and told that Mumbai decides; Mumbai has never heard of it: presumed abort.
    let params = json!({"txid": "stray", "account_no": 1001, "amount": 10,
        "coordinator": format!("127.0.0.1:{}", mumbai.port())});
    delhi.connect().ask("prepare_withdraw", params).ok();
    wait_until_within(SETTLED_WITHIN, "the coordinator has answered", || pending(&delhi).is_empty());
    let balance = delhi.connect().ask("balance", json!({"account_no": 1001})).ok();
    assert_eq!(balance["available"].to_string(), "1000.00");
    Bank::assert_exact(&[&mumbai, &delhi]);
}
