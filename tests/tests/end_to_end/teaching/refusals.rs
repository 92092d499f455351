//! What teaching mode refuses: bad input, a branch that is not taught, whoever has no key; and what ends with its program.

use std::time::Duration;

use bank_tests::{Bank, Branch, Options, wait_until};
use serde_json::{Value, json};

use super::{Class, act, fifty_to, link, stage, status, stays, waiting};

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    Class::stepping().teach(1, |mumbai, delhi, client| {
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
    const LONGER_THAN_THE_LEASE: Duration = Duration::from_secs(3);
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
    stays("it is renewed", LONGER_THAN_THE_LEASE, || {
        for branch in [&class.mumbai, &class.delhi] {
            act(branch, "stage", json!({ "lease": lease }));
        }
        is_set() == (true, true, true)
    });
    wait_until("nothing is left set", || is_set() == (false, false, false));
    class.teach(1, |_, _, client| drop(client.join().unwrap().ok()));

    set_all(&lease);
    set_all(&Value::Null);
    stays("nobody has to renew it", LONGER_THAN_THE_LEASE, || is_set() == (true, true, true));
    for lease in [json!({"holder": "", "seconds": 2}), json!({"holder": "x", "seconds": 0}), json!({"holder": "x"})] {
        class.delhi.connect().ask("step_mode", json!({"on": true, "lease": lease})).refused("invalid_params");
    }
}
