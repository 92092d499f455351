//! A change of role is quick, and what is answered about it is so: on the disk, and ready to be asked.

use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Bank, BranchConnection, request, wait_until};
use rustix::process::Signal;
use serde_json::json;

/// How long a change of role may take beside anything else that goes on.
const QUICK: Duration = Duration::from_secs(3);

#[test]
fn who_is_answered_that_a_copy_was_promoted_or_demoted_finds_it_in_its_new_role() {
    let bank = Bank::new();
    let one = bank.branch("Mumbai");
    let other = bank.replica_of(&one, "other");
    let (mut primary, mut replica) = (&one, &other);
    for round in 0..6 {
        let to = format!("127.0.0.1:{}", replica.port());
        primary.connect().ask("demote", json!({"to": to})).ok();
        assert_eq!(primary.replication().unwrap()["role"], "replica", "round {round}");
        replica.connect().ask("promote", json!({"force": true})).ok();
        // At once, without a wait of any kind.
        replica.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
        (primary, replica) = (replica, primary);
        replica.wait_until_following();
        replica.wait_until_caught_up(primary);
    }
    primary.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
    replica.wait_until_caught_up(primary);
    assert_eq!(replica.database().balance_paise(1001), 100_700);
}

#[test]
fn a_change_of_role_waits_for_nobody_who_waits_for_a_branch_that_is_stopped() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let mumbai = bank.branch("Mumbai");
    let replica = bank.replica_of(&mumbai, "replica");
    Bank::introduce(&[&mumbai, &delhi]);
    replica.wait_until_caught_up(&mumbai);
    delhi.signal(Signal::STOP);
    let params = json!({"src_account_no": 1001, "dest_branch": "Delhi", "dest_account_no": 1002, "amount": 5});
    let named = json!({"src_account_no": 1001, "dest_host": "127.0.0.1", "dest_port": delhi.port(),
        "dest_account_no": 1002, "amount": 5});
    let begun = Instant::now();
    thread::scope(|scope| {
        let ask = |params| {
            let (port, key) = (mumbai.port(), bank.key());
            move || {
                let mut connection = BranchConnection::connect_with(port, &key).unwrap();
                connection
                    .try_text(&request("inter_branch_transfer", params, None))
                    .map(|reply| reply.code().to_string())
            }
        };
        let (waiting, dialling) = (scope.spawn(ask(params)), scope.spawn(ask(named)));
        wait_until("a transfer is under way", || {
            mumbai.connect().ask("list_pending", json!({})).text.contains("deciding")
        });
        let ordered = Instant::now();
        mumbai.connect().ask("demote", json!({"to": format!("127.0.0.1:{}", replica.port())})).ok();
        assert_eq!(mumbai.replication().unwrap()["role"], "replica");
        assert!(ordered.elapsed() < QUICK, "the change took {:?}", ordered.elapsed());
        assert_eq!(waiting.join().unwrap().unwrap(), "undecided", "it is told at once");
        // This one may also be cut off, but not kept.
        let _ = dialling.join().unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(14), "somebody waited for the decision");
    delhi.signal(Signal::CONT);
    replica.connect().ask("promote", json!({"force": true})).ok();
    Bank::wait_until_settled(&[&replica, &delhi]);
    Bank::assert_exact(&[&replica, &delhi]);
}

#[test]
fn two_branches_that_were_both_promoted_elsewhere_find_one_another() {
    let bank = Bank::new();
    let (mut mumbai, mut delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let (new_mumbai, new_delhi) = (bank.replica_of(&mumbai, "mumbai-2"), bank.replica_of(&delhi, "delhi-2"));
    Bank::introduce(&[&mumbai, &delhi]);
    for (old, new) in [(&mumbai, &new_mumbai), (&delhi, &new_delhi)] {
        new.wait_until_caught_up(old);
    }
    // Neither hears of the other's promotion, and each knows the other's old place alone.
    mumbai.kill9();
    delhi.kill9();
    for new in [&new_mumbai, &new_delhi] {
        new.connect().ask("promote", json!({"force": true})).ok();
        new.wait_until_state("primary", "");
    }
    for (old, new) in [(&mut mumbai, &new_mumbai), (&mut delhi, &new_delhi)] {
        old.restart();
        old.wait_until_state("fenced", "fenced");
        old.connect().ask("demote", json!({"to": format!("127.0.0.1:{}", new.port())})).ok();
    }
    // What stands in the old places says where the new ones are.
    for (from, to, amount) in [(&new_mumbai, "Delhi", 40), (&new_delhi, "Mumbai", 30)] {
        let params = json!({"src_account_no": 1001, "dest_branch": to, "dest_account_no": 1002, "amount": amount});
        wait_until("the transfer is taken", || from.connect().ask("inter_branch_transfer", params.clone()).is_ok());
    }
    Bank::wait_until_settled(&[&new_mumbai, &new_delhi]);
    Bank::assert_exact(&[&new_mumbai, &new_delhi]);
}
