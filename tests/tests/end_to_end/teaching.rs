//! Teaching mode, with real branches: messages that wait, are lost, doubled, delayed and overtaken, time that stands
//! still and passes, links that are cut and slow, crashes by request; and that a plain branch knows nothing of it.

use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, Options, Reply, wait_until};
use protocol::answer::Status;
use protocol::event::{Event, EventKind};
use protocol::teaching::{Stage, Waiting};
use serde_json::{Value, json};

/// Longer than a client of a committed transfer waits for its delivery without step mode, which is a second.
const LONGER_THAN_DELIVERY: Duration = Duration::from_millis(1_500);

/// Mumbai and Delhi, both teaching, and known to each other.
struct Class {
    _bank: Bank,
    mumbai: Branch,
    delhi: Branch,
}

impl Class {
    fn new() -> Self {
        let bank = Bank::new();
        let [mumbai, delhi] = ["Mumbai", "Delhi"].map(|name| bank.start(name, Options::named(name).flag("--teaching")));
        Bank::introduce(&[&mumbai, &delhi]);
        Self { _bank: bank, mumbai, delhi }
    }

    /// With step mode on at both.
    fn stepping() -> Self {
        let class = Self::new();
        for branch in [&class.mumbai, &class.delhi] {
            assert!(act(branch, "step_mode", json!({"on": true})).step_mode);
        }
        class
    }

    /// Asks Mumbai for 50.00 to Delhi, in a thread of its own.
    fn transfer<'s>(&'s self, scope: &'s thread::Scope<'s, '_>) -> ScopedJoinHandle<'s, Reply> {
        let mut connection = self.mumbai.connect();
        scope.spawn(move || connection.ask("inter_branch_transfer", fifty_to("Delhi")))
    }

    /// Nothing waits or is slow any more: the money is exact, and Delhi was paid so often.
    #[track_caller]
    fn judge(&self, paid_times: usize) {
        let branches = [&self.mumbai, &self.delhi];
        Bank::wait_until_settled(&branches);
        Bank::assert_exact(&branches);
        let history = self.delhi.connect().ask("history", json!({"account_no": 1002})).ok();
        let credits = history.as_array().unwrap().iter().filter(|row| row["type"] == "transfer_in").count();
        assert_eq!(credits, paid_times, "{history}");
    }
}

fn fifty_to(branch: &str) -> Value {
    json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "50.00", "dest_branch": branch})
}

/// A teaching action that is carried out.
#[track_caller]
fn act(branch: &Branch, action: &str, params: Value) -> Stage {
    branch.connect().ask(action, params).result()
}

#[track_caller]
fn stage(branch: &Branch) -> Stage {
    act(branch, "stage", json!({}))
}

/// Waits until a message of this name waits at a branch, and gives the last such.
#[track_caller]
fn waiting(branch: &Branch, message: &str) -> Waiting {
    let mut found = None;
    wait_until(&format!("a message {message} waits"), || {
        found = stage(branch).waiting.into_iter().rfind(|waiting| waiting.message == message);
        found.is_some()
    });
    found.unwrap()
}

/// Waits for a message of this name and says what becomes of it.
#[track_caller]
fn step(branch: &Branch, message: &str, how: &str) -> Waiting {
    let message = waiting(branch, message);
    act(branch, "step", json!({"number": message.number, "how": how}));
    message
}

#[track_caller]
fn pass_time(branch: &Branch, milliseconds: u64) -> Stage {
    act(branch, "pass_time", json!({"milliseconds": milliseconds}))
}

#[track_caller]
fn status(branch: &Branch) -> Status {
    branch.connect().ask("status", json!({})).result()
}

/// What a branch remembers of a transfer.
#[track_caller]
fn events(branch: &Branch, txid: &str) -> Vec<EventKind> {
    let mut connection = branch.connect();
    let mut reply = connection.ask("watch", json!({"txid": txid, "follow": false}));
    let mut events = Vec::new();
    while !reply.ok().is_null() {
        events.push(reply.result::<Event>().kind);
        reply = connection.receive().unwrap();
    }
    events
}

