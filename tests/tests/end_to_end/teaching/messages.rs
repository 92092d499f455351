//! Transfers message by message: delivered, lost, doubled, delayed and overtaken, while time stands still or passes.

use std::thread;
use std::time::{Duration, Instant};

use bank_tests::wait_until;
use protocol::event::EventKind;
use serde_json::json;

use super::{
    Class, LONGER_THAN_DELIVERY, act, events, pass_time, receipts, stage, status, stays, step, stop_stepping, waiting,
};

#[test]
fn a_whole_transfer_message_by_message() {
    Class::stepping().teach(1, |mumbai, delhi, client| {
        let clocks = [mumbai, delhi].map(|branch| stage(branch).protocol_clock_ms);
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
        let told = EventKind::Answered { text: "transfer_complete, delivery done".into() };
        assert!(events(mumbai, &id).contains(&told));
        assert_eq!([mumbai, delhi].map(|branch| stage(branch).protocol_clock_ms), clocks, "time stood still");
        assert!(stage(mumbai).waiting.is_empty() && stage(delhi).waiting.is_empty());
    });
}

#[test]
fn a_lost_acknowledgement_is_made_up_for_and_the_money_comes_once() {
    Class::stepping().teach(1, |mumbai, delhi, client| {
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
        // The commit went out more than once in that second; what is left over changes nothing.
        stop_stepping([delhi, mumbai]);
        stop_stepping([delhi, mumbai]);
        assert_eq!(delhi.connect().balance(1002), "1050.00");
    });
}

#[test]
fn a_doubled_commit_pays_once() {
    Class::stepping().teach(1, |mumbai, delhi, client| {
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
        assert_eq!(delhi.connect().balance(1002), "1050.00");
    });
}

#[test]
fn a_delayed_message_comes_by_itself() {
    Class::stepping().teach(1, |mumbai, delhi, client| {
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
}

#[test]
fn an_abort_overtakes_its_prepare() {
    Class::stepping().teach(0, |mumbai, delhi, client| {
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
        stop_stepping([delhi, mumbai]);
    });
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

#[test]
fn an_hour_passes_moment_by_moment() {
    Class::stepping().teach(0, |mumbai, delhi, client| {
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
        stop_stepping([mumbai, delhi]);
    });
}
