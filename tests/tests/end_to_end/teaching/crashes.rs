//! Crashes by request, at a point and at once.

use std::thread;

use bank_tests::Bank;
use serde_json::json;

use super::{Class, act, fifty_to, stage};

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
