//! The raw actions of two-phase commit, as an outside program drives them: what is prepared can't be spent by
//! anything, can always be committed, and happens once, however often it is asked for.

use bank_tests::{Bank, Branch, BranchConnection};
use serde_json::{Value, json};

fn prepare(txid: &str, account: u64, amount: &str) -> Value {
    json!({"txid": txid, "account_no": account, "amount": amount})
}

fn balance(connection: &mut BranchConnection, account: u64) -> String {
    let balance = connection.ask("balance", json!({"account_no": account})).ok();
    format!("{} of {}", balance["available"], balance["balance"])
}

fn kill_and_restart(branch: &mut Branch) {
    branch.kill9();
    branch.restart();
}

const YES: &str = r#"{"status":"ok","result":{"vote":"yes"}}"#;
const COMMITTED: &str = r#"{"status":"ok","result":{"outcome":"committed"}}"#;
const ABORTED: &str = r#"{"status":"ok","result":{"outcome":"aborted"}}"#;
const UNDECIDED: &str = r#"{"status":"ok","result":{"outcome":"undecided"}}"#;

#[test]
fn prepared_money_cannot_be_spent_by_anything() {
    let bank = Bank::new();
    let (mut mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    assert_eq!(mumbai.connect().ask("prepare_withdraw", prepare("T-1", 1001, "900")).text, YES);
    for is_restarted in [false, true] {
        if is_restarted {
            kill_and_restart(&mut mumbai);
        }
        let mut connection = mumbai.connect();
        assert_eq!(balance(&mut connection, 1001), "100.00 of 1000.00");
        let transfer = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "100.01"});
        let mut abroad = transfer.clone();
        abroad["dest_branch"] = json!("Delhi");
        let legs = json!([{"account_no": 1002, "amount": 50}, {"account_no": 1002, "amount": "50.01", "dest_branch": "Delhi"}]);
        let withdraw = json!({"action": "withdraw", "params": {"account_no": 1001, "amount": "100.01"}});
        for (action, params) in [
            ("withdraw", json!({"account_no": 1001, "amount": "100.01"})),
            ("local_transfer", transfer),
            ("inter_branch_transfer", abroad),
            ("split_transfer", json!({"src_account_no": 1001, "legs": legs})),
            ("prepare_withdraw", prepare("T-2", 1001, "100.01")),
        ] {
            connection.ask(action, params).refused("insufficient_funds");
        }
        let batch = connection.ask("batch", json!({"requests": [withdraw], "atomic": true})).ok();
        assert_eq!(batch[0]["code"], "insufficient_funds");
        connection.ask("close_account", json!({"account_no": 1001})).refused("money_held");
        // At the menu neither.
        let mut menu = mumbai.log_in("1001", "1001");
        let refused = menu.operation(&["c", "100.01"]).unwrap();
        assert!(refused.expect_fail().contains("100.00"), "{}", refused.text());
        assert!(!connection.ask("prepare_withdraw", prepare("T-1", 1001, "1")).is_ok());
    }
    let mut connection = mumbai.connect();
    // What is available can be spent, and to the last paisa.
    connection.ask("withdraw", json!({"account_no": 1001, "amount": "60"})).ok();
    assert_eq!(connection.ask("prepare_withdraw", prepare("T-3", 1001, "40")).text, YES);
    connection.ask("withdraw", json!({"account_no": 1001, "amount": "0.01"})).refused("insufficient_funds");
    assert_eq!(connection.ask("commit_withdraw", json!({"txid": "T-1"})).text, COMMITTED);
    assert_eq!(connection.ask("abort_withdraw", json!({"txid": "T-3"})).text, ABORTED);
    assert_eq!(balance(&mut connection, 1001), "40.00 of 40.00");
    connection.ask("withdraw", json!({"account_no": 1001, "amount": "40"})).ok();
    connection.ask("close_account", json!({"account_no": 1001})).ok();
}