/// How often a message of this id was received.
fn receipts(events: &[EventKind], wanted: &str) -> usize {
    events.iter().filter(|kind| matches!(kind, EventKind::Received { id, .. } if id == wanted)).count()
}

/// Checks that something stays as it is for a while.
#[track_caller]
fn stays(what: &str, time: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    wait_until("the time is over", || {
        assert!(condition(), "{what}");
        start.elapsed() > time
    });
}

#[test]
fn a_whole_transfer_message_by_message() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    let clocks = [mumbai, delhi].map(|branch| stage(branch).protocol_clock_ms);
    let txid = thread::scope(|scope| {
        let client = class.transfer(scope);
        let prepare = waiting(delhi, "prepare");
        let id = prepare.txid.to_string();
        assert_eq!((prepare.from.as_str(), prepare.to.as_str(), prepare.due_unix_ms), ("Mumbai", "Delhi", None));
        assert!(prepare.id.starts_with("Mumbai:"), "{prepare:?}");
        // It was sent, and is not received.
        let begun = events(mumbai, &id);
        assert_eq!(begun[0], EventKind::Asked { text: "50.00 from 1001 to Delhi/1002".into() });
        assert!(begun.iter().any(|kind| matches!(kind, EventKind::Sent { id, .. } if *id == prepare.id)));
        assert!(events(delhi, &id).is_empty());
        assert_eq!(
            mumbai.connect().ask("balance", json!({"account_no": 1001})).ok()["available"].to_string(),
            "950.00"
        );

        step(delhi, "prepare", "deliver");
        waiting(mumbai, "vote yes");
        assert_eq!(receipts(&events(delhi, &id), &prepare.id), 1);
        assert_eq!((status(delhi).in_doubt, status(mumbai).undelivered), (1, 0));
        step(mumbai, "vote yes", "deliver");
        waiting(delhi, "commit");
        assert_eq!(
            (mumbai.connect().balance(1001), delhi.connect().balance(1002)),
            ("950.00".into(), "1000.00".into())
        );
        // A class that talks now must not have the client told that the delivery is pending.
        stays("the client waits", LONGER_THAN_DELIVERY, || !client.is_finished());
        step(delhi, "commit", "deliver");
        waiting(mumbai, "acknowledged");
        assert!(!client.is_finished());
        step(mumbai, "acknowledged", "deliver");
        assert_eq!(client.join().unwrap().ok()["delivery"], "done");
        id
    });
    let told = EventKind::Answered { text: "transfer_complete, delivery done".into() };
    assert!(events(mumbai, &txid).contains(&told));
    assert_eq!([mumbai, delhi].map(|branch| stage(branch).protocol_clock_ms), clocks, "time stood still");
    assert!(stage(mumbai).waiting.is_empty() && stage(delhi).waiting.is_empty());
    class.judge(1);
}

#[test]
fn a_lost_acknowledgement_is_made_up_for_and_the_money_comes_once() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    thread::scope(|scope| {
        let client = class.transfer(scope);
        step(delhi, "prepare", "deliver");
        step(mumbai, "vote yes", "deliver");
        let first = step(delhi, "commit", "deliver");
        let lost = step(mumbai, "acknowledged", "drop");
        let is_lost =
            |kind: &EventKind| matches!(kind, EventKind::Lost { id, from, .. } if *id == lost.id && from == "Delhi");
        let noted = events(mumbai, lost.txid.as_str());
        assert!(noted.iter().any(is_lost) && receipts(&noted, &lost.id) == 0, "{noted:?}");
        assert!(stage(mumbai).waiting.is_empty());
        // Nothing is sent again until time passes.
        stays("time stands still", Duration::from_millis(500), || stage(delhi).waiting.is_empty());
        pass_time(mumbai, 1_000);
        let again = step(delhi, "commit", "deliver");
        assert_ne!(again.id, first.id);
        step(mumbai, "acknowledged", "deliver");
        assert_eq!(client.join().unwrap().ok()["delivery"], "done");
    });
    // The commit went out more than once in that second; what is left over changes nothing.
    for branch in [delhi, mumbai, delhi, mumbai] {
        act(branch, "step_mode", json!({"on": false}));
    }
    assert_eq!(delhi.connect().balance(1002), "1050.00");
    class.judge(1);
}

