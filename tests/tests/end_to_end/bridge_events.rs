//! What the bridge tells those who watch: events, the bank's figures, a customer's account, stages and scenarios.

use bank_tests::{Bank, Branch, Bridge, EventStream, FORM, Options, ServerEvent, figure, wait_until};
use serde_json::{Value, json};

fn pair(flags: &[&str]) -> (Bank, Branch, Branch, Bridge) {
    let bank = Bank::new();
    let branch = |name: &str| bank.start(name, Options::named(name).flag("--teaching"));
    let (mumbai, delhi) = (branch("Mumbai"), branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], flags);
    (bank, mumbai, delhi, bridge)
}

const TRANSFER: &str = "src_branch=Mumbai&src_account=1001&dest_branch=Delhi&dest_account=1002&amount=50";

/// Waits until the transfer has ended at its coordinator. Gives the id of the last event that was read.
fn wait_for_end(stream: &mut EventStream, txid: &str) -> u64 {
    let is_end = |data: &Value| data["txid"] == txid && data["kind"]["recorded"]["record"] == "ended";
    stream.wait_for("the transfer has ended", |event| event.kind == "happened" && is_end(&event.data)).id.unwrap()
}

/// Waits until every branch's books were looked at once.
fn wait_for_books(stream: &mut EventStream) -> ServerEvent {
    stream.wait_for("the books are known", |event| event.kind == "bank" && event.data["verdict"]["complete"] == true)
}

#[test]
fn a_stream_begins_with_the_bank_and_goes_on_where_it_was() {
    let (_bank, _mumbai, _delhi, bridge) = pair(&["--open"]);
    let mut stream = bridge.request("GET", "/events").events();
    let first = stream.next_event().unwrap();
    assert_eq!((first.kind.as_str(), &first.data["branches"][0]["name"]), ("bank", &json!("Mumbai")));
    let audited = wait_for_books(&mut stream);
    assert_eq!(figure(&audited.data["totals"]["money"]), "4000.00");
    let txid = bridge.form("/transfer", TRANSFER).ok()["txid"].as_str().unwrap().to_string();
    wait_for_end(&mut stream, &txid);
    stream.close();
    // All that is remembered, by rising numbers; then from the middle again.
    let mut all = Vec::new();
    let mut stream = bridge.request("GET", "/events?after=0").events();
    loop {
        let event = stream.next_event().unwrap();
        if event.kind == "happened" && event.data["txid"] == txid {
            let is_end = event.data["kind"]["recorded"]["record"] == "ended";
            all.push(event);
            if is_end {
                break;
            }
        }
    }
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));
    let (seen, rest) = all.split_at(all.len() / 2);
    let last = seen.last().unwrap().id.unwrap();
    let mut resumed = bridge.request("GET", "/events").header("Last-Event-ID", &last.to_string()).events();
    for expected in rest {
        let got = resumed.wait_for("the rest", |event| event.kind == "happened" && event.data["txid"] == txid);
        assert_eq!(&got, expected);
    }
    // A number from the future, as after a restart, is the present.
    let mut late = bridge.request("GET", "/events?after=9007199254740991").events();
    assert_eq!(late.next_event().unwrap().kind, "bank");
    let txid = bridge.form("/transfer", TRANSFER).ok()["txid"].as_str().unwrap().to_string();
    wait_for_end(&mut late, &txid);
}

#[test]
fn money_in_all_branches_does_not_move_by_transfers() {
    let (_bank, _mumbai, _delhi, bridge) = pair(&["--open"]);
    let mut stream = bridge.request("GET", "/events").events();
    wait_for_books(&mut stream);
    for _ in 0..20 {
        bridge.form("/transfer", TRANSFER).ok();
    }
    bridge.form("/deposit", "branch=Delhi&account=1001&amount=1").ok();
    let mut is_settled = false;
    while !is_settled {
        let event = stream.wait_for("a word on the bank", |event| event.kind == "bank");
        let totals = &event.data["totals"];
        assert!(["4000.00", "4001.00"].contains(&figure(&totals["money"]).as_str()), "{totals}");
        assert_ne!(event.data["verdict"]["ok"], false, "{}", event.data["verdict"]);
        is_settled = figure(&totals["money"]) == "4001.00"
            && figure(&totals["in_transit"]) == "0.00"
            && figure(&event.data["branches"][1]["balances"]) == "3001.00"
            && event.data["verdict"]["ok"] == true;
    }
}

