//! The branch protocol as a client sees it that knows nothing of keys, at a branch started with `--open`: each
//! action with right and wrong parameters, answers to the letter, batches, lists in pages.

use bank_tests::{Bank, Branch, BranchConnection, Options, request};
use serde_json::{Value, json};

fn open_branch() -> Branch {
    Branch::start(Options::preloaded().flag("--open"))
}

/// Sends a request as text and compares the whole answer.
#[track_caller]
fn answers(connection: &mut BranchConnection, request: &str, expected: &str) {
    assert_eq!(connection.text(request).text, expected, "to {request}");
}

#[test]
fn answers_to_the_letter() {
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    let connection = &mut connection;
    for (request, expected) in [
        (
            r#"{"action":"create_account","params":{"account_no":"2001","name":"Asha Rao","balance":"10.5"}}"#,
            r#"{"status":"ok","result":{"account_no":"2001"}}"#,
        ),
        (
            r#"{"action":"create_account","params":{"name":"Ravi"}}"#,
            r#"{"status":"ok","result":{"account_no":"1003"}}"#,
        ),
        (
            r#"{"action":"balance","params":{"account_no":2001}}"#,
            r#"{"status":"ok","result":{"balance":10.50,"available":10.50,"name":"Asha Rao"}}"#,
        ),
        (
            r#"{"action":"deposit","params":{"account_no":"1001","amount":100}}"#,
            r#"{"status":"ok","result":{"balance":1100.00}}"#,
        ),
        (
            r#"{"params":{"amount":"0.05","account_no":1001},"later":{"x":[1]},"action":"withdraw","request_id":"w"}"#,
            r#"{"status":"ok","result":{"balance":1099.95}}"#,
        ),
        (
            r#"{"action":"withdraw","params":{"account_no":"1001","amount":5000}}"#,
            r#"{"status":"error","error":"insufficient funds: Rs 1099.95 is available","code":"insufficient_funds"}"#,
        ),
        (
            r#"{"action":"local_transfer","params":{"src_account_no":1001,"dest_account_no":"1002","amount":99.95}}"#,
            r#"{"status":"ok","result":{"from":{"account":"1001","balance":1000.00},"to":{"account":"1002","balance":1099.95},"amount":99.95}}"#,
        ),
        (
            r#"{"action":"list_accounts"}"#,
            concat!(
                r#"{"status":"ok","result":[{"account_no":"1001","name":"#,
                "NAME1",
                r#","balance":1000.00,"held":0.00},{"account_no":"1002","name":"#,
                "NAME2",
                r#","balance":1099.95,"held":0.00},{"account_no":"1003","name":"Ravi","balance":0.00,"held":0.00},"#,
                r#"{"account_no":"2001","name":"Asha Rao","balance":10.50,"held":0.00}]}"#
            ),
        ),
        (
            r#"{"action":"close_account","params":{"account_no":"2001"}}"#,
            r#"{"status":"ok","result":{"account_no":"2001","paid_out":10.50}}"#,
        ),
        (
            r#"{"action":"balance","params":{"account_no":"2001"}}"#,
            r#"{"status":"error","error":"account 2001 is closed","code":"account_closed"}"#,
        ),
        (
            r#"{"action":"batch","params":{"requests":[{"action":"deposit","params":{"account_no":1003,"amount":"0.10"}},{"action":"rob"}]}}"#,
            r#"{"status":"ok","result":[{"status":"ok","result":{"balance":0.10}},{"status":"error","error":"there is no action \"rob\"","code":"unknown_action"}]}"#,
        ),
        (r#"{"action":"tx_status","params":{"txid":"never"}}"#, r#"{"status":"ok","result":{"outcome":"aborted"}}"#),
        (r#"{"action":"list_pending","params":null}"#, r#"{"status":"ok","result":[]}"#),
        (
            r#"{"action":"set_password","params":{"account_no":1003,"password":"four"}}"#,
            r#"{"status":"ok","result":true}"#,
        ),
        (
            r#"{"action":"login","params":{"account_no":1003,"password":"wrong"}}"#,
            r#"{"status":"error","error":"the account number or the password is wrong","code":"wrong_login"}"#,
        ),
        (r#"{"action":"rob"}"#, r#"{"status":"error","error":"there is no action \"rob\"","code":"unknown_action"}"#),
    ] {
        let names = branch.database().texts(
            "SELECT trim(first_name || ' ' || last_name) FROM customers WHERE account_num < 1003 ORDER BY account_num",
        );
        let quoted = |name: &String| Value::from(name.as_str()).to_string();
        let expected = expected.replace("NAME1", &quoted(&names[0])).replace("NAME2", &quoted(&names[1]));
        answers(connection, request, &expected);
    }
}

#[test]
fn the_shapes_of_what_is_looked_at() {
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let status = connection.ask("status", json!({})).ok();
    for field in ["name", "role", "accounts", "clients", "in_doubt", "undelivered"] {
        assert!(status.get(field).is_some(), "{field}: {status}");
    }
    assert_eq!((&status["name"], &status["role"]), (&json!("Mumbai"), &json!("primary")));
    let numbers = ["accounts", "clients", "in_doubt", "undelivered"].map(|field| status[field].to_string());
    assert_eq!(numbers, ["2", "1", "0", "0"]);
    let audit = connection.ask("audit", json!({})).ok();
    for field in ["ok", "findings", "balances", "in_transit", "paid_in", "paid_out"] {
        assert!(audit.get(field).is_some(), "{field}: {audit}");
    }
    assert_eq!((audit["balances"].to_string(), audit["paid_in"].to_string()), ("2000.00".into(), "2000.00".into()));
    let branches = connection.ask("branches", json!({})).text;
    let expected = format!(
        r#"{{"status":"ok","result":[{{"name":"Mumbai","address":"127.0.0.1:{}","state":"here"}}]}}"#,
        branch.port()
    );
    assert_eq!(branches, expected);
    for action in ["history", "get_logs"] {
        let rows = connection.ask(action, json!({"account_no": "1001"})).ok();
        assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
        let row = &rows[0];
        for field in ["transaction_id", "date", "type", "from_account", "to_account", "amount", "txid", "peer"] {
            assert!(keys(row).contains(&field.to_string()), "{field}: {row}");
        }
        assert_eq!((&row["type"], &row["to_account"]), (&json!("opening"), &json!("1001")));
        assert_eq!(row["amount"].to_string(), "1000.00");
        assert!(row["date"].as_str().unwrap().ends_with('Z'), "{row}");
    }
    connection.ask("history", json!({"account_no": 4711})).refused("no_such_account");
}

#[test]
fn wrong_parameters_are_refused_and_change_nothing() {
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    let before = connection.ask("history", json!({})).text;
    let amounts = [
        "0",
        "0.00",
        "-1",
        "\"+1\"",
        "1.001",
        "1e2",
        "\"1e2\"",
        "\"NaN\"",
        "\" 1\"",
        "\"1 \"",
        "\"\"",
        "\"1,5\"",
        "null",
        "true",
        "{}",
        "[1]",
        "100000000000000.00",
        "99999999999999999999999",
        "\"१\"",
    ];
    for amount in amounts {
        for (action, accounts) in [
            ("deposit", r#""account_no":1001"#),
            ("withdraw", r#""account_no":1001"#),
            ("local_transfer", r#""src_account_no":1001,"dest_account_no":1002"#),
            ("prepare_withdraw", r#""txid":"T","account_no":1001"#),
            ("prepare_deposit", r#""txid":"T","account_no":1001"#),
        ] {
            let text = format!(r#"{{"action":"{action}","params":{{{accounts},"amount":{amount}}}}}"#);
            assert_eq!(connection.text(&text).refused("invalid_amount").code(), "invalid_amount", "{text}");
        }
    }
    for account in ["0", "-1", "1.5", "1e3", "null", "true", "{}", "\"\"", "\"abc\"", "\" 1001\"", "9999999999999999"] {
        for action in ["balance", "deposit", "withdraw", "close_account", "set_password", "prepare_deposit"] {
            let params = format!(r#"{{"txid":"T","account_no":{account},"amount":1,"password":"pass"}}"#);
            let reply = connection.text(&format!(r#"{{"action":"{action}","params":{params}}}"#));
            assert_eq!(reply.code(), "invalid_params", "{action} of {account}: {}", reply.text);
        }
    }
    for (action, params, code) in [
        ("balance", json!({}), "invalid_params"),
        ("balance", json!([1001]), "invalid_params"),
        ("balance", json!("1001"), "invalid_params"),
        ("balance", json!({"account_no": 1003}), "no_such_account"),
        ("deposit", json!({"account_no": 1001}), "invalid_params"),
        ("deposit", json!({"account_no": 1003, "amount": 1}), "no_such_account"),
        ("deposit", json!({"account_no": 1001, "amount": "99999999999999.99"}), "balance_limit"),
        ("withdraw", json!({"account_no": 1003, "amount": 1}), "no_such_account"),
        ("withdraw", json!({"account_no": 1001, "amount": "1000.01"}), "insufficient_funds"),
        ("local_transfer", json!({"src_account_no": 1001, "dest_account_no": 1001, "amount": 1}), "same_account"),
        ("local_transfer", json!({"src_account_no": 1001, "dest_account_no": 1003, "amount": 1}), "no_such_account"),
        ("local_transfer", json!({"src_account_no": 1003, "dest_account_no": 1001, "amount": 1}), "no_such_account"),
        (
            "local_transfer",
            json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1001}),
            "insufficient_funds",
        ),
        ("create_account", json!({"name": "Asha", "account_no": 1001}), "account_exists"),
        ("create_account", json!({}), "invalid_params"),
        ("create_account", json!({"name": ""}), "invalid_params"),
        ("create_account", json!({"name": "x".repeat(10_000)}), "invalid_params"),
        ("create_account", json!({"name": "a\u{7}b"}), "invalid_params"),
        ("create_account", json!({"name": "Asha", "balance": "-1"}), "invalid_amount"),
        ("create_account", json!({"name": "Asha", "aadhar_num": "123"}), "invalid_params"),
        ("create_account", json!({"name": "Asha", "phone_num": "123"}), "invalid_params"),
        ("create_account", json!({"name": "Asha", "password": "abc"}), "invalid_params"),
        ("create_account", json!({"name": "Asha", "sms": "yes"}), "invalid_params"),
        ("close_account", json!({"account_no": 1003}), "no_such_account"),
        ("set_password", json!({"account_no": 1003, "password": "pass"}), "no_such_account"),
        ("set_password", json!({"account_no": 1001, "password": "abc"}), "invalid_params"),
        ("login", json!({"account_no": 1001}), "invalid_params"),
        ("login", json!({"account_no": 1001, "password": "1002"}), "wrong_login"),
        ("login", json!({"account_no": 4711, "password": "1002"}), "wrong_login"),
        ("list_accounts", json!({"limit": -1}), "invalid_params"),
        ("list_accounts", json!({"after": "x"}), "invalid_params"),
        ("history", json!({"after": "x"}), "invalid_params"),
        ("tx_status", json!({}), "invalid_params"),
        ("tx_status", json!({"txid": "a b"}), "invalid_params"),
        ("commit_deposit", json!({}), "invalid_params"),
        ("resolve", json!({"txid": "T"}), "invalid_params"),
        ("resolve", json!({"txid": "T", "outcome": "commit", "reason": "why"}), "no_such_transfer"),
        ("hello", json!({"nonce": "00"}), "invalid_params"),
        ("authenticate", json!({"proof": "00"}), "not_allowed"),
        ("link", json!({"branch": "Mumbai", "port": 1}), "name_taken"),
        ("link", json!({"branch": "a b", "port": 1}), "invalid_params"),
        ("batch", json!({}), "invalid_params"),
        ("batch", json!({"requests": 1}), "invalid_params"),
    ] {
        let reply = connection.ask(action, params.clone());
        assert_eq!(reply.code(), code, "{action} {params}: {}", reply.text);
        reply.refused(code);
    }
    assert_eq!(connection.ask("history", json!({})).text, before);
    assert_eq!(connection.ask("list_accounts", json!({})).ok().as_array().unwrap().len(), 2);
}

#[test]
fn three_times_a_tenth_is_thirty_paise() {
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    connection.ask("create_account", json!({"account_no": 2000, "name": "Asha"})).ok();
    for (amount, expected) in [("0.1", "0.10"), ("0.1", "0.20"), ("\"0.1\"", "0.30")] {
        let text = format!(r#"{{"action":"deposit","params":{{"account_no":2000,"amount":{amount}}}}}"#);
        answers(&mut connection, &text, &format!(r#"{{"status":"ok","result":{{"balance":{expected}}}}}"#));
    }
    let text = r#"{"action":"withdraw","params":{"account_no":2000,"amount":0.30}}"#;
    answers(&mut connection, text, r#"{"status":"ok","result":{"balance":0.00}}"#);
    // The largest amount, to the last paisa.
    let text = r#"{"action":"deposit","params":{"account_no":2000,"amount":99999999999999.99}}"#;
    answers(&mut connection, text, r#"{"status":"ok","result":{"balance":99999999999999.99}}"#);
}

#[test]
fn lists_come_in_pages() {
    const ACCOUNTS: u64 = 25;
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    let requests: Vec<_> = (0..ACCOUNTS)
        .map(|index| json!({"action": "create_account", "params": {"account_no": 3000 + index, "name": "Asha", "balance": 1}}))
        .collect();
    connection.ask("batch", json!({"requests": requests, "atomic": true})).ok();
    for action in ["list_accounts", "history"] {
        let field = if action == "history" { "transaction_id" } else { "account_no" };
        let all = connection.ask(action, json!({}));
        assert!(all.json.get("next").is_none(), "{}", all.text);
        for limit in [1, 4, 9, 26, 27, 28] {
            let (mut params, mut found, mut pages) = (json!({"limit": limit}), Vec::new(), 0);
            loop {
                let page = connection.ask(action, params.clone());
                let rows = page.ok().as_array().unwrap().clone();
                pages += 1;
                assert!(!rows.is_empty() && rows.len() <= limit, "{}", page.text);
                found.extend(rows);
                let Some(next) = page.json.get("next") else { break };
                assert_eq!(next, &found.last().unwrap()[field]);
                params["after"] = next.clone();
            }
            assert_eq!(Value::from(found), all.ok(), "{action} by {limit}");
            assert_eq!(pages, (ACCOUNTS as usize + 2).div_ceil(limit), "{action} by {limit}");
        }
    }
}

#[test]
fn a_list_that_would_be_too_long_stops_early_and_says_where_it_goes_on() {
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    // Names of this length make a list of 10,000 rows longer than an answer may be.
    let name = "म".repeat(60);
    let requests: Vec<_> = (0..10_000).map(|_| json!({"action": "create_account", "params": {"name": name}})).collect();
    connection.ask("batch", json!({"requests": requests, "atomic": true})).ok();
    let (mut params, mut count) = (json!({"limit": 10_000}), 0);
    loop {
        let page = connection.ask("list_accounts", params.clone());
        assert!(page.text.len() <= 1 << 20, "{} bytes", page.text.len());
        count += page.ok().as_array().unwrap().len();
        let Some(next) = page.json.get("next") else { break };
        params["after"] = next.clone();
    }
    assert_eq!(count, 10_002);
    let too_many: Vec<_> = (0..10_001).map(|_| json!({"action": "status"})).collect();
    connection.ask("batch", json!({"requests": too_many})).refused("invalid_params");
}

#[test]
fn a_batch_each_on_its_own_or_all_or_none() {
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    let deposit =
        |account: u64, amount: &str| json!({"action": "deposit", "params": {"account_no": account, "amount": amount}});
    let withdraw = json!({"action": "withdraw", "params": {"account_no": 1001, "amount": "1001"}});
    let requests = json!([deposit(1001, "1"), deposit(9, "1"), withdraw, {"action": "balance", "params": {"account_no": 1001}},
        {"action": "status"}, {"action": "inter_branch_transfer", "params": {}}, 5]);
    let codes = |answers: &Value| -> Vec<String> {
        answers.as_array().unwrap().iter().map(|answer| answer["code"].as_str().unwrap_or("ok").to_string()).collect()
    };
    let done = connection.ask("batch", json!({"requests": requests})).ok();
    let each = ["ok", "no_such_account", "ok", "ok", "invalid_params", "invalid_params", "bad_json"];
    assert_eq!(codes(&done), each, "{done}");
    assert_eq!(done[3]["result"]["balance"].to_string(), "0.00", "a request sees those before it");
    for refused in [deposit(9, "1"), deposit(1001, "0"), withdraw.clone(), json!({"action": "status"})] {
        let requests = json!([deposit(1001, "1"), refused, deposit(1002, "1")]);
        let answers = connection.ask("batch", json!({"requests": requests, "atomic": true})).ok();
        let codes = codes(&answers);
        assert!(codes[0] == "batch_refused" && codes[2] == "batch_refused" && codes[1] != "ok", "{answers}");
    }
    assert_eq!([1001, 1002].map(|account| connection.balance(account)), ["0.00", "1000.00"]);
    let requests = json!([deposit(1001, "5"), {"action": "local_transfer", "params": {"src_account_no": 1001,
        "dest_account_no": 1002, "amount": 5}}, {"action": "balance", "params": {"account_no": 1002}}]);
    let done = connection.ask("batch", json!({"requests": requests, "atomic": true})).ok();
    assert_eq!(done[2]["result"]["balance"].to_string(), "1005.00", "{done}");
    assert_eq!(connection.ask("batch", json!({"requests": []})).text, r#"{"status":"ok","result":[]}"#);
}

#[test]
fn an_older_client_transfers_between_open_branches() {
    let bank = Bank::new();
    let [mumbai, delhi] = ["Mumbai", "Delhi"].map(|name| bank.start(name, Options::named(name).flag("--open")));
    let mut connection = mumbai.connect_anonymously();
    let params = json!({"src_account_no": "1001", "dest_host": "127.0.0.1", "dest_port": delhi.port().to_string(),
        "dest_account_no": "1002", "amount": 50.5});
    let done = connection.ask("inter_branch_transfer", params).ok();
    assert_eq!(done["status"], "transfer_complete");
    assert_eq!(
        (connection.balance(1001), delhi.connect_anonymously().balance(1002)),
        ("949.50".into(), "1050.50".into())
    );
}

#[test]
fn a_watcher_sees_what_happens() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let mut watcher = mumbai.connect();
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 5, "dest_branch": "Delhi"});
    let done = mumbai.connect().ask("inter_branch_transfer", params).ok();
    // Those in memory, then the end.
    watcher.send_text(&request("watch", json!({"txid": done["txid"], "follow": false}), None)).unwrap();
    let mut numbers = Vec::new();
    loop {
        let event = watcher.receive().unwrap().ok();
        if event.is_null() {
            break;
        }
        assert_eq!((&event["txid"], &event["branch"]), (&done["txid"], &json!("Mumbai")), "{event}");
        numbers.push(event["number"].to_string().parse::<u64>().unwrap());
    }
    assert!(numbers.len() >= 8 && numbers.is_sorted(), "{numbers:?}");
    // And as they happen.
    watcher.send_text(&request("watch", json!({"after": numbers.last()}), None)).unwrap();
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 6, "dest_branch": "Delhi"});
    let next = mumbai.connect().ask("inter_branch_transfer", params).ok();
    while watcher.receive().unwrap().ok()["txid"] != next["txid"] {}
}
