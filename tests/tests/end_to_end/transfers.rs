//! Transfers between branches that nothing disturbs, and those that are refused: all of it happens, or nothing.

use bank_tests::{Bank, Branch, BranchConnection, Options};
use serde_json::{Value, json};

/// What `balance` says of the sample accounts of a branch.
fn balances(branch: &Branch) -> [String; 2] {
    let mut connection = branch.connect();
    [1001, 1002].map(|account| connection.balance(account))
}

fn to_name(branch: &str, account: u64, amount: &str) -> Value {
    json!({"src_account_no": "1001", "dest_account_no": account, "amount": amount, "dest_branch": branch})
}

fn to_port(port: u16, account: u64, amount: &str) -> Value {
    json!({"src_account_no": 1001, "dest_account_no": account.to_string(), "amount": amount,
        "dest_host": "127.0.0.1", "dest_port": port})
}

/// The kinds, amounts and peers of an account's newest rows.
fn newest(connection: &mut BranchConnection, account: u64, count: usize) -> Vec<[String; 3]> {
    let rows = connection.ask("history", json!({"account_no": account, "limit": count})).ok();
    let rows = rows.as_array().unwrap().clone();
    rows.iter().map(|row| ["type", "amount", "peer"].map(|field| row[field].to_string().replace('"', ""))).collect()
}