#[test]
fn a_branch_that_goes_and_comes_is_told() {
    let (_bank, _mumbai, mut delhi, bridge) = pair(&["--open"]);
    let mut stream = bridge.request("GET", "/events").events();
    let state = |event: &ServerEvent| event.data["branches"][1]["state"].clone();
    delhi.kill9();
    let down = stream.wait_for("Delhi is down", |event| event.kind == "bank" && state(event) == "down");
    assert_eq!(down.data["verdict"]["complete"], false);
    delhi.restart();
    stream.wait_for("Delhi is up", |event| event.kind == "bank" && state(event) == "up");
    let txid = bridge.form("/transfer", TRANSFER).ok()["txid"].as_str().unwrap().to_string();
    let is_there = |data: &Value| data["branch"] == "Delhi" && data["txid"] == txid.as_str();
    stream.wait_for("Delhi is heard again", |event| event.kind == "happened" && is_there(&event.data));
}

#[test]
fn a_customer_is_told_of_the_own_account_alone() {
    let (_bank, mumbai, _delhi, bridge) = pair(&[]);
    let own = bridge.sign_in("Mumbai", "1001", "1001");
    let mut stream = bridge.request("GET", "/events?after=0").session(&own).events();
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = stream.next_event().unwrap();
        match event.kind.as_str() {
            "bank" => assert_eq!(
                event.data["branches"],
                json!([{"name": "Mumbai", "state": "up"}, {"name": "Delhi", "state": "up"}])
            ),
            "account" => {
                told.push(event.data);
                if told.len() == 1 {
                    // From elsewhere, as at the menu.
                    mumbai.connect().ask("deposit", json!({"account_no": 1001, "amount": 25})).ok();
                    mumbai.connect().ask("deposit", json!({"account_no": 1002, "amount": 1})).ok();
                }
            }
            other => panic!("a customer was told {other}: {}", event.data),
        }
    }
    assert_eq!((figure(&told[0]["balance"]), figure(&told[1]["balance"])), ("1000.00".into(), "1025.00".into()));
    assert_eq!((&told[1]["branch"], &told[1]["account"]), (&json!("Mumbai"), &json!("1001")));
    // The stream ends with the session.
    bridge.request("DELETE", "/session").session(&own).send().ok();
    while let Some(event) = stream.next_event() {
        assert_ne!(event.kind, "happened");
    }
}

#[test]
fn a_transfer_is_stepped_through_by_request() {
    let (_bank, mumbai, delhi, bridge) = pair(&["--open"]);
    let mut stream = bridge.request("GET", "/events").events();
    for branch in ["Mumbai", "Delhi"] {
        let stage = bridge.json(&format!("/teaching/{branch}/step_mode"), &json!({"on": true})).ok();
        assert_eq!(stage["step_mode"], true);
    }
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| bridge.form("/transfer", TRANSFER));
        for (branch, message) in
            [("Delhi", "prepare"), ("Mumbai", "vote yes"), ("Delhi", "commit"), ("Mumbai", "acknowledged")]
        {
            let event = stream.wait_for(message, |event| {
                let is_here = event.kind == "stage" && event.data["branch"] == branch;
                is_here && event.data["stage"]["waiting"][0]["message"] == message
            });
            let number = &event.data["stage"]["waiting"][0]["number"];
            let step = json!({"number": number, "how": "deliver"});
            bridge.json(&format!("/teaching/{branch}/step"), &step).ok();
        }
        assert_eq!(transfer.join().unwrap().ok()["delivery"], "done");
    });
    assert_eq!((mumbai.connect().balance(1001), delhi.connect().balance(1002)), ("950.00".into(), "1050.00".into()));
    bridge.form("/teaching/Delhi/step", "number=99&how=deliver").refused(400, "invalid_params");
    bridge.form("/teaching/Delhi/step", "number=99&how=swallow").refused(400, "invalid_params");
    bridge.form("/teaching/Delhi/fault", "peer=Mumbai&fault=cut").ok();
    assert_eq!(bridge.get("/teaching/Delhi").ok()["faults"][0], json!({"peer": "Mumbai", "fault": "cut"}));
    bridge.form("/teaching/Mumbai/pass_time", "milliseconds=10").ok();
    assert_eq!(bridge.form("/teaching/Delhi/crash", "at=now").ok(), Value::Null);
    stream.wait_for("the stage is gone", |event| {
        event.kind == "stage" && event.data["branch"] == "Delhi" && event.data["stage"].is_null()
    });
    bridge.form("/teaching/Delhi/restart", "").refused(409, "not_restartable");
}