#[test]
fn a_doubled_commit_pays_once() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    thread::scope(|scope| {
        let client = class.transfer(scope);
        step(delhi, "prepare", "deliver");
        step(mumbai, "vote yes", "deliver");
        let first = step(delhi, "commit", "duplicate");
        let copy = waiting(delhi, "commit");
        assert_eq!((copy.id.as_str(), copy.number > first.number), (first.id.as_str(), true));
        step(mumbai, "acknowledged", "deliver");
        assert_eq!(client.join().unwrap().ok()["delivery"], "done");
        step(delhi, "commit", "deliver");
        step(mumbai, "acknowledged", "deliver");
        assert_eq!(receipts(&events(delhi, first.txid.as_str()), &first.id), 2);
    });
    assert_eq!(delhi.connect().balance(1002), "1050.00");
    class.judge(1);
}

#[test]
fn a_delayed_message_comes_by_itself() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    thread::scope(|scope| {
        let client = class.transfer(scope);
        let prepare = waiting(delhi, "prepare");
        let start = Instant::now();
        let after = act(delhi, "step", json!({"number": prepare.number, "how": "delay", "delay_ms": 400}));
        assert!(after.waiting[0].due_unix_ms.is_some(), "{after:?}");
        step(mumbai, "vote yes", "deliver");
        assert!(start.elapsed() >= Duration::from_millis(400));
        // One that is delayed can be delivered before its time.
        let commit = waiting(delhi, "commit");
        act(delhi, "step", json!({"number": commit.number, "how": "delay", "delay_ms": 600_000}));
        step(delhi, "commit", "deliver");
        step(mumbai, "acknowledged", "deliver");
        client.join().unwrap().ok();
    });
    class.judge(1);
}

#[test]
fn an_abort_overtakes_its_prepare() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    thread::scope(|scope| {
        let client = class.transfer(scope);
        let prepare = waiting(delhi, "prepare");
        // Time passes as ever: first the prepare is sent again, then the vote is given up.
        let before = stage(mumbai).protocol_clock_ms;
        let after = pass_time(mumbai, 6_000);
        assert_eq!(after.protocol_clock_ms, before + 6_000);
        client.join().unwrap().refused("vote_timeout");
        let sent: Vec<String> = events(mumbai, prepare.txid.as_str())
            .into_iter()
            .filter_map(|kind| if let EventKind::Sent { message, .. } = kind { Some(message) } else { None })
            .collect();
        assert!(sent.len() >= 4 && sent.last().is_some_and(|last| last == "abort"), "{sent:?}");
        assert!(sent[..sent.len() - 1].iter().all(|message| message == "prepare"), "{sent:?}");
        step(delhi, "abort", "deliver");
        act(delhi, "step", json!({"number": prepare.number, "how": "deliver"}));
        waiting(mumbai, "vote no");
        assert_eq!((status(delhi).in_doubt, delhi.connect().balance(1002)), (0, "1000.00".into()));
    });
    for branch in [delhi, mumbai] {
        act(branch, "step_mode", json!({"on": false}));
    }
    class.judge(0);
}

