//! The bridge's paths, right and wrong, against real branches: the older programs' and the dashboard's.

use std::net::TcpListener;

use bank_tests::{Bank, Branch, Bridge, FORM, JSON, Options, figure, wait_until};
use serde_json::{Value, json};

/// Two branches that know one another, and an open bridge to both.
fn open_pair() -> (Bank, Branch, Branch, Bridge) {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], &["--open"]);
    (bank, mumbai, delhi, bridge)
}

#[test]
fn an_older_program_works_unchanged() {
    let (_bank, mumbai, delhi, bridge) = open_pair();
    let (mumbai, delhi) = (format!("host=127.0.0.1&port={}", mumbai.port()), format!("port={}", delhi.port()));
    let answer = bridge.form("/deposit", &format!("{mumbai}&account=1001&amount=100"));
    assert_eq!(answer.text, r#"{"status":"ok","result":{"balance":1100.00}}"#);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = bridge.form("/withdraw", &format!("{mumbai}&account=1001&amount=0.50"));
    assert_eq!(answer.text, r#"{"status":"ok","result":{"balance":1099.50}}"#);
    let answer = bridge.form("/balance", &format!("{mumbai}&account=1001"));
    assert_eq!(figure(&answer.ok()["balance"]), "1099.50");
    let src = mumbai.replace("host=", "src_host=").replace("port=", "src_port=");
    let dest = format!("dest_host=localhost&{}", delhi.replace("port=", "dest_port="));
    let answer = bridge.form("/transfer", &format!("{src}&src_account=1001&{dest}&dest_account=1002&amount=99.50"));
    assert_eq!(answer.ok()["status"], "transfer_complete");
    assert_eq!(figure(&answer.ok()["amount"]), "99.50");
    let here = src.replace("src_", "dest_");
    let answer = bridge.form("/transfer", &format!("{src}&src_account=1001&{here}&dest_account=1002&amount=1000"));
    assert_eq!(figure(&answer.ok()["from"]["balance"]), "0.00");
    let accounts = bridge.get(&format!("/list_accounts?{mumbai}")).ok();
    assert_eq!(accounts[1]["account_no"], "1002");
    assert_eq!(figure(&accounts[1]["balance"]), "2000.00");
    let logs = bridge.form("/get_logs", &format!("{mumbai}&account=1001&limit=2"));
    assert_eq!(logs.ok().as_array().unwrap().len(), 2);
    assert!(logs.json["next"].is_number());
    let answer = bridge.form("/withdraw", &format!("{mumbai}&account=1001&amount=1"));
    answer.refused(409, "insufficient_funds");
}

#[test]
fn a_form_and_json_say_the_same_and_money_keeps_its_digits() {
    let (_bank, mumbai, _delhi, bridge) = open_pair();
    let mut balances = Vec::new();
    for body in [
        json!({"branch": "Mumbai", "account": 1001, "amount": "70000000000000.07"}),
        json!({"host": "127.0.0.1", "port": mumbai.port(), "account_no": "1001", "amount": 0.01}),
    ] {
        balances.push(figure(&bridge.json("/deposit", &body).ok()["balance"]));
    }
    // Sent as it is: no float could hold it.
    let request = bridge.request("POST", "/deposit");
    let body = r#"{"branch":"Mumbai","account":1001,"amount":20000000000000.03}"#;
    balances.push(figure(&request.body(JSON, body).send().ok()["balance"]));
    assert_eq!(balances, ["70000000001000.07", "70000000001000.08", "90000000001000.11"]);
}

#[test]
fn wrong_requests_are_refused_with_a_status_and_a_code() {
    let (_bank, mumbai, _delhi, bridge) = open_pair();
    let check = |path: &str, form: &str, status: u16, code: &str| {
        bridge.form(path, form).refused(status, code);
    };
    check("/deposit", "branch=Mumbai&account=1001", 400, "invalid_params");
    check("/deposit", "branch=Mumbai&amount=1", 400, "invalid_params");
    check("/deposit", "account=1001&amount=1", 400, "invalid_params");
    check("/deposit", "host=127.0.0.1&account=1001&amount=1", 400, "invalid_params");
    check("/deposit", "branch=Mumbai&account=1001&amount=1&amount=2", 400, "invalid_params");
    check("/deposit", "branch=Mumbai&account=mine&amount=1", 400, "invalid_params");
    check("/deposit", "branch=Mumbai&account=1001&amount=1.001", 400, "invalid_amount");
    check("/deposit", "branch=Mumbai&account=1001&amount=-1", 400, "invalid_amount");
    check("/deposit", "branch=Mumbai&account=1001&amount=0", 400, "invalid_amount");
    check("/deposit", "branch=Mumbai&account=4711&amount=1", 404, "no_such_account");
    check("/withdraw", "branch=Mumbai&account=1001&amount=5000", 409, "insufficient_funds");
    check("/balance", "branch=Pune&account=1001", 403, "branch_not_allowed");
    check("/transfer", "src_branch=Mumbai&src_account=1001&dest_account=1001&amount=1", 409, "same_account");
    check("/transfer", "src_branch=Mumbai&src_account=1001&dest_branch=Delhi&amount=1", 400, "invalid_params");
    check(
        "/transfer",
        "src_branch=Mumbai&src_account=1001&dest_branch=Delhi&dest_account=4711&amount=1",
        404,
        "no_such_account",
    );
    check("/create_account", "branch=Mumbai", 400, "invalid_params");
    check("/create_account", "branch=Mumbai&name=A&account=1001", 409, "account_exists");
    check("/close_account", "branch=Mumbai&account=4711", 404, "no_such_account");
    check("/resolve", "branch=Mumbai&txid=Mumbai-1&outcome=maybe&reason=r", 400, "invalid_params");
    check("/resolve", "branch=Mumbai&txid=Mumbai-1&outcome=abort", 400, "invalid_params");
    check("/resolve", "branch=Mumbai&txid=Mumbai-1&outcome=abort&reason=r", 404, "no_such_transfer");
    check("/teaching/Mumbai/step_mode", "on=true", 409, "not_teaching");
    check("/teaching/Pune/step_mode", "on=true", 403, "branch_not_allowed");
    check("/teaching/Mumbai/restart", "", 409, "not_restartable");
    check("/scenarios/unheard-of", "", 404, "not_found");
    check("/scenarios/next", "", 409, "no_scenario");
    check("/nothing", "", 404, "not_found");
    check("/audit", "", 405, "method_not_allowed");
    bridge.get("/deposit").refused(405, "method_not_allowed");
    bridge.get("/history?branch=Mumbai&from=yesterday").refused(400, "invalid_params");
    bridge.get("/history?branch=Mumbai&format=xml").refused(400, "invalid_params");
    bridge.get("/transfers/none").refused(404, "not_found");
    bridge.get("/assets/../Cargo.toml").refused(404, "not_found");
    let other = bridge.request("POST", "/deposit").body("text/xml", "<amount/>").send();
    other.refused(415, "invalid_body");
    let broken = bridge.request("POST", "/deposit").body(JSON, r#"{"account":"#).send();
    broken.refused(400, "invalid_params");
    assert_eq!(mumbai.connect().balance(1001), "1000.00", "nothing of it has moved money");
}

#[test]
fn a_host_and_port_that_nobody_listed_is_refused_and_never_connected_to() {
    let (_bank, mumbai, _delhi, bridge) = open_pair();
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let port = trap.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::1]", "127.0.0.1.evil.example", "0.0.0.0"] {
        bridge.form("/balance", &format!("host={host}&port={port}&account=1001")).refused(403, "branch_not_allowed");
        bridge.get(&format!("/list_accounts?host={host}&port={port}")).refused(403, "branch_not_allowed");
        let form =
            format!("src_branch=Mumbai&src_account=1001&dest_host={host}&dest_port={port}&dest_account=1002&amount=1");
        bridge.form("/transfer", &form).refused(403, "branch_not_allowed");
    }
    let port = mumbai.port();
    bridge.form("/balance", &format!("host=10.255.255.1&port={port}&account=1001")).refused(403, "branch_not_allowed");
    bridge.get("/audit").ok();
    assert!(trap.accept().is_err(), "a connection was tried");
}

#[test]
fn accounts_are_opened_found_and_closed() {
    let (_bank, _mumbai, delhi, bridge) = open_pair();
    let form = "branch=Delhi&name=Meera+Nair&balance=250.50&aadhar_num=123456789012&phone_num=9876543210&sms=yes";
    let number = bridge.form("/create_account", form).ok()["account_no"].as_str().unwrap().to_string();
    assert_eq!(delhi.connect().balance(number.parse().unwrap()), "250.50");
    bridge.form("/create_account", form).refused(409, "duplicate_aadhar");
    for text in ["meera", "NAIR", &number] {
        let found = bridge.get(&format!("/list_accounts?branch=Delhi&q={text}")).ok();
        assert_eq!(found[0]["name"], "Meera Nair", "{text}");
    }
    let first = bridge.get("/list_accounts?branch=Delhi&q=100&limit=1");
    assert_eq!((first.ok()[0]["account_no"].as_str(), &first.json["next"]), (Some("1001"), &json!("1001")));
    let rest = bridge.get("/list_accounts?branch=Delhi&q=100&limit=9&after=1001");
    assert_eq!((rest.ok().as_array().unwrap().len(), &rest.json["next"]), (2, &Value::Null));
    let closed = bridge.form("/close_account", &format!("branch=Delhi&account={number}")).ok();
    assert_eq!(figure(&closed["paid_out"]), "250.50");
    bridge.form("/balance", &format!("branch=Delhi&account={number}")).refused(409, "account_closed");
}

#[test]
fn a_write_that_is_repeated_under_its_id_happens_once() {
    let (_bank, mumbai, _delhi, bridge) = open_pair();
    let form = "branch=Mumbai&account=1001&amount=5&request_id=once";
    let first = bridge.form("/deposit", form);
    assert_eq!(bridge.form("/deposit", form).text, first.text);
    assert_eq!(mumbai.connect().balance(1001), "1005.00");
    let other = bridge.form("/deposit", "branch=Mumbai&account=1001&amount=6&request_id=once");
    other.refused(409, "request_id_reused");
    let form = "src_branch=Mumbai&src_account=1001&dest_branch=Delhi&dest_account=1002&amount=5&request_id=move";
    let first = bridge.form("/transfer", form);
    assert_eq!(bridge.form("/transfer", form).ok()["txid"], first.ok()["txid"]);
    assert_eq!(mumbai.connect().balance(1001), "1000.00");
}

#[test]
fn history_is_filtered_paged_and_downloaded() {
    let (_bank, mumbai, _delhi, bridge) = open_pair();
    for amount in 1..=5 {
        bridge.form("/deposit", &format!("branch=Mumbai&account=1002&amount={amount}")).ok();
    }
    bridge.form("/deposit", "branch=Delhi&account=1001&amount=7").ok();
    let rows = |query: &str| bridge.get(&format!("/history?{query}")).ok().as_array().unwrap().clone();
    assert_eq!(rows("branch=Mumbai&type=deposit").len(), 5);
    assert_eq!(rows("branch=Mumbai&account=1001").len(), 1, "its opening");
    assert_eq!(rows("from=2099-01-01").len(), 0);
    assert_eq!(rows("to=2099-01-01").len(), 10, "the six, and four openings");
    assert_eq!(
        (&rows("limit=1")[0]["branch"], figure(&rows("limit=1")[0]["amount"])),
        (&json!("Delhi"), "7.00".into())
    );
    // Page by page everything comes once, newest first, over both branches.
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = bridge.get(&format!("/history?limit=3{after}"));
        for row in page.ok().as_array().unwrap() {
            seen.push((row["date"].to_string(), row["branch"].to_string(), row["transaction_id"].to_string()));
        }
        let Some(next) = page.json["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen.len(), 10);
    assert!(seen.windows(2).all(|pair| pair[0].0 >= pair[1].0), "{seen:?}");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10);
    let csv = bridge.get("/history?branch=Mumbai&format=csv&type=deposit");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(csv.text.lines().count(), 6);
    assert!(csv.text.contains(",deposit,cash,1002,5.00,"), "{}", csv.text);
    let one = bridge.get("/history?branch=Mumbai&limit=2");
    let next = one.json["next"].as_str().unwrap().to_string();
    assert_eq!(rows(&format!("branch=Mumbai&limit=9&after={next}")).len(), 5);
    drop(mumbai);
}

#[test]
fn the_whole_bank_is_told_and_audited() {
    let (_bank, _mumbai, _delhi, bridge) = open_pair();
    let form = "src_branch=Mumbai&src_account=1001&dest_branch=Delhi&dest_account=1002&amount=250.25";
    let txid = bridge.form("/transfer", form).ok()["txid"].as_str().unwrap().to_string();
    let audit = bridge.get("/audit").ok();
    assert_eq!((&audit["ok"], &audit["complete"]), (&json!(true), &json!(true)), "{audit}");
    assert_eq!((figure(&audit["money"]), figure(&audit["paid_in"])), ("4000.00".into(), "4000.00".into()));
    assert_eq!(figure(&audit["branches"]["Delhi"]["balances"]), "2250.25");
    wait_until("the bridge has heard of the transfer's end", || {
        let transfers = bridge.get("/transfers?limit=1").ok();
        transfers[0]["txid"] == txid && transfers[0]["outcome"] == "committed"
    });
    let line = bridge.get("/transfers").ok()[0].clone();
    assert_eq!((&line["coordinator"], &line["participants"]), (&json!("Mumbai"), &json!(["Mumbai", "Delhi"])));
    assert!(line["text"].as_str().unwrap().contains("250.25"), "{line}");
    let story = bridge.get(&format!("/transfers/{txid}")).ok();
    let events = story["events"].as_array().unwrap().clone();
    let place = |event: &str, branch: &str| {
        events.iter().position(|one| one["branch"] == branch && !one["kind"][event].is_null()).unwrap()
    };
    assert!(place("sent", "Mumbai") < place("received", "Delhi"), "no cause after its effect");
    let export = |format: &str| bridge.get(&format!("/transfers/{txid}/export?format={format}"));
    assert!(export("mermaid").text.contains("\nsequenceDiagram\n"), "{}", export("mermaid").text);
    assert!(export("text").text.contains("Delhi") && export("shiviz").text.contains("Mumbai"));
    assert_eq!(export("json").ok(), story);
    export("pdf").refused(400, "invalid_params");
    let metrics = bridge.get("/metrics").text;
    for line in [
        "bank_branch_up{branch=\"Delhi\"} 1",
        "bank_branch_balances_paise{branch=\"Delhi\"} 225025",
        "bank_money_paise 400000",
        "bank_audit_ok 1",
        "bank_bridge_requests_total{method=\"POST\",path=\"/transfer\",status=\"200\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn the_last_minutes_are_kept_for_the_charts() {
    let (_bank, _mumbai, _delhi, bridge) = open_pair();
    let is_busy = |point: &Value| figure(&point["transfers_per_second"]) != "0.0";
    // A rate is between two looks, and what was booked before the first is in none; so pay in until it shows.
    wait_until("the last minutes show what was booked", || {
        bridge.form("/deposit", "branch=Mumbai&account=1001&amount=1").ok();
        bridge.get("/recent").ok().as_array().unwrap().iter().any(is_busy)
    });
}

#[test]
fn a_branch_that_is_down_costs_its_own_requests_alone() {
    let (_bank, _mumbai, mut delhi, bridge) = open_pair();
    delhi.kill9();
    bridge.form("/balance", "branch=Delhi&account=1001").refused(502, "branch_unreachable");
    let form = "src_branch=Delhi&src_account=1001&dest_branch=Mumbai&dest_account=1002&amount=1";
    bridge.form("/transfer", form).refused(502, "branch_unreachable");
    let form = "src_branch=Mumbai&src_account=1001&dest_branch=Delhi&dest_account=1002&amount=1";
    bridge.form("/transfer", form).refused(502, "branch_unreachable");
    bridge.form("/balance", "branch=Mumbai&account=1001").ok();
    wait_until("the bridge sees it", || bridge.get("/healthz").ok()["up"] == 1);
    let pending = bridge.get("/pending");
    assert_eq!((pending.ok(), &pending.json["missing"]), (json!([]), &json!(["Delhi"])));
    let audit = bridge.get("/audit").ok();
    assert_eq!((&audit["ok"], &audit["complete"]), (&Value::Null, &json!(false)), "{audit}");
    bridge.get("/history").refused(502, "branch_unreachable");
    delhi.restart();
    wait_until("the bridge has found it again", || bridge.get("/healthz").ok()["up"] == 2);
    bridge.form("/balance", "branch=Delhi&account=1001").ok();
    assert_eq!(bridge.get("/audit").ok()["ok"], true);
}

#[test]
fn a_transfer_in_doubt_is_shown_and_settled_by_hand() {
    let bank = Bank::new();
    let mut mumbai = bank.branch_that_crashes("Mumbai", "before-decision");
    let delhi = bank.branch("Delhi");
    let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], &["--open"]);
    let form = "src_branch=Mumbai&src_account=1001&dest_branch=Delhi&dest_account=1002&amount=50&request_id=doubt";
    bridge.form("/transfer", form).refused(502, "outcome_unknown");
    mumbai.wait_for_crash();
    let pending = bridge.get("/pending").ok();
    let row = pending.as_array().unwrap().iter().find(|row| row["branch"] == "Delhi").unwrap().clone();
    assert_eq!((&row["state"], &row["coordinator"]), (&json!("prepared"), &json!("Mumbai")), "{row}");
    let doubt_now = || bridge.get("/branches").ok()[1]["in_doubt"].clone();
    wait_until("the card of Delhi shows it", || doubt_now() == 1);
    let txid = row["txid"].as_str().unwrap();
    let form = format!("branch=Delhi&txid={txid}&outcome=abort&reason=the+coordinator+is+gone");
    bridge.form("/resolve", &form).ok();
    assert_eq!(delhi.connect().balance(1002), "1000.00");
    wait_until("the card shows none", || doubt_now() == 0);
    // The charts of a page that is opened only now show that there was one.
    let recent = bridge.get("/recent").ok();
    let points = recent.as_array().unwrap();
    assert!(points.iter().any(|point| point["in_doubt"] == 1), "{recent}");
    assert!(points.is_sorted_by_key(|point| std::cmp::Reverse(point["age_ms"].as_u64())), "{recent}");
}

