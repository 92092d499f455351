//! Links that are cut, slow and healed.

use std::time::{Duration, Instant};

use bank_tests::wait_until;
use serde_json::json;

use super::{Class, act, fifty_to, link, status, step, stop_stepping, waiting};

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
    Class::stepping().teach(1, |mumbai, delhi, client| {
        step(delhi, "prepare", "deliver");
        waiting(mumbai, "vote yes");
        act(delhi, "fault", json!({"peer": "Mumbai", "fault": "cut"}));
        wait_until("Mumbai sees that the link is broken", || link(mumbai, "Delhi") == "down");
        step(mumbai, "vote yes", "deliver");
        stop_stepping([mumbai, delhi]);
        // Committed, but Delhi cannot be told.
        assert_eq!(client.join().unwrap().ok()["delivery"], "pending");
        assert_eq!((status(delhi).in_doubt, status(mumbai).undelivered), (1, 1));
        act(delhi, "fault", json!({"peer": "Mumbai", "fault": "heal"}));
    });
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
    class.teach(2, |_, delhi, client| {
        assert!(waiting(delhi, "prepare").due_unix_ms.is_some());
        assert!(act(delhi, "fault", json!({"peer": "Mumbai", "fault": "heal"})).waiting.is_empty());
        assert_eq!(client.join().unwrap().ok()["delivery"], "done");
    });
}