#[test]
fn a_prepared_deposit_keeps_its_account_open_and_its_room_free() {
    let bank = Bank::new();
    let mut mumbai = bank.branch("Mumbai");
    let mut connection = mumbai.connect();
    let limit = "99999999999999.99";
    connection.ask("create_account", json!({"account_no": 2001, "name": "Rich", "balance": "99999999999999.00"})).ok();
    connection.ask("create_account", json!({"account_no": 2002, "name": "Empty"})).ok();
    assert_eq!(connection.ask("prepare_deposit", prepare("T-1", 2001, "0.90")).text, YES);
    assert_eq!(connection.ask("prepare_deposit", prepare("T-2", 2002, limit)).text, YES);
    drop(connection);
    kill_and_restart(&mut mumbai);
    let mut connection = mumbai.connect();
    for (action, params) in [
        ("deposit", json!({"account_no": 2001, "amount": "0.10"})),
        ("local_transfer", json!({"src_account_no": 1001, "dest_account_no": 2001, "amount": "0.10"})),
        ("prepare_deposit", prepare("T-3", 2001, "0.10")),
        ("deposit", json!({"account_no": 2002, "amount": "0.01"})),
    ] {
        connection.ask(action, params).refused("balance_limit");
    }
    connection.ask("close_account", json!({"account_no": 2002})).refused("money_held");
    // What is expected is not there yet.
    assert_eq!(balance(&mut connection, 2002), "0.00 of 0.00");
    connection.ask("withdraw", json!({"account_no": 2002, "amount": "0.01"})).refused("insufficient_funds");
    connection.ask("deposit", json!({"account_no": 2001, "amount": "0.09"})).ok();
    assert_eq!(connection.ask("commit_deposit", json!({"txid": "T-1"})).text, COMMITTED);
    assert_eq!(balance(&mut connection, 2001), format!("{limit} of {limit}"));
    assert_eq!(connection.ask("abort_deposit", json!({"txid": "T-2"})).text, ABORTED);
    connection.ask("close_account", json!({"account_no": 2002})).ok();
}

#[test]
fn repeats_are_answered_alike_and_happen_once_also_after_a_restart() {
    let bank = Bank::new();
    let mut mumbai = bank.branch("Mumbai");
    let commit = |connection: &mut BranchConnection| {
        for _ in 0..3 {
            assert_eq!(connection.ask("commit_withdraw", json!({"txid": "W"})).text, COMMITTED);
            assert_eq!(connection.ask("commit_deposit", json!({"txid": "D"})).text, COMMITTED);
            assert_eq!(connection.ask("abort_deposit", json!({"txid": "A"})).text, ABORTED);
            assert_eq!(connection.ask("tx_status", json!({"txid": "W"})).text, COMMITTED);
            assert_eq!(connection.ask("tx_status", json!({"txid": "A"})).text, ABORTED);
        }
        assert_eq!(
            [1001, 1002].map(|account| balance(connection, account)),
            ["990.00 of 990.00", "1020.00 of 1020.00"]
        );
        // What has ended one way can't end the other way, nor begin again.
        for (action, txid) in
            [("abort_withdraw", "W"), ("abort_deposit", "D"), ("commit_deposit", "A"), ("commit_withdraw", "never")]
        {
            let reply = connection.ask(action, json!({"txid": txid}));
            assert!(!reply.is_ok() && !reply.code().is_empty(), "{action} {txid}: {}", reply.text);
        }
        assert!(!connection.ask("prepare_deposit", prepare("A", 1001, "30")).is_ok());
    };
    let mut connection = mumbai.connect();
    for round in 0..2 {
        for _ in 0..3 {
            assert_eq!(connection.ask("prepare_withdraw", prepare("W", 1001, "10")).text, YES, "round {round}");
            assert_eq!(connection.ask("prepare_deposit", prepare("D", 1002, "20")).text, YES);
            assert_eq!(connection.ask("prepare_deposit", prepare("A", 1001, "30")).text, YES);
        }
        assert_eq!(balance(&mut connection, 1001), "990.00 of 1000.00");
        assert_eq!(connection.ask("tx_status", json!({"txid": "W"})).text, UNDECIDED);
        assert_eq!(connection.ask("list_pending", json!({})).ok().as_array().unwrap().len(), 3);
        kill_and_restart(&mut mumbai);
        connection = mumbai.connect();
    }
    // The same id with other legs is another transaction's.
    for other in [prepare("W", 1001, "10.01"), prepare("W", 1002, "10")] {
        assert!(!connection.ask("prepare_withdraw", other).is_ok());
    }
    commit(&mut connection);
    kill_and_restart(&mut mumbai);
    commit(&mut mumbai.connect());
    assert_eq!(mumbai.connect().ask("list_pending", json!({})).ok(), json!([]));
    let audit = mumbai.connect().ask("audit", json!({})).ok();
    assert_eq!(audit["ok"], true, "{audit}");
    // The other halves are the outside program's: money went out to it and came from it.
    assert_eq!(audit["in_transit"].to_string(), "-10.00");
}