#[test]
fn further_branches_are_found_by_those_that_are_known() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let bridge = Bridge::start(&[("Mumbai", &mumbai)], &["--open"]);
    bridge.form("/balance", "branch=Delhi&account=1001").refused(403, "branch_not_allowed");
    Bank::introduce(&[&mumbai, &delhi]);
    wait_until("the bridge knows Delhi", || bridge.get("/healthz").ok()["up"] == 2);
    bridge.form("/balance", &format!("host=127.0.0.1&port={}&account=1001", delhi.port())).ok();
}

#[test]
fn a_branch_under_a_false_name_or_without_the_key_is_not_spoken_to() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let stranger = Branch::start(Options::named("Pune"));
    let arguments: Vec<String> = [
        "--open".into(),
        "--key".into(),
        mumbai.key_path().display().to_string(),
        format!("--branch=Delhi=127.0.0.1:{}", mumbai.port()),
        format!("--branch=Pune=127.0.0.1:{}", stranger.port()),
    ]
    .into();
    let bridge = Bridge::start_with(&arguments, bank.folder());
    let refusal = bridge.form("/balance", "branch=Delhi&account=1001");
    refusal.refused(502, "branch_unreachable");
    assert!(refusal.text.contains("is the branch Mumbai"), "{}", refusal.text);
    let refusal = bridge.form("/deposit", "branch=Pune&account=1001&amount=1");
    refusal.refused(502, "branch_unreachable");
    assert!(refusal.text.contains("does not hold this bank's key"), "{}", refusal.text);
    assert_eq!(stranger.connect().balance(1001), "1000.00");
}

