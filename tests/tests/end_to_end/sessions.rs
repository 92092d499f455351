//! What was opened with a password ends with it, at every port; and who sets a password gives the present one.

use bank_tests::{Branch, BranchConnection, Options};
use serde_json::{Value, json};

/// As many as one account has, by the server's limit.
const SESSIONS_PER_ACCOUNT: usize = 64;

fn login(account: u64, password: &str) -> Value {
    json!({"account_no": account, "password": password})
}

fn logged_in(branch: &Branch, account: u64, password: &str) -> BranchConnection {
    let mut connection = branch.connect_anonymously();
    connection.ask("login", login(account, password)).ok();
    connection
}

#[test]
fn a_changed_password_ends_the_other_sessions_at_every_port() {
    let branch = Branch::start(Options::preloaded());
    let mut thief = logged_in(&branch, 1001, "1001");
    let mut thief_at_menu = branch.log_in("1001", "1001");
    let mut other = logged_in(&branch, 1002, "1002");
    branch.connect().ask("set_password", login(1001, "a new one")).ok();
    thief.ask("withdraw", json!({"account_no": 1001, "amount": 1})).refused("session_ended");
    // It is a stranger's connection again.
    thief.ask("balance", json!({"account_no": 1001})).refused("not_allowed");
    let refused = thief_at_menu.answers(&["c", "1"]).unwrap();
    assert!(refused.expect_fail().contains("password was changed"), "{}", refused.text());
    assert!(thief_at_menu.answer("").unwrap().text().contains("Your choice"), "the first menu again");
    assert_eq!(other.balance(1002), "1000.00");
    assert_eq!(logged_in(&branch, 1001, "a new one").balance(1001), "1000.00");

    // At the menu the owner changes it, and goes on; everyone else is out.
    let mut thief = logged_in(&branch, 1001, "a new one");
    let mut owner = branch.log_in("1001", "a new one");
    owner.operation(&["g", "a new one", "the third", "the third"]).unwrap().expect_done();
    owner.deposit(5).unwrap().expect_done();
    thief.ask("balance", json!({"account_no": 1001})).refused("session_ended");

    // The administrator's menu too.
    let mut administrator = branch.log_in("0", "root");
    administrator.operation(&["f"]).unwrap().expect_done();
}

#[test]
fn a_customer_sets_no_password_without_the_present_one() {
    let branch = Branch::start(Options::preloaded());
    let (mut owner, mut other) = (logged_in(&branch, 1001, "1001"), logged_in(&branch, 1001, "1001"));
    let set = |present: Value| json!({"account_no": 1001, "password": "better", "present_password": present});
    owner.ask("set_password", login(1001, "mallory")).refused("invalid_params");
    owner.ask("set_password", set(json!(null))).refused("invalid_params");
    owner.ask("set_password", set(json!("wrong"))).refused("wrong_password");
    let batch = |atomic: bool, present: &str| {
        let request = json!({"action": "set_password", "params": set(json!(present))});
        json!({"atomic": atomic, "requests": [request]})
    };
    for atomic in [false, true] {
        let answers = owner.ask("batch", batch(atomic, "wrong")).ok();
        assert_eq!(answers[0]["code"], "wrong_password", "{answers}");
    }
    owner.ask_once("once", "set_password", set(json!("1001"))).ok();
    // A repeat gets the answer, although the present password is another one now.
    owner.ask_once("once", "set_password", set(json!("1001"))).ok();
    // The own session goes on, the other one doesn't.
    assert_eq!(owner.balance(1001), "1000.00");
    other.ask("balance", json!({"account_no": 1001})).refused("session_ended");
    for atomic in [false, true] {
        assert_eq!(owner.ask("batch", batch(atomic, "better")).ok()[0]["status"], "ok");
        assert_eq!(owner.balance(1001), "1000.00");
    }
    logged_in(&branch, 1001, "better");
}

#[test]
fn a_program_that_keeps_sessions_of_its_own_learns_of_changed_passwords() {
    let branch = Branch::start(Options::preloaded());
    let mut bridge = branch.connect();
    let versions = |bridge: &mut BranchConnection| {
        bridge.ask("password_versions", json!({"account_nos": [0, "1001", 1002, 4711]})).ok()
    };
    let checked = bridge.ask("check_password", login(1001, "1001")).ok();
    let before = versions(&mut bridge);
    assert_eq!((&before[1], &before[3]["password_version"]), (&checked, &Value::Null));
    // The same password again is a new one: it was set by someone.
    bridge.ask("set_password", login(1001, "1001")).ok();
    let after = versions(&mut bridge);
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
    assert_ne!(before[1], after[1]);
    bridge.ask("close_account", json!({"account_no": 1002})).ok();
    assert_eq!(versions(&mut bridge)[2]["password_version"], Value::Null);
    bridge.ask("password_versions", json!({"account_nos": vec![1001; 1_001]})).refused("invalid_params");
}

#[test]
fn many_sign_ins_of_one_account_sign_out_that_account_alone() {
    let branch = Branch::start(Options::preloaded());
    let (mut other, mut first) = (logged_in(&branch, 1002, "1002"), logged_in(&branch, 1001, "1001"));
    let mut newer: Vec<BranchConnection> =
        (0..SESSIONS_PER_ACCOUNT).map(|_| logged_in(&branch, 1001, "1001")).collect();
    assert!(first.is_closed(), "the oldest session goes on");
    assert_eq!(other.balance(1002), "1000.00");
    for session in &mut newer {
        assert_eq!(session.balance(1001), "1000.00");
    }
}