#[test]
fn a_transfer_by_address_and_then_by_name() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let mut connection = mumbai.connect();
    let done = connection.ask("inter_branch_transfer", to_port(delhi.port(), 1002, "50"));
    let txid = done.ok()["txid"].as_str().unwrap().to_string();
    let expected = format!(
        r#"{{"status":"transfer_complete","txid":"{txid}","amount":50.00,"from":"Mumbai:1001","to":"127.0.0.1:1002","delivery":"done"}}"#
    );
    assert_eq!(done.ok(), serde_json::from_str::<Value>(&expected).unwrap(), "{}", done.text);
    assert!(done.text.contains(r#""amount":50.00"#), "{}", done.text);
    assert!(txid.starts_with("Mumbai-"), "{txid}");
    // From then on the name is known, at both ends.
    let done = connection.ask("inter_branch_transfer", to_name("Delhi", 1002, "0.05")).ok();
    assert_eq!((&done["to"], &done["delivery"]), (&json!("Delhi:1002"), &json!("done")));
    let back = delhi.connect().ask("inter_branch_transfer", to_name("Mumbai", 1002, "7.50")).ok();
    assert_eq!((&back["from"], &back["to"]), (&json!("Delhi:1001"), &json!("Mumbai:1002")));
    assert_eq!(balances(&mumbai), ["949.95", "1007.50"]);
    assert_eq!(balances(&delhi), ["992.50", "1050.05"]);
    let out = ["transfer_out", "0.05", "Delhi"].map(String::from);
    assert_eq!(newest(&mut connection, 1001, 1), [out]);
    let paid_in = ["transfer_in", "0.05", "Mumbai"].map(String::from);
    assert_eq!(newest(&mut delhi.connect(), 1002, 1), [paid_in]);
    for branch in [&mumbai, &delhi] {
        let status = branch.connect().ask("tx_status", json!({"txid": txid}));
        assert_eq!(status.text, r#"{"status":"ok","result":{"outcome":"committed"}}"#);
    }
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_eq!(Bank::assert_exact(&[&mumbai, &delhi]).to_string(), "4000.00");
}

#[test]
fn peers_are_known_from_the_command_line_and_after_a_restart() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let peers = format!("Delhi=127.0.0.1:{}", delhi.port());
    let mut mumbai = bank.start("Mumbai", Options::named("Mumbai").value("--peers", peers));
    mumbai.connect().ask("inter_branch_transfer", to_name("Delhi", 1001, "1")).ok();
    // Delhi was never told where Mumbai is; the link has told it.
    mumbai.kill9();
    mumbai.restart();
    delhi.connect().ask("inter_branch_transfer", to_name("Mumbai", 1001, "2")).ok();
    let branches = delhi.connect().ask("branches", json!({})).ok();
    let named = |name: &str| branches.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!(named("Delhi")["state"], "here");
    assert_eq!(named("Mumbai")["state"], "up");
    assert_eq!(named("Mumbai")["address"], format!("127.0.0.1:{}", mumbai.port()));
    assert_eq!(balances(&mumbai)[0], "1001.00");
}

#[test]
fn a_split_over_three_branches() {
    let bank = Bank::new();
    let (mumbai, delhi, pune) = (bank.branch("Mumbai"), bank.branch("Delhi"), bank.branch("Pune"));
    Bank::introduce(&[&mumbai, &delhi, &pune]);
    let legs = json!([
        {"account_no": 1002, "amount": "50", "dest_branch": "Delhi"},
        {"account_no": "1001", "amount": 25.50, "dest_host": "127.0.0.1", "dest_port": pune.port()},
        {"account_no": 1002, "amount": 10},
        {"account_no": 1002, "amount": "0.25", "dest_branch": "Delhi"},
    ]);
    let done = mumbai.connect().ask("split_transfer", json!({"src_account_no": 1001, "legs": legs}));
    let result = done.ok();
    assert_eq!(result["amount"].to_string(), "85.75");
    let to = json!([
        {"to": "Delhi:1002", "amount": 0}, {"to": "127.0.0.1:1001", "amount": 0},
        {"to": "Mumbai:1002", "amount": 0}, {"to": "Delhi:1002", "amount": 0},
    ]);
    for (paid, (expected, amount)) in result["to"]
        .as_array()
        .unwrap()
        .iter()
        .zip(to.as_array().unwrap().iter().zip(["50.00", "25.50", "10.00", "0.25"]))
    {
        assert_eq!((&paid["to"], paid["amount"].to_string().as_str()), (&expected["to"], amount), "{}", done.text);
    }
    assert_eq!((&result["from"], &result["delivery"]), (&json!("Mumbai:1001"), &json!("done")));
    assert_eq!(balances(&mumbai), ["914.25", "1010.00"]);
    assert_eq!(balances(&delhi), ["1000.00", "1050.25"]);
    assert_eq!(balances(&pune), ["1025.50", "1000.00"]);
    Bank::wait_until_settled(&[&mumbai, &delhi, &pune]);
    assert_eq!(Bank::assert_exact(&[&mumbai, &delhi, &pune]).to_string(), "6000.00");
}

#[test]
fn a_split_happens_at_every_branch_or_at_none() {
    let bank = Bank::new();
    let branches = [bank.branch("Mumbai"), bank.branch("Delhi"), bank.branch("Pune")];
    let [mumbai, delhi, pune] = &branches;
    let all = [mumbai, delhi, pune];
    Bank::introduce(&all);
    let mut connection = mumbai.connect();
    let good = json!({"account_no": 1001, "amount": 10, "dest_branch": "Delhi"});
    for (bad, code) in [
        (json!({"account_no": 999, "amount": 10, "dest_branch": "Pune"}), "no_such_account"),
        (json!({"account_no": 999, "amount": 10}), "no_such_account"),
        (json!({"account_no": 1001, "amount": 10}), "same_account"),
        (json!({"account_no": 1001, "amount": "990.01", "dest_branch": "Pune"}), "insufficient_funds"),
        (json!({"account_no": 1001, "amount": "99999999999999.99", "dest_branch": "Pune"}), "invalid_amount"),
        (json!({"account_no": 1001, "amount": 0, "dest_branch": "Pune"}), "invalid_amount"),
        (json!({"account_no": 1001, "amount": "-1", "dest_branch": "Pune"}), "invalid_amount"),
        (json!({"account_no": 1001, "amount": 10, "dest_branch": "Nowhere"}), "branch_unreachable"),
        (json!({"account_no": 1001, "amount": 10, "dest_host": "127.0.0.1"}), "invalid_params"),
        (
            json!({"account_no": 1001, "amount": 10, "dest_host": "127.0.0.1", "dest_port": 1, "dest_branch": "Pune"}),
            "invalid_params",
        ),
    ] {
        for legs in [json!([good, bad]), json!([bad, good]), json!([good, bad, good])] {
            let refused = connection.ask("split_transfer", json!({"src_account_no": 1001, "legs": legs}));
            assert_eq!(refused.code(), code, "{legs}: {}", refused.text);
        }
    }
    let legs: Vec<_> = std::iter::repeat_n(good, 101).collect();
    for legs in [json!([]), json!(legs), json!("x")] {
        connection.ask("split_transfer", json!({"src_account_no": 1001, "legs": legs})).refused("invalid_params");
    }
    Bank::wait_until_settled(&all);
    for branch in all {
        assert_eq!(balances(branch), ["1000.00", "1000.00"]);
        assert_eq!(branch.connect().ask("status", json!({})).ok()["transactions"].to_string(), "2");
    }
    assert_eq!(Bank::assert_exact(&all).to_string(), "6000.00");
    // And nothing of it is held: everything can be spent at once.
    connection.ask("withdraw", json!({"account_no": 1001, "amount": 1000})).ok();
}

#[test]
fn what_is_refused_leaves_nothing() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let mut connection = mumbai.connect();
    let mut there = delhi.connect();
    there.ask("create_account", json!({"account_no": 3001, "name": "Closed"})).ok();
    there.ask("close_account", json!({"account_no": 3001})).ok();
    there.ask("create_account", json!({"account_no": 3002, "name": "Rich", "balance": "99999999999999.99"})).ok();
    connection.ask("create_account", json!({"account_no": 3003, "name": "Closed here", "balance": 5})).ok();
    connection.ask("close_account", json!({"account_no": 3003})).ok();
    for (params, code) in [
        (to_name("Delhi", 999, "5"), "no_such_account"),
        (to_name("Delhi", 3001, "5"), "account_closed"),
        (to_name("Delhi", 3002, "0.01"), "balance_limit"),
        (to_name("Delhi", 1001, "1000.01"), "insufficient_funds"),
        (to_name("Delhi", 1001, "0"), "invalid_amount"),
        (to_name("Delhi", 1001, "0.001"), "invalid_amount"),
        (to_name("Mumbai", 1001, "5"), "same_account"),
        (to_port(mumbai.port(), 1001, "5"), "same_account"),
        (to_name("Nowhere", 1001, "5"), "branch_unreachable"),
        (
            json!({"src_account_no": 999, "dest_account_no": 1001, "amount": 5, "dest_branch": "Delhi"}),
            "no_such_account",
        ),
        (
            json!({"src_account_no": 3003, "dest_account_no": 1001, "amount": 5, "dest_branch": "Delhi"}),
            "account_closed",
        ),
        (json!({"src_account_no": 1001, "dest_account_no": 1001, "amount": 5}), "invalid_params"),
        (
            json!({"src_account_no": 1001, "dest_account_no": 1001, "amount": 5, "dest_host": "127.0.0.1"}),
            "invalid_params",
        ),
        (json!({"src_account_no": 1001, "dest_account_no": 1001, "amount": 5, "dest_branch": "a b"}), "invalid_params"),
        (
            json!({"src_account_no": 1001, "dest_account_no": 1001, "amount": 5, "dest_host": "127.0.0.1", "dest_port": 0}),
            "invalid_params",
        ),
    ] {
        let refused = connection.ask("inter_branch_transfer", params.clone());
        assert_eq!(refused.code(), code, "{params}: {}", refused.text);
        refused.refused(code);
    }
    assert_eq!(balances(&mumbai), ["1000.00", "1000.00"]);
    assert_eq!(balances(&delhi), ["1000.00", "1000.00"]);
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    Bank::assert_exact(&[&mumbai, &delhi]);
    connection.ask("withdraw", json!({"account_no": 1001, "amount": 1000})).ok();
    there.ask("close_account", json!({"account_no": 1001})).ok();
}