#[test]
fn the_end_of_step_mode_delivers_all_that_waits() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    thread::scope(|scope| {
        let clients = [class.transfer(scope), class.transfer(scope), class.transfer(scope)];
        wait_until("three prepares wait", || stage(delhi).waiting.len() == 3);
        for branch in [delhi, mumbai] {
            let after = act(branch, "step_mode", json!({"on": false}));
            assert!(!after.step_mode && after.waiting.is_empty(), "{after:?}");
        }
        for client in clients {
            assert_eq!(client.join().unwrap().ok()["delivery"], "done");
        }
    });
    // And the clock runs again.
    let clock_ms = stage(mumbai).protocol_clock_ms;
    wait_until("the protocol's clock goes on", || stage(mumbai).protocol_clock_ms > clock_ms);
    class.judge(3);
}

/// How the branch sees the link to the other.
fn link(branch: &Branch, other: &str) -> String {
    let branches = branch.connect().ask("branches", json!({})).ok();
    let row = branches.as_array().unwrap().iter().find(|row| row["name"] == other).unwrap();
    row["state"].as_str().unwrap().to_string()
}

#[test]
fn a_cut_link_is_down_at_both_ends_until_it_is_healed() {
    let class = Class::new();
    let Class { mumbai, delhi, .. } = &class;
    let after = act(mumbai, "fault", json!({"peer": "Delhi", "fault": "cut"}));
    assert_eq!(serde_json::to_value(&after.faults).unwrap(), json!([{"peer": "Delhi", "fault": "cut"}]));
    assert_eq!(link(mumbai, "Delhi"), "down");
    wait_until("Delhi sees that the link is broken", || link(delhi, "Mumbai") == "down");
    // Delhi was told nothing, and finds nobody; neither side waits for a time-out.
    mumbai.connect().ask("inter_branch_transfer", fifty_to("Delhi")).refused("branch_unreachable");
    delhi.connect().ask("inter_branch_transfer", fifty_to("Mumbai")).refused("branch_unreachable");
    // Nor does it help to name the address.
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "50.00",
        "dest_host": "127.0.0.1", "dest_port": delhi.port()});
    mumbai.connect().ask("inter_branch_transfer", params).refused("branch_unreachable");
    assert!(act(mumbai, "fault", json!({"peer": "Delhi", "fault": "heal"})).faults.is_empty());
    for (branch, other) in [(mumbai, "Delhi"), (delhi, "Mumbai")] {
        wait_until("the link is up again by itself", || link(branch, other) == "up");
    }
    mumbai.connect().ask("inter_branch_transfer", fifty_to("Delhi")).ok();
    delhi.connect().ask("inter_branch_transfer", fifty_to("Mumbai")).ok();
    class.judge(1);
}

#[test]
fn a_cut_between_vote_and_decision_leaves_doubt_and_healing_settles_it() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    thread::scope(|scope| {
        let client = class.transfer(scope);
        step(delhi, "prepare", "deliver");
        waiting(mumbai, "vote yes");
        act(delhi, "fault", json!({"peer": "Mumbai", "fault": "cut"}));
        wait_until("Mumbai sees that the link is broken", || link(mumbai, "Delhi") == "down");
        step(mumbai, "vote yes", "deliver");
        for branch in [mumbai, delhi] {
            act(branch, "step_mode", json!({"on": false}));
        }
        // Committed, but Delhi cannot be told.
        assert_eq!(client.join().unwrap().ok()["delivery"], "pending");
        assert_eq!((status(delhi).in_doubt, status(mumbai).undelivered), (1, 1));
        act(delhi, "fault", json!({"peer": "Mumbai", "fault": "heal"}));
    });
    class.judge(1);
}

