//! A planned change loses nothing: a primary that is demoted, or stopped, first sees to it that a replica has the end of
//! its log. What an unplanned one loses is never silent: an audit names every payment of which a side is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, BranchConnection, SetOnDrop, clean_command, replica_options, request, wait_until};
use protocol::proof::BranchKey;
use rustix::process::Signal;
use serde_json::{Value, json};

/// How often the roles change in the middle of the load.
const ROUNDS: usize = 4;
/// How many pay in each direction.
const PAYERS: usize = 4;
/// How long a change of role may take beside anything else that goes on.
const QUICK: Duration = Duration::from_secs(3);

fn payment(to: &str) -> Value {
    json!({"src_account_no": 1001, "dest_branch": to, "dest_account_no": 1002, "amount": "0.01"})
}

fn address(branch: &Branch) -> String {
    format!("127.0.0.1:{}", branch.port())
}

/// Pays again and again until it is over, whatever is answered.
fn pay(port: u16, key: &BranchKey, to: &str, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        let Ok(mut connection) = BranchConnection::connect_with(port, key) else { continue };
        while !is_over.load(Ordering::SeqCst)
            && connection.try_text(&request("inter_branch_transfer", payment(to), None)).is_ok()
        {}
    }
}

/// Runs `change` while the branches at these ports pay one another.
fn under_load<T>(key: &BranchKey, mumbai: u16, delhi: u16, change: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = SetOnDrop(&is_over);
        for (port, to) in [(mumbai, "Delhi"), (delhi, "Mumbai")] {
            for _ in 0..PAYERS {
                let is_over = &is_over;
                scope.spawn(move || pay(port, key, to, is_over));
            }
        }
        thread::sleep(Duration::from_millis(400));
        change()
    })
}

/// Everything is in the books of the copy that has taken the place, exactly.
#[track_caller]
fn is_exact(primary: &Branch, delhi: &Branch) {
    wait_until("Delhi deals with the new primary", || {
        delhi.connect().ask("inter_branch_transfer", payment("Mumbai")).is_ok()
    });
    Bank::wait_until_settled(&[primary, delhi]);
    Bank::assert_exact(&[primary, delhi]);
}

#[test]
fn a_primary_that_is_demoted_in_the_middle_of_transfers_hands_over_all_that_it_has_committed() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let one = bank.branch("Mumbai");
    let other = bank.replica_of(&one, "other");
    Bank::introduce(&[&one, &delhi]);
    let (mut primary, mut replica) = (&one, &other);
    for round in 0..ROUNDS {
        let (ends, took) = under_load(&bank.key(), primary.port(), delhi.port(), || {
            let ordered = Instant::now();
            primary.connect().ask("demote", json!({"to": address(replica)})).ok();
            ((primary.sequence(), replica.sequence()), ordered.elapsed())
        });
        assert_eq!(ends.0, ends.1, "round {round}: what the one has and the other has not");
        assert!(took < QUICK, "round {round}: the change took {took:?}");
        replica.connect().ask("promote", json!({"force": true})).ok();
        is_exact(replica, &delhi);
        (primary, replica) = (replica, primary);
        replica.wait_until_following();
    }
}

#[test]
fn a_primary_that_is_stopped_in_the_middle_of_transfers_leaves_nothing_behind() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let mut primary = bank.branch("Mumbai");
    let mut replica = bank.replica_of(&primary, "other");
    Bank::introduce(&[&primary, &delhi]);
    for _ in 0..ROUNDS {
        let (from, to) = (primary.port(), delhi.port());
        assert_eq!(under_load(&bank.key(), from, to, || primary.stop()), Some(0));
        primary.promote_instead(&mut replica, |options| options);
        is_exact(&primary, &delhi);
    }
}

#[test]
fn a_primary_stays_what_it_is_when_the_copy_that_is_to_take_its_place_does_not_get_there() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let mumbai = bank.branch("Mumbai");
    let replica = bank.replica_of(&mumbai, "replica");
    // It follows a copy that is no primary, so it gets nothing.
    let idle = bank.start("idle", replica_options("Mumbai", &replica));
    Bank::introduce(&[&mumbai, &delhi]);
    let demote_to = |copy: &Branch| {
        let ordered = Instant::now();
        let reply = mumbai.connect().ask("demote", json!({"to": address(copy)}));
        reply.refused("invalid_params");
        assert!(ordered.elapsed() < QUICK, "it took {:?}", ordered.elapsed());
        // It takes orders at once, and those that were held back are carried out.
        mumbai.connect().ask("inter_branch_transfer", payment("Delhi")).ok();
        reply.text
    };
    under_load(&bank.key(), mumbai.port(), delhi.port(), || {
        let refusal = demote_to(&idle);
        assert!(refusal.contains("stays the primary") && refusal.contains("no copy of the books"), "{refusal}");
        replica.signal(Signal::STOP);
        let refusal = demote_to(&replica);
        assert!(refusal.contains("no primary to follow"), "{refusal}");
        replica.signal(Signal::CONT);
    });
    replica.wait_until_caught_up(&mumbai);
    mumbai.connect().ask("demote", json!({"to": address(&replica)})).ok();
    replica.connect().ask("promote", json!({"force": true})).ok();
    is_exact(&replica, &delhi);
}

#[test]
fn what_a_lagging_copy_lacks_when_it_is_promoted_is_named_payment_by_payment_and_can_be_settled() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let mut mumbai = bank.branch("Mumbai");
    let mut replica = bank.replica_of(&mumbai, "replica");
    Bank::introduce(&[&mumbai, &delhi]);
    replica.wait_until_caught_up(&mumbai);
    replica.kill9();
    let pay = |from: &Branch, to: &str, amount: i64| {
        let params = json!({"src_account_no": 1001, "dest_branch": to, "dest_account_no": 1002, "amount": amount});
        let paid = from.connect().ask("inter_branch_transfer", params).ok();
        assert_eq!(paid["delivery"], "done");
        paid["txid"].as_str().unwrap().to_string()
    };
    let (sent, received) = (pay(&mumbai, "Delhi", 70), pay(&delhi, "Mumbai", 50));
    mumbai.kill9();
    replica.restart();
    replica.connect().ask("promote", json!({"force": true})).ok();
    // Nothing is left that could ask or be asked, so nothing is in doubt; but Rs 70 were made, and Rs 50 lost.
    Bank::wait_until_settled(&[&replica, &delhi]);
    let audit = || {
        let mut command = clean_command("bank-client");
        command.args(["--port", &delhi.port().to_string(), "--key"]).arg(delhi.key_path()).args(["audit", "--all"]);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    wait_until("Delhi knows the new place", || {
        delhi.connect().ask("branches", json!({})).text.contains(&format!(":{}", replica.port()))
    });
    let (is_right, told) = audit();
    let names = |txid: &str, what: &str| told.lines().any(|line| line.contains(txid) && line.contains(what));
    assert!(!is_right, "{told}");
    assert!(names(&sent, "Delhi has received 70.00, Mumbai has booked nothing"), "{told}");
    assert!(names(&received, "Delhi has sent 50.00, Mumbai has booked nothing"), "{told}");
    // A person books what is to be booked, at the branch that has it.
    for txid in [&sent, &received] {
        let params = json!({"txid": txid, "cash": true, "not_booked_by": "Mumbai", "reason": "its copy lagged"});
        delhi.connect().ask("clear_suspense", params).ok();
    }
    let (is_right, told) = audit();
    assert!(is_right, "{told}");
}