#[test]
fn to_this_branch_itself_by_its_address_and_by_its_name() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let mut connection = mumbai.connect();
    let done = connection.ask("inter_branch_transfer", to_port(mumbai.port(), 1002, "5")).ok();
    assert_eq!((&done["to"], &done["delivery"]), (&json!("127.0.0.1:1002"), &json!("done")));
    connection.ask("inter_branch_transfer", to_name("Mumbai", 1002, "6")).ok();
    assert_eq!(balances(&mumbai), ["989.00", "1011.00"]);
    Bank::wait_until_settled(&[&mumbai]);
    assert_eq!(Bank::assert_exact(&[&mumbai]).to_string(), "2000.00");
}

#[test]
fn many_at_once_in_both_directions() {
    const CLIENTS: usize = 8;
    const TRANSFERS: usize = 40;
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    std::thread::scope(|scope| {
        for (from, to) in [(&mumbai, "Delhi"), (&delhi, "Mumbai")] {
            for _ in 0..CLIENTS {
                scope.spawn(move || {
                    let mut connection = from.connect();
                    for _ in 0..TRANSFERS {
                        connection.ask("inter_branch_transfer", to_name(to, 1002, "1.01")).ok();
                    }
                });
            }
        }
    });
    assert_eq!(balances(&mumbai), ["676.80", "1323.20"]);
    assert_eq!(balances(&delhi), ["676.80", "1323.20"]);
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_eq!(Bank::assert_exact(&[&mumbai, &delhi]).to_string(), "4000.00");
}

#[test]
fn a_branch_with_another_key_is_no_branch_of_this_bank() {
    let (bank, other_bank) = (Bank::new(), Bank::new());
    let (mumbai, stranger) = (bank.branch("Mumbai"), other_bank.branch("Delhi"));
    assert_ne!(mumbai.key().to_text(), stranger.key().to_text());
    let mut connection = mumbai.connect();
    connection.ask("inter_branch_transfer", to_port(stranger.port(), 1002, "5")).refused("branch_unreachable");
    connection.ask("inter_branch_transfer", to_name("Delhi", 1002, "5")).refused("branch_unreachable");
    assert_eq!(balances(&mumbai), ["1000.00", "1000.00"]);
    assert_eq!(balances(&stranger), ["1000.00", "1000.00"]);
}

#[test]
fn what_was_paid_is_told_as_paid_though_the_account_is_closed_by_then() {
    let bank = Bank::new();
    let delhi = bank.branch_that_crashes("Delhi", "after-vote");
    let peer = format!("Delhi=127.0.0.1:{}", delhi.port());
    let mumbai = bank.start("Mumbai", Options::named("Mumbai").value("--peers", peer));
    let mut menu = bank_tests::MenuConnection::open(mumbai.menu_port()).unwrap();
    menu.answers(&["a", "1001", "1001", "d", "Delhi/1002"]).unwrap();
    menu.send("1000").unwrap();
    // It is committed, and waits for its delivery, which does not come.
    let mut operator = mumbai.connect();
    bank_tests::wait_until("it is paid", || operator.balance(1001) == "0.00");
    operator.ask("close_account", json!({"account_no": 1001})).ok();
    let told = menu.turn().unwrap();
    told.expect_done();
}