#[test]
fn a_slow_link_brings_each_message_late_and_in_order() {
    let class = Class::new();
    let Class { mumbai, delhi, .. } = &class;
    let slow = act(delhi, "fault", json!({"peer": "Mumbai", "fault": "slow", "delay_ms": 300}));
    assert_eq!(slow.faults[0].delay_ms, Some(300));
    let start = Instant::now();
    assert_eq!(mumbai.connect().ask("inter_branch_transfer", fifty_to("Delhi")).ok()["delivery"], "done");
    assert!(start.elapsed() >= Duration::from_millis(600), "the prepare and the commit: {:?}", start.elapsed());
    // What still waits when the link is healed comes at once.
    act(delhi, "fault", json!({"peer": "Mumbai", "fault": "slow", "delay_ms": 600_000}));
    thread::scope(|scope| {
        let client = class.transfer(scope);
        assert!(waiting(delhi, "prepare").due_unix_ms.is_some());
        assert!(act(delhi, "fault", json!({"peer": "Mumbai", "fault": "heal"})).waiting.is_empty());
        assert_eq!(client.join().unwrap().ok()["delivery"], "done");
    });
    class.judge(2);
}

/// Arms a point by request, crashes there, restarts and checks the books. Gives whether the transfer was carried out.
fn crash(point: &str, at_mumbai: bool) -> bool {
    let mut class = Class::new();
    let crashing = if at_mumbai { &class.mumbai } else { &class.delhi };
    assert_eq!(act(crashing, "crash", json!({"at": point})).crash_at.as_deref(), Some(point));
    // The client of a coordinator that dies is told nothing.
    let _ = class.mumbai.connect().try_ask("inter_branch_transfer", fifty_to("Delhi"), None);
    let crashed = if at_mumbai { &mut class.mumbai } else { &mut class.delhi };
    crashed.wait_for_crash();
    crashed.restart();
    assert_eq!(stage(crashed).crash_at, None, "it was armed for once");
    Bank::wait_until_settled(&[&class.mumbai, &class.delhi]);
    let is_done = class.delhi.connect().balance(1002) == "1050.00";
    class.judge(usize::from(is_done));
    is_done
}

#[test]
fn crashes_by_request_at_every_point() {
    let points = [
        ("before-prepared", false, Some(false)),
        // Back within the vote time-out it may still vote.
        ("after-prepared", false, None),
        ("after-vote", false, Some(true)),
        ("before-decision", true, Some(false)),
        ("after-decision", true, Some(true)),
        ("after-first-delivery", true, Some(true)),
        ("before-end", true, Some(true)),
    ];
    let named: Vec<String> = stage(&Class::new().mumbai).crash_points;
    assert_eq!(named, points.map(|(point, _, _)| point), "every point is tried");
    thread::scope(|scope| {
        for (point, at_mumbai, expected) in points {
            scope.spawn(move || {
                let is_done = crash(point, at_mumbai);
                assert_eq!(expected.unwrap_or(is_done), is_done, "{point}");
            });
        }
    });
}

