//! A request with an id is carried out once, however often it is sent: the repeat gets the stored answer, also after
//! a crash; the id is its caller's, and names one request.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use bank_tests::{Bank, Branch, BranchConnection, Options, figure, frame, request};
use serde_json::{Value, json};

fn deposit(amount: &str) -> Value {
    json!({"account_no": 1001, "amount": amount})
}

#[test]
fn a_repeat_gets_the_stored_answer_also_after_a_crash() {
    let mut branch = Branch::start(Options::preloaded());
    let requests = [
        ("a", "deposit", deposit("100")),
        ("b", "withdraw", deposit("1")),
        ("c", "local_transfer", json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 2})),
        ("d", "create_account", json!({"name": "Asha", "balance": 5})),
        ("e", "create_account", json!({"account_no": 3000, "name": "Ravi"})),
        ("f", "close_account", json!({"account_no": 3000})),
        ("g", "set_password", json!({"account_no": 1001, "password": "another"})),
        (
            "h",
            "batch",
            json!({"requests": [{"action": "deposit", "params": deposit("3")},
            {"action": "deposit", "params": {"account_no": 9, "amount": 3}}]}),
        ),
        ("i", "batch", json!({"requests": [{"action": "deposit", "params": deposit("4")}], "atomic": true})),
    ];
    let mut connection = branch.connect();
    let answers: Vec<String> =
        requests.iter().map(|(id, action, params)| connection.ask_once(id, action, params.clone()).text).collect();
    assert_eq!(connection.balance(1001), "1104.00");
    for is_restarted in [false, true] {
        if is_restarted {
            branch.kill9();
            branch.restart();
            connection = branch.connect();
        }
        for ((id, action, params), answer) in requests.iter().zip(&answers) {
            assert_eq!(connection.ask_once(id, action, params.clone()).text, *answer, "{id} {action}");
        }
        assert_eq!(connection.balance(1001), "1104.00");
    }
    assert_eq!(connection.ask("list_accounts", json!({})).ok().as_array().unwrap().len(), 3);
}

#[test]
fn an_id_names_one_request() {
    let branch = Branch::start(Options::preloaded());
    let mut connection = branch.connect();
    connection.ask_once("id", "deposit", deposit("1")).ok();
    for (action, params) in [
        ("deposit", deposit("2")),
        ("withdraw", deposit("1")),
        ("create_account", json!({"name": "Asha"})),
        ("batch", json!({"requests": [], "atomic": true})),
        (
            "inter_branch_transfer",
            json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1, "dest_branch": "Mumbai"}),
        ),
    ] {
        connection.ask_once("id", action, params).refused("request_id_reused");
    }
    assert_eq!([1001, 1002].map(|account| connection.balance(account)), ["1001.00", "1000.00"]);
    // A refusal is not kept: with the same id it may be tried again, and with other parameters.
    connection.ask_once("again", "withdraw", deposit("5000")).refused("insufficient_funds");
    connection.ask("deposit", deposit("5000")).ok();
    connection.ask_once("again", "withdraw", deposit("5000")).ok();
    connection.ask_once("again", "withdraw", deposit("5000")).ok();
    assert_eq!(connection.balance(1001), "1001.00");
    // A balance is looked at anew.
    let balance =
        |connection: &mut BranchConnection| connection.ask_once("look", "balance", json!({"account_no": 1001})).text;
    let before = balance(&mut connection);
    connection.ask("deposit", deposit("1")).ok();
    assert_ne!(balance(&mut connection), before);
}

#[test]
fn ids_of_two_callers_are_apart() {
    let branch = Branch::start(Options::preloaded());
    let mut operator = branch.connect();
    let mut customers = [1001, 1002].map(|account| {
        let mut connection = branch.connect_anonymously();
        connection.ask("login", json!({"account_no": account, "password": account.to_string()})).ok();
        connection
    });
    operator.ask_once("id", "deposit", deposit("1")).ok();
    customers[0].ask_once("id", "deposit", deposit("10")).ok();
    customers[1].ask_once("id", "deposit", json!({"account_no": 1002, "amount": 100})).ok();
    for _ in 0..2 {
        operator.ask_once("id", "deposit", deposit("1")).ok();
        customers[0].ask_once("id", "deposit", deposit("10")).ok();
        customers[0].ask_once("id", "deposit", deposit("11")).refused("request_id_reused");
    }
    assert_eq!([1001, 1002].map(|account| operator.balance(account)), ["1011.00", "1100.00"]);
    // The same operator on another connection is the same caller.
    branch.connect().ask_once("id", "deposit", deposit("2")).refused("request_id_reused");
}