#[test]
fn scenarios_are_shown_step_by_step() {
    let (_bank, _mumbai, mut delhi, bridge) = pair(&["--open"]);
    let lessons = bridge.get("/scenarios").ok();
    assert!(lessons.as_array().unwrap().len() >= 6);
    let mut stream = bridge.request("GET", "/events").events();
    let play = |name: &str| {
        let mut state = bridge.form(&format!("/scenarios/{name}"), "").ok();
        assert_eq!((&state["position"], &state["error"]), (&json!(1), &Value::Null), "{state}");
        while state["finished"] != true {
            state = bridge.form("/scenarios/next", "").ok();
            assert_eq!(state["error"], Value::Null, "{state}");
        }
        assert_eq!(bridge.get("/scenarios/current").ok(), state);
    };
    play("normal-transfer");
    stream.wait_for("it was told", |event| event.kind == "scenario" && event.data["name"] == "normal-transfer");
    // The bridge does not run the branches, so a person is asked to start the one that was killed.
    std::thread::scope(|scope| {
        let playing = scope.spawn(|| play("the-old-way"));
        stream.wait_for("a person is asked", |event| is_asking(event, "Delhi"));
        delhi.wait_for_crash();
        bridge.form("/scenarios/next", "").refused(409, "scenario_busy");
        delhi.restart();
        playing.join().unwrap();
    });
    let transfers = bridge.get("/transfers").ok();
    let old = transfers.as_array().unwrap().iter().find(|line| line["is_old_way"] == true).unwrap().clone();
    let story = bridge.get(&format!("/transfers/{}", old["txid"].as_str().unwrap())).ok();
    let is_old = |event: &Value| event["branch"].as_str().unwrap().starts_with("Old-");
    assert!(story["events"].as_array().unwrap().iter().all(is_old));
    bridge.form("/scenarios/lost-acknowledgement", "").ok();
    assert_eq!(bridge.form("/scenarios/stop", "").ok()["finished"], true);
    wait_until("everything is put back", || bridge.get("/teaching/Delhi").ok()["step_mode"] == false);
    assert_eq!(bridge.get("/audit").ok()["ok"], true);
}

/// Whether a scenario asks for a branch to be started.
fn is_asking(event: &ServerEvent, branch: &str) -> bool {
    let asked = format!("Start the branch {branch} again");
    event.kind == "scenario" && event.data["say"].as_str().is_some_and(|say| say.contains(&asked))
}

#[test]
fn a_scenario_that_waits_for_a_person_can_be_ended() {
    let (_bank, _mumbai, mut delhi, bridge) = pair(&["--open"]);
    let mut stream = bridge.request("GET", "/events").events();
    bridge.form("/scenarios/participant-dies-after-yes", "").ok();
    std::thread::scope(|scope| {
        let playing = scope.spawn(|| {
            let mut state = Value::Null;
            while state["finished"] != true {
                state = bridge.form("/scenarios/next", "").json["result"].clone();
            }
            state
        });
        stream.wait_for("a person is asked", |event| is_asking(event, "Delhi"));
        delhi.wait_for_crash();
        let state = bridge.form("/scenarios/stop", "").ok();
        assert_eq!(state["finished"], true);
        assert!(playing.join().unwrap()["error"].is_string());
    });
    delhi.restart();
    wait_until("the bridge has found it again", || bridge.get("/healthz").ok()["up"] == 2);
    bridge.form("/scenarios/normal-transfer", "").ok();
}

#[test]
fn without_teaching_nothing_of_it_can_be_reached() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], &["--open"]);
    assert_eq!(bridge.get("/session").ok()["teaching"], false);
    bridge.get("/teaching/Mumbai").refused(409, "not_teaching");
    for (action, form) in [
        ("step_mode", "on=true"),
        ("step", "number=1&how=drop"),
        ("pass_time", "milliseconds=1"),
        ("fault", "peer=Delhi&fault=cut"),
        ("crash", "at=now"),
    ] {
        let request = bridge.request("POST", &format!("/teaching/Mumbai/{action}")).body(FORM, form);
        request.send().refused(409, "not_teaching");
    }
    bridge.form("/scenarios/lost-acknowledgement", "").refused(409, "two_branches_needed");
    bridge.form("/balance", "branch=Mumbai&account=1001").ok();
}
