//! A request with an id is carried out once, however often it is sent: the repeat gets the stored answer, also after
//! a crash; the id is its caller's, and names one request.

use bank_tests::{Bank, Branch, BranchConnection, Options, figure, frame, request};
use protocol::actions::{Action, Kind, Property};
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

/// Right parameters of an action that keeps its id; others take none.
fn params(action: Action) -> Value {
    match action {
        Action::CreateAccount => json!({"name": "Asha"}),
        Action::CloseAccount => json!({"account_no": 1002}),
        Action::SetPassword => json!({"account_no": 1001, "password": "another"}),
        Action::ClearSuspense => json!({"txid": "T", "cash": true, "reason": "none"}),
        Action::Resolve => json!({"txid": "T", "outcome": "abort", "reason": "none"}),
        Action::SplitTransfer => json!({"src_account_no": 1001, "legs": [{"account_no": 1002, "amount": 1}]}),
        Action::Batch => json!({"requests": [{"action": "deposit", "params": deposit("2")}]}),
        Action::Deposit | Action::Withdraw => deposit("2"),
        Action::LocalTransfer => json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1}),
        Action::InterBranchTransfer => {
            json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1, "dest_branch": "Mumbai"})
        }
        _ => json!({}),
    }
}

#[test]
fn every_action_whose_row_says_so_knows_a_used_id() {
    let branch = Branch::start(Options::preloaded());
    branch.connect().ask_once("id", "deposit", deposit("1")).ok();
    for action in Action::ALL.iter().filter(|action| !matches!(action.kind(), Kind::Control | Kind::TakesOver)) {
        let reply = branch.connect().ask_once("id", action.name(), params(*action));
        let is_known = reply.code() == "request_id_reused";
        assert_eq!(is_known, action.has(Property::RequestId), "{action}: {}", reply.text);
    }
    assert_eq!([1001, 1002].map(|account| branch.connect().balance(account)), ["1001.00", "1000.00"]);
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

#[test]
fn the_same_meaning_in_another_notation_is_the_same_request() {
    let branch = Branch::start(Options::preloaded());
    let mut connection = branch.connect();
    let same = [
        ("deposit", r#"{"account_no":"1001","amount":10}"#, r#"{ "amount" : "10.00", "account_no" : 1001 }"#),
        ("withdraw", r#"{"account_no":1001,"amount":10.5}"#, r#"{"account_no":"1001","amount":10.50,"x":[]}"#),
        ("deposit", r#"{"account_no":"1001","amount":1}"#, r#"{"account_no":"\u0031001","amount":1.0}"#),
        (
            "local_transfer",
            r#"{"src_account_no":1001,"dest_account_no":1002,"amount":1}"#,
            r#"{"amount":"1","dest_account_no":"1002","src_account_no":"1001"}"#,
        ),
        ("create_account", r#"{"name":"Zoe"}"#, r#"{"account_no":null,"name":" Zoe ","balance":0,"sms":false}"#),
        (
            "create_account",
            r#"{"name":"Yan","phone_num":"9876543210"}"#,
            r#"{"phone_num":"+919876543210","name":"Yan"}"#,
        ),
        (
            "batch",
            r#"{"requests":[{"action":"deposit","params":{"account_no":1001,"amount":2}}],"atomic":true}"#,
            r#"{"atomic":true,"requests":[{"params":{"amount":2.0,"account_no":"1001"},"action":"deposit"}]}"#,
        ),
        (
            "batch",
            r#"{"requests":[{"action":"deposit","params":{"account_no":1001,"amount":3}}]}"#,
            r#"{"requests":[{"action":"deposit","params":{"account_no":"1001","amount":"3"}}],"atomic":false}"#,
        ),
    ];
    for (number, (action, first, again)) in same.into_iter().enumerate() {
        let body = |params: &str| format!(r#"{{"action":"{action}","request_id":"n{number}","params":{params}}}"#);
        let answer = connection.text(&body(first));
        answer.ok();
        assert_eq!(connection.text(&body(again)).text, answer.text, "{action} {again}");
    }
    assert_eq!([1001, 1002].map(|account| connection.balance(account)), ["1004.50", "1001.00"]);
    for (action, params) in [
        ("batch", r#"{"requests":[{"action":"deposit","params":{"account_no":1001,"amount":3}},5]}"#),
        ("batch", r#"{"requests":[{"action":"deposit","params":{"account_no":1001,"amount":3}}],"atomic":true}"#),
        ("deposit", r#"{"account_no":1001,"amount":3}"#),
    ] {
        let body = format!(r#"{{"action":"{action}","request_id":"n7","params":{params}}}"#);
        connection.text(&body).refused("request_id_reused");
    }
    assert_eq!(connection.balance(1001), "1004.50");
}

#[test]
fn two_at_the_same_moment_for_all_that_the_payer_has() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let mut connections = [mumbai.connect(), mumbai.connect()];
    for round in 0..10 {
        let amount = connections[0].balance(1001);
        let legs = json!([{"account_no": 1001, "dest_branch": "Delhi", "amount": amount}]);
        let to_delhi =
            json!({"src_account_no": 1001, "dest_account_no": 1001, "amount": amount, "dest_branch": "Delhi"});
        let (action, params) = match round % 2 {
            0 => ("inter_branch_transfer", to_delhi),
            _ => ("split_transfer", json!({"src_account_no": 1001, "legs": legs})),
        };
        let body = request(action, params, Some(&format!("all {round}")));
        connections.iter().for_each(|connection| connection.send_text(&body).unwrap());
        let txids = connections.each_mut().map(|connection| connection.receive().unwrap().ok()["txid"].clone());
        assert_eq!(txids[0], txids[1], "{action}");
        connections[0].ask("deposit", deposit("7")).ok();
    }
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_eq!((mumbai.connect().balance(1001), delhi.connect().balance(1001)), ("7.00".into(), "2063.00".into()));
    Bank::assert_exact(&[&mumbai, &delhi]);
}

#[test]
fn a_repeat_needs_no_branch_but_its_own_and_no_open_account() {
    let bank = Bank::new();
    let (mumbai, mut delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let at_delhi = |mut params: Value| {
        params["dest_host"] = json!("127.0.0.1");
        params["dest_port"] = json!(delhi.port());
        params
    };
    let requests = [
        ("a", "inter_branch_transfer", at_delhi(json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 5}))),
        (
            "b",
            "split_transfer",
            json!({"src_account_no": 1001, "legs": [at_delhi(json!({"account_no": 1001, "amount": 995}))]}),
        ),
        ("c", "withdraw", json!({"account_no": 1002, "amount": 1000})),
    ];
    let mut connection = mumbai.connect();
    let first: Vec<Value> =
        requests.iter().map(|(id, action, params)| connection.ask_once(id, action, params.clone()).ok()).collect();
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    for account in [1001, 1002] {
        connection.ask("close_account", json!({"account_no": account})).ok();
    }
    delhi.kill9();
    for ((id, action, params), first) in requests.iter().zip(&first) {
        let again = connection.ask_once(id, action, params.clone()).ok();
        assert_eq!((&again["txid"], &again["balance"]), (&first["txid"], &first["balance"]), "{action}");
    }
    // The host in capitals is the same one; another port is another request.
    let mut params = requests[0].2.clone();
    params["dest_port"] = json!(9);
    connection.ask_once("a", "inter_branch_transfer", params).refused("request_id_reused");
}

#[test]
fn a_batch_and_what_is_in_it_have_ids_of_their_own() {
    let branch = Branch::start(Options::preloaded());
    let mut connection = branch.connect();
    let part = |id: &str, amount: &str| json!({"action": "deposit", "params": deposit(amount), "request_id": id});
    for (is_atomic, id, own) in [(true, "x", "x"), (false, "y", "y"), (true, "z", "z#0"), (false, "w", "w#1")] {
        let batch = json!({"requests": [part(own, "1")], "atomic": is_atomic});
        for _ in 0..2 {
            let answer = connection.ask_once(id, "batch", batch.clone()).ok();
            assert_eq!(answer[0]["code"], "request_id_reused", "{id}: {answer}");
        }
    }
    assert_eq!(connection.balance(1001), "1000.00");
    for (is_atomic, id) in [(true, "p"), (false, "q")] {
        let twice = |amount: &str| json!({"requests": [part(id, "1"), part(id, amount)], "atomic": is_atomic});
        for _ in 0..2 {
            connection.ask_once(&format!("twice {is_atomic}"), "batch", twice("1")).ok();
        }
        let answer = connection.ask_once(&format!("other {is_atomic}"), "batch", twice("2")).ok();
        assert_eq!(answer[1]["code"], "request_id_reused", "{answer}");
    }
    assert_eq!(connection.balance(1001), "1002.00");
    // One that is refused leaves its id to what it asked for, and may be tried again.
    let dear = json!({"requests": [{"action": "withdraw", "params": deposit("2000")}]});
    assert_eq!(connection.ask_once("dear", "batch", dear.clone()).ok()[0]["code"], "insufficient_funds");
    connection.ask("deposit", deposit("5000")).ok();
    for _ in 0..2 {
        assert_eq!(connection.ask_once("dear", "batch", dear.clone()).ok()[0]["status"], "ok");
    }
    connection.ask_once("dear", "batch", json!({"requests": []})).refused("request_id_reused");
    assert_eq!(connection.balance(1001), "4002.00");
}

#[test]
fn a_repeat_with_another_password_is_another_request() {
    let branch = Branch::start(Options::preloaded());
    let mut connection = branch.connect();
    let set = |password: &str| json!({"account_no": 1001, "password": password});
    let open = |password: &str| json!({"name": "Zoe", "password": password});
    let both = |password: &str| {
        json!({"requests": [{"action": "set_password", "params": set(password)},
            {"action": "create_account", "params": open(password)}], "atomic": true})
    };
    for (id, action, params) in [
        ("set", "set_password", &set as &dyn Fn(&str) -> Value),
        ("open", "create_account", &open),
        ("both", "batch", &both),
    ] {
        let first = connection.ask_once(id, action, params("secret"));
        first.ok();
        assert_eq!(connection.ask_once(id, action, params("secret")).text, first.text, "{action}");
        connection.ask_once(id, action, params("secret2")).refused("request_id_reused");
    }
    assert_eq!(connection.ask("list_accounts", json!({})).ok().as_array().unwrap().len(), 4);
    connection.ask("set_password", set("fourth")).ok();
    connection.ask_once("set", "set_password", set("secret")).ok();
    connection.ask("check_password", set("fourth")).ok();
    // A customer who repeats the change needs not know what the password is by now.
    let mut customer = branch.connect_anonymously();
    customer.ask("login", set("fourth")).ok();
    let change = json!({"account_no": 1001, "password": "fifth", "present_password": "fourth"});
    for _ in 0..2 {
        customer.ask_once("change", "set_password", change.clone()).ok();
    }
    let hashes = branch.database().texts("SELECT password_hashes FROM answers WHERE password_hashes IS NOT NULL");
    assert!(hashes.iter().flat_map(|hashes| hashes.lines()).all(|hash| hash.starts_with("$argon2id$")), "{hashes:?}");
}

#[test]
fn what_was_settled_by_hand_is_told_again() {
    let branch = Branch::start(Options::preloaded());
    let mut connection = branch.connect();
    connection.ask("prepare_withdraw", json!({"txid": "T-1", "account_no": 1001, "amount": 5})).ok();
    let settle = |reason: &str| json!({"txid": "T-1", "outcome": "commit", "reason": reason});
    let first = connection.ask_once("settle", "resolve", settle("the program is gone"));
    first.ok();
    assert_eq!(connection.ask_once("settle", "resolve", settle(" the program is gone ")).text, first.text);
    connection.ask_once("settle", "resolve", settle("another reason")).refused("request_id_reused");
    connection.ask("resolve", settle("the program is gone")).refused("transaction_settled");
    assert_eq!(connection.balance(1001), "995.00");
}

#[test]
fn a_repeat_needs_no_replica_and_a_replica_that_follows_knows_it_too() {
    let bank = Bank::new();
    let mut mumbai = bank.start("mumbai", Options::named("Mumbai"));
    let mut replica = bank.replica_of(&mumbai, "mumbai-replica");
    let first = mumbai.connect().ask_once("once", "deposit", deposit("5")).text;
    let batch = json!({"requests": [{"action": "deposit", "params": deposit("1")}]});
    let atomic = json!({"requests": [{"action": "deposit", "params": deposit("1")}], "atomic": true});
    let batches = [("batch", batch), ("atomic", atomic)];
    let answers = batches.clone().map(|(id, params)| mumbai.connect().ask_once(id, "batch", params).text);
    replica.wait_until_caught_up(&mumbai);
    let mut connection = replica.connect();
    assert_eq!(connection.ask_once("once", "deposit", deposit("5")).text, first);
    for ((id, params), answer) in batches.iter().zip(&answers) {
        assert_eq!(connection.ask_once(id, "batch", params.clone()).text, *answer);
    }
    connection.ask_once("once", "deposit", deposit("6")).refused("request_id_reused");
    connection.ask_once("never", "deposit", deposit("5")).refused("not_primary");
    mumbai.kill9();
    // It can't know any more what the branch's books will be.
    bank_tests::wait_until("it has noticed", || {
        connection.ask_once("once", "deposit", deposit("5")).code() == "not_primary"
    });
    drop(connection);
    replica.kill9();
    mumbai.restart();
    assert_eq!(mumbai.connect().ask_once("once", "deposit", deposit("5")).text, first);
}

#[test]
fn an_answer_that_no_replica_has_is_not_told_yet() {
    let bank = Bank::new();
    let mut mumbai = bank.start("mumbai", Options::named("Mumbai"));
    let mut replica = bank.replica_of(&mumbai, "mumbai-replica");
    mumbai.stop();
    let port = replica.port();
    let mumbai = {
        let database = mumbai.database_path().to_path_buf();
        drop(mumbai);
        let options = Options::named("Mumbai").value("--sync-replicas", 1);
        Branch::start(options.value("--replicas", format!("127.0.0.1:{port}")).database(database))
    };
    let mut connection = mumbai.connect();
    bank_tests::wait_until("it takes writes", || connection.ask("deposit", deposit("1")).is_ok());
    replica.signal(rustix::process::Signal::STOP);
    connection.ask_once("once", "deposit", deposit("5")).refused("unconfirmed");
    replica.kill9();
    bank_tests::wait_until("it lacks its replica", || {
        connection.ask("deposit", deposit("1")).code() == "replicas_missing"
    });
    connection.ask_once("once", "deposit", deposit("5")).refused("unconfirmed");
    connection.ask_once("once", "deposit", deposit("6")).refused("request_id_reused");
    connection.ask_once("never", "deposit", deposit("5")).refused("replicas_missing");
    replica.restart();
    bank_tests::wait_until("the replica has it", || connection.ask_once("once", "deposit", deposit("5")).is_ok());
    connection.ask_once("once", "deposit", deposit("5")).ok();
}

#[test]
fn what_could_not_be_read_of_a_batch_leaves_nothing_of_a_password_behind() {
    let branch = Branch::start(Options::preloaded());
    let mut connection = branch.connect_anonymously();
    connection.ask("login", json!({"account_no": 1001, "password": "1001"})).ok();
    for password in ["sesame", "open me"] {
        let set = json!({"account_no": "no number", "password": "x", "present_password": password});
        let requests =
            json!([{"action": "deposit", "params": deposit("1")}, {"action": "set_password", "params": set}]);
        let answers = connection.ask_once(password, "batch", json!({"requests": requests})).ok();
        assert_eq!((&answers[0]["status"], &answers[1]["code"]), (&json!("ok"), &json!("invalid_params")));
    }
    // What is kept is the same for both, so whoever finds it learns nothing of either.
    let kept = "SELECT DISTINCT hex(fingerprint) FROM answers WHERE request_id IN ('sesame', 'open me')";
    assert_eq!(branch.database().texts(kept).len(), 1);
}