#[test]
fn an_abort_that_comes_before_its_prepare_is_remembered_also_after_a_restart() {
    let bank = Bank::new();
    let mut mumbai = bank.branch("Mumbai");
    for (abort, prepared, txid) in
        [("abort_withdraw", "prepare_withdraw", "T-1"), ("abort_deposit", "prepare_deposit", "T-2")]
    {
        assert_eq!(mumbai.connect().ask(abort, json!({"txid": txid})).text, ABORTED);
        assert!(!mumbai.connect().ask(prepared, prepare(txid, 1001, "10")).is_ok());
        kill_and_restart(&mut mumbai);
        let refused = mumbai.connect().ask(prepared, prepare(txid, 1001, "10"));
        assert!(!refused.is_ok(), "{}", refused.text);
        assert_eq!(balance(&mut mumbai.connect(), 1001), "1000.00 of 1000.00");
    }
    Bank::wait_until_settled(&[&mumbai]);
    Bank::assert_exact(&[&mumbai]);
}

#[test]
fn a_refused_prepare_leaves_nothing() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let mut connection = mumbai.connect();
    for (action, params, code) in [
        ("prepare_withdraw", prepare("T", 999, "10"), "no_such_account"),
        ("prepare_deposit", prepare("T", 999, "10"), "no_such_account"),
        ("prepare_withdraw", prepare("T", 1001, "1000.01"), "insufficient_funds"),
        ("prepare_deposit", prepare("T", 1001, "99999999999999.99"), "balance_limit"),
        ("prepare_withdraw", prepare("T", 1001, "0"), "invalid_amount"),
        ("prepare_withdraw", prepare("", 1001, "1"), "invalid_params"),
        ("prepare_withdraw", prepare("a b", 1001, "1"), "invalid_params"),
        ("prepare_withdraw", json!({"account_no": 1001, "amount": 1}), "invalid_params"),
    ] {
        connection.ask(action, params).refused(code);
    }
    assert_eq!(connection.ask("list_pending", json!({})).text, r#"{"status":"ok","result":[]}"#);
    assert_eq!(balance(&mut connection, 1001), "1000.00 of 1000.00");
    // A refusal is no tombstone: the same id may be tried again.
    assert_eq!(connection.ask("prepare_withdraw", prepare("T", 1001, "1000")).text, YES);
    assert_eq!(connection.ask("commit_withdraw", json!({"txid": "T"})).text, COMMITTED);
}

#[test]
fn a_whole_transfer_by_an_outside_program() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let (mut here, mut there) = (mumbai.connect(), delhi.connect());
    assert_eq!(here.ask("prepare_withdraw", prepare("outside-1", 1001, "50")).text, YES);
    assert_eq!(there.ask("prepare_deposit", prepare("outside-1", 1002, "50")).text, YES);
    assert_eq!(here.ask("commit_withdraw", json!({"txid": "outside-1"})).text, COMMITTED);
    assert_eq!(there.ask("commit_deposit", json!({"txid": "outside-1"})).text, COMMITTED);
    assert_eq!((here.balance(1001), there.balance(1002)), ("950.00".into(), "1050.00".into()));
    for connection in [&mut here, &mut there] {
        let audit = connection.ask("audit", json!({})).ok();
        assert_eq!((&audit["ok"], &audit["findings"]), (&json!(true), &json!([])), "{audit}");
    }
}

#[test]
fn both_halves_in_one_branch_under_one_id() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let mut connection = mumbai.connect();
    assert_eq!(connection.ask("prepare_withdraw", prepare("both", 1001, "50")).text, YES);
    assert_eq!(connection.ask("prepare_deposit", prepare("both", 1002, "50")).text, YES);
    assert_eq!(connection.ask("commit_withdraw", json!({"txid": "both"})).text, COMMITTED);
    assert_eq!(connection.ask("commit_deposit", json!({"txid": "both"})).text, COMMITTED);
    assert_eq!([1001, 1002].map(|account| connection.balance(account)), ["950.00", "1050.00"]);
    let audit = connection.ask("audit", json!({})).ok();
    assert_eq!((&audit["ok"], audit["in_transit"].to_string().as_str()), (&json!(true), "0.00"), "{audit}");
}