#[test]
fn the_same_id_at_the_same_time_and_in_one_write_is_done_once() {
    let branch = Branch::start(Options::preloaded());
    let body = request("deposit", deposit("1"), Some("one"));
    let mut connection = branch.connect();
    connection.send_bytes(&frame(&body).repeat(50)).unwrap();
    for _ in 0..50 {
        assert_eq!(connection.receive().unwrap().ok()["balance"].to_string(), "1001.00");
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = branch.connect();
                for number in 0..20 {
                    connection.ask_once(&format!("at once {number}"), "deposit", deposit("1")).ok();
                }
            });
        }
    });
    assert_eq!(connection.balance(1001), "1021.00");
    let pair = json!({"requests": [{"action": "deposit", "params": deposit("1"), "request_id": "own"},
        {"action": "deposit", "params": deposit("1"), "request_id": "own"}]});
    connection.ask("batch", pair).ok();
    assert_eq!(connection.balance(1001), "1022.00");
}

#[test]
fn a_transfer_between_branches_under_one_id() {
    let bank = Bank::new();
    let (mut mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 5, "dest_branch": "Delhi"});
    let body = request("inter_branch_transfer", params.clone(), Some("pay"));
    // In one write, and from several connections at the same time.
    let mut connection = mumbai.connect();
    connection.send_bytes(&frame(&body).repeat(10)).unwrap();
    let first = connection.receive().unwrap().ok();
    for _ in 1..10 {
        assert_eq!(connection.receive().unwrap().ok()["txid"], first["txid"]);
    }
    let txids: Vec<Value> = std::thread::scope(|scope| {
        let payers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let mut connection = mumbai.connect();
                        let reply =
                            connection.text(&request("inter_branch_transfer", params.clone(), Some("pay again")));
                        if reply.code() != "request_repeated" {
                            return reply.ok()["txid"].clone();
                        }
                    }
                })
            })
            .collect();
        payers.into_iter().map(|payer| payer.join().unwrap()).collect()
    });
    assert!(txids.iter().all(|txid| *txid == txids[0] && *txid != first["txid"]), "{txids:?}");
    let mut other = params.clone();
    other["amount"] = json!(6);
    connection.ask_once("pay", "inter_branch_transfer", other).refused("request_id_reused");
    connection.ask_once("pay", "deposit", deposit("1")).refused("request_id_reused");
    mumbai.kill9();
    mumbai.restart();
    let again = mumbai.connect().text(&body).ok();
    assert_eq!(again["txid"], first["txid"]);
    assert_eq!((mumbai.connect().balance(1001), delhi.connect().balance(1002)), ("990.00".into(), "1010.00".into()));
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    Bank::assert_exact(&[&mumbai, &delhi]);
}

#[test]
fn a_repeat_finds_the_transfer_that_is_under_way() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    delhi.signal(rustix::process::Signal::STOP);
    let body = request(
        "inter_branch_transfer",
        json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 5, "dest_branch": "Delhi"}),
        Some("pay"),
    );
    // The first client sends and is gone; the second one asks for the same while nothing is decided.
    mumbai.connect().send_text(&body).unwrap();
    bank_tests::wait_until("the money is held", || {
        figure(&mumbai.connect().ask("balance", json!({"account_no": 1001})).ok()["available"]) == "995.00"
    });
    let mut second = mumbai.connect();
    second.send_text(&body).unwrap();
    let pending = mumbai.connect().ask("list_pending", json!({})).ok();
    assert_eq!((pending.as_array().unwrap().len(), &pending[0]["state"]), (1, &json!("deciding")), "{pending}");
    delhi.signal(rustix::process::Signal::CONT);
    assert_eq!(second.receive().unwrap().ok()["txid"], pending[0]["txid"]);
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_eq!((mumbai.connect().balance(1001), delhi.connect().balance(1002)), ("995.00".into(), "1005.00".into()));
}