#[test]
fn crashing_now_and_never() {
    let mut class = Class::stepping();
    assert_eq!(
        act(&class.mumbai, "crash", json!({"at": "after-decision"})).crash_at.as_deref(),
        Some("after-decision")
    );
    assert_eq!(act(&class.mumbai, "crash", json!({"at": "never"})).crash_at, None);
    assert!(class.delhi.connect().try_ask("crash", json!({"at": "now"}), None).is_err(), "there is no answer");
    class.delhi.wait_for_crash();
    class.delhi.restart();
    assert!(!stage(&class.delhi).step_mode, "a lesson ends with the process");
    act(&class.mumbai, "step_mode", json!({"on": false}));
    class.mumbai.connect().ask("inter_branch_transfer", fifty_to("Delhi")).ok();
    class.judge(1);
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    thread::scope(|scope| {
        let client = class.transfer(scope);
        let number = waiting(delhi, "prepare").number;
        let before = stage(delhi);
        let mut connection = delhi.connect();
        for (action, params, code) in [
            ("step", json!({"number": number + 1, "how": "deliver"}), "invalid_params"),
            ("step", json!({"number": number + 1, "how": "drop"}), "invalid_params"),
            ("step", json!({"number": number + 1, "how": "duplicate"}), "invalid_params"),
            ("step", json!({"number": number + 1, "how": "delay", "delay_ms": 1}), "invalid_params"),
            ("step", json!({"number": number, "how": "delay"}), "invalid_params"),
            ("step", json!({"number": number, "how": "delay", "delay_ms": 600_001}), "invalid_params"),
            ("step", json!({"number": number, "how": "delay", "delay_ms": -1}), "invalid_params"),
            ("step", json!({"number": number, "how": "deliver", "delay_ms": 5}), "invalid_params"),
            ("step", json!({"number": number, "how": "eat"}), "invalid_params"),
            ("step", json!({"how": "deliver"}), "invalid_params"),
            ("step_mode", json!({}), "invalid_params"),
            ("step_mode", json!({"on": "yes"}), "invalid_params"),
            ("pass_time", json!({"milliseconds": 3_600_001}), "invalid_params"),
            ("pass_time", json!({"milliseconds": -1}), "invalid_params"),
            ("pass_time", json!({}), "invalid_params"),
            ("fault", json!({"peer": "Atlantis", "fault": "cut"}), "branch_unreachable"),
            ("fault", json!({"peer": "Delhi", "fault": "cut"}), "invalid_params"),
            ("fault", json!({"peer": "a b", "fault": "cut"}), "invalid_params"),
            ("fault", json!({"peer": "Mumbai", "fault": "slow"}), "invalid_params"),
            ("fault", json!({"peer": "Mumbai", "fault": "slow", "delay_ms": 600_001}), "invalid_params"),
            ("fault", json!({"peer": "Mumbai", "fault": "cut", "delay_ms": 1}), "invalid_params"),
            ("fault", json!({"peer": "Mumbai", "fault": "burn"}), "invalid_params"),
            ("crash", json!({"at": "lunch"}), "invalid_params"),
            ("crash", json!({}), "invalid_params"),
        ] {
            connection.ask(action, params).refused(code);
            assert_eq!(stage(delhi), before, "{action}");
        }
        act(delhi, "step_mode", json!({"on": false}));
        // Time that runs by itself can't be made to pass.
        connection.ask("pass_time", json!({"milliseconds": 10})).refused("invalid_params");
        act(mumbai, "step_mode", json!({"on": false}));
        client.join().unwrap().ok();
    });
    class.judge(1);
}

#[test]
fn an_hour_passes_moment_by_moment() {
    let class = Class::stepping();
    let Class { mumbai, delhi, .. } = &class;
    thread::scope(|scope| {
        let client = class.transfer(scope);
        step(delhi, "prepare", "deliver");
        // Delhi is in doubt, and asks again and again; Mumbai never hears of the vote.
        let vote = step(mumbai, "vote yes", "drop");
        pass_time(delhi, 3_600_000);
        let sent = |kind: &EventKind| matches!(kind, EventKind::Sent { message, .. } if message == "inquiry");
        let inquiries = events(delhi, vote.txid.as_str()).iter().filter(|kind| sent(kind)).count();
        assert!(inquiries >= 1_800, "at least one in two seconds: {inquiries}");
        // The stage at Mumbai is bounded, and what it could not take is lost.
        wait_until("Mumbai's stage is full", || {
            let lost = |kind: &EventKind| matches!(kind, EventKind::Lost { .. });
            stage(mumbai).waiting.len() == 256
                && events(mumbai, vote.txid.as_str()).iter().filter(|kind| lost(kind)).count() > 1_000
        });
        pass_time(mumbai, 10_000);
        client.join().unwrap().refused("vote_timeout");
        for branch in [mumbai, delhi] {
            act(branch, "step_mode", json!({"on": false}));
        }
    });
    class.judge(0);
}