#[test]
fn every_path_of_the_document_answers() {
    let (_bank, _mumbai, _delhi, bridge) = open_pair();
    let document = bridge.get("/openapi.json").json;
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let path = path.replace("{branch}", "Mumbai").replace("{file}", "app.js").replace("{name}", "none");
            let path = path.replace("{txid}", "none");
            count += 1;
            if path == "/events" {
                bridge.request(&method, &path).events().close();
                continue;
            }
            let request = bridge.request(&method, &path);
            let answer = if method == "POST" { request.body(FORM, "").send() } else { request.send() };
            let is_described = answer.status() != 405 && !answer.text.contains("there is no such path");
            assert!(is_described && answer.status() != 500, "{method} {path}: {}", answer.text);
        }
    }
    assert!(count > 30);
}

#[test]
fn the_page_and_its_files_come_with_what_keeps_them_safe() {
    let (_bank, _mumbai, _delhi, bridge) = open_pair();
    let page = bridge.get("/");
    assert_eq!((page.status(), page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for path in ["/", "/assets/app.js", "/session", "/nothing"] {
        let answer = bridge.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    let tag = page.header("etag").unwrap();
    assert_eq!(bridge.request("GET", "/").header("If-None-Match", tag).send().status(), 304);
    assert_eq!(bridge.get("/session").header("cache-control"), Some("no-store"));
    for part in page.text.split('"').filter(|part| part.starts_with("/assets/")) {
        assert_eq!(bridge.get(part).status(), 200, "{part}");
    }
}
