//! With `--sync-replicas` nothing is told before replicas have it, after a restart neither; what was kept back is told
//! as soon as they do.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Bank, Books, Branch, Options, replica_options, request, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn staged(branch: &Branch, message: &str) -> Vec<Value> {
    let stage = branch.connect().ask("stage", json!({})).ok();
    let waiting = stage["waiting"].as_array().unwrap();
    waiting.iter().filter(|waiting| waiting["message"] == message).cloned().collect()
}

#[test]
fn a_decision_that_only_the_primarys_disk_has_is_told_to_nobody_after_a_restart_until_a_replica_has_it() {
    let bank = Bank::new();
    let delhi = bank.start("Delhi", Options::named("Delhi").flag("--teaching"));
    let mut mumbai = bank.start("Mumbai", Options::named("Mumbai").value("--sync-replicas", 1));
    let replica = bank.start("replica", replica_options("Mumbai", &mumbai));
    replica.wait_until_following();
    Bank::introduce(&[&mumbai, &delhi]);
    delhi.connect().ask("step_mode", json!({"on": true})).ok();
    let params = json!({"src_account_no": 1001, "dest_branch": "Delhi", "dest_account_no": 1002, "amount": 50});
    mumbai.connect().send_text(&request("inter_branch_transfer", params.clone(), Some("one"))).unwrap();
    let mut prepare = Vec::new();
    wait_until("the prepare is there", || {
        prepare = staged(&delhi, "prepare");
        !prepare.is_empty()
    });
    replica.signal(Signal::STOP);
    delhi.connect().ask("step", json!({"number": prepare[0]["number"], "how": "deliver"})).ok();
    let decided =
        || Books::open(mumbai.database_path()).number("SELECT count(*) FROM coordinated WHERE state = 'committed'");
    wait_until("Mumbai has decided, on its own disk", || decided() == 1);
    mumbai.kill9();
    delhi.connect().ask("step_mode", json!({"on": false})).ok();
    mumbai.restart();
    // Two back-offs and two inquiries long.
    let quiet_until = Instant::now() + Duration::from_secs(3);
    let txid = prepare[0]["txid"].clone();
    while Instant::now() < quiet_until {
        assert_eq!(delhi.database().balance_paise(1002), 100_000, "Delhi was told");
        mumbai.connect().ask("tx_status", json!({"txid": txid})).refused("replicas_missing");
        thread::sleep(Duration::from_millis(100));
    }
    replica.signal(Signal::CONT);
    wait_until("the replica follows", || mumbai.connect().ask("tx_status", json!({"txid": txid})).is_ok());
    // Promptly, whatever the back-off had come to.
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_eq!(delhi.database().balance_paise(1002), 105_000);
    mumbai.connect().text(&request("inter_branch_transfer", params, Some("one"))).ok();
    Bank::assert_exact(&[&mumbai, &delhi]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_replica_whose_disk_fails_for_a_while_says_so_and_follows_again_by_itself() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let (shim, trigger) = (bank.folder().join("fault.so"), bank.folder().join("fault"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults/fault.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&shim, &source]).arg("-ldl").status();
    assert!(compiled.expect("a C compiler, which SQLite needs too").success());
    let options = replica_options("Mumbai", &mumbai)
        .variable("LD_PRELOAD", shim.display())
        .variable("BANK_FAULT", trigger.display());
    let mut replica = bank.start("replica", options);
    replica.wait_until_following();
    replica.wait_until_caught_up(&mumbai);
    // A disk that is full, and one that can't be read: with nothing in memory the rows come from there.
    for fault in ["write 28 1", "read 5 1"] {
        replica.kill9();
        replica.restart();
        replica.wait_until_following();
        fs::write(trigger.with_extension("new"), format!("{fault}\n")).unwrap();
        fs::rename(trigger.with_extension("new"), &trigger).unwrap();
        mumbai.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
        let state = || replica.replication().map(|status| status["replication"].clone());
        wait_until("the replica says that it can't execute", || {
            state().is_some_and(|state| {
                assert_ne!(state["state"], "diverged", "{fault}: {state}");
                state["state"] == "connecting" && state["trouble"].is_string()
            })
        });
        fs::remove_file(&trigger).unwrap();
        replica.wait_until_following();
        replica.wait_until_caught_up(&mumbai);
    }
    bank_tests::assert_same_rows(mumbai.database_path(), replica.database_path());
}