/// The six, with parameters that a teaching branch would take.
const ACTIONS: [(&str, &str); 6] = [
    ("stage", "{}"),
    ("step_mode", r#"{"on":true}"#),
    ("step", r#"{"number":1,"how":"deliver"}"#),
    ("pass_time", r#"{"milliseconds":1000}"#),
    ("fault", r#"{"peer":"Delhi","fault":"cut"}"#),
    ("crash", r#"{"at":"now"}"#),
];

#[test]
fn a_plain_branch_knows_nothing_of_it() {
    let bank = Bank::new();
    let closed = bank.branch("Mumbai");
    let open = bank.start("Delhi", Options::named("Delhi").flag("--open"));
    Bank::introduce(&[&closed, &open]);
    for (branch, mut connection) in [(&closed, closed.connect()), (&open, open.connect_anonymously())] {
        assert!(!status(branch).teaching);
        let other = if branch.port() == closed.port() { "Delhi" } else { "Mumbai" };
        let before = branch.database().everything();
        for (action, params) in ACTIONS {
            connection.ask(action, serde_json::from_str(params).unwrap()).refused("not_teaching");
            // Nor is anything looked at that came with it.
            connection.ask(action, json!({"at": 7, "on": 7, "number": [], "peer": {}})).refused("not_teaching");
        }
        assert_eq!(branch.database().everything(), before);
        assert_eq!(link(branch, other), "up", "nothing was cut");
    }
    // Nobody is gone, no message waits and no time stands still.
    closed.connect().ask("inter_branch_transfer", fifty_to("Delhi")).ok();
    open.connect_anonymously().ask("inter_branch_transfer", fifty_to("Mumbai")).ok();
    Bank::assert_exact(&[&closed, &open]);
}

#[test]
fn a_teaching_branch_is_taught_by_those_with_the_key_alone() {
    let branch = Branch::start(Options::preloaded().flag("--teaching"));
    assert!(status(&branch).teaching);
    let mut customer = branch.connect_anonymously();
    for (action, params) in ACTIONS {
        let params: Value = serde_json::from_str(params).unwrap();
        customer.ask(action, params.clone()).refused("not_allowed");
    }
    customer.ask("login", json!({"account_no": 1001, "password": "1001"})).ok();
    for (action, params) in ACTIONS {
        customer.ask(action, serde_json::from_str(params).unwrap()).refused("not_allowed");
    }
    assert!(!stage(&branch).step_mode);
}

#[test]
fn what_a_program_set_ends_when_it_is_gone_and_what_a_person_set_stays() {
    let class = Class::new();
    let lease = json!({"holder": "a test", "seconds": 2});
    let set_all = |lease: &Value| {
        act(&class.delhi, "step_mode", json!({"on": true, "lease": lease}));
        act(&class.mumbai, "fault", json!({"peer": "Delhi", "fault": "cut", "lease": lease}));
        act(&class.mumbai, "crash", json!({"at": "after-decision", "lease": lease}));
    };
    let is_set = || {
        let (mumbai, delhi) = (stage(&class.mumbai), stage(&class.delhi));
        (delhi.step_mode, !mumbai.faults.is_empty(), mumbai.crash_at.is_some())
    };
    set_all(&lease);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        assert_eq!(is_set(), (true, true, true), "it is renewed");
        for branch in [&class.mumbai, &class.delhi] {
            act(branch, "stage", json!({ "lease": lease }));
        }
        thread::sleep(Duration::from_millis(100));
    }
    wait_until("nothing is left set", || is_set() == (false, false, false));
    thread::scope(|scope| {
        class.transfer(scope).join().unwrap().ok();
    });
    class.judge(1);

    set_all(&lease);
    set_all(&Value::Null);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        assert_eq!(is_set(), (true, true, true), "nobody has to renew it");
        thread::sleep(Duration::from_millis(100));
    }
    for lease in [json!({"holder": "", "seconds": 2}), json!({"holder": "x", "seconds": 0}), json!({"holder": "x"})] {
        class.delhi.connect().ask("step_mode", json!({"on": true, "lease": lease})).refused("invalid_params");
    }
}
