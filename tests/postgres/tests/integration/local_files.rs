//! What a process has on its own disk is a working copy: it may be lost, too old, or no longer what the log has.

use std::fs;
use std::path::Path;

use bank_tests::{Bank, Branch, Options, audit, wait_until};
use postgres_tests::{Server, is_owner, process, wait_for_owner};
use serde_json::json;

fn deposit(branch: &Branch, times: usize) {
    let mut connection = branch.connect();
    for _ in 0..times {
        connection.ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
    }
}

/// As a disk that is lost with all that a database has beside it.
fn lose(database: &Path) {
    let name = database.file_name().unwrap().to_str().unwrap().to_string();
    for entry in fs::read_dir(database.parent().unwrap()).unwrap().flatten() {
        if entry.file_name().to_str().unwrap().starts_with(&name) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_branch_comes_back_from_postgresql_when_every_local_file_is_lost() {
    let (bank, server) = (Bank::new(), Server::start());
    let mut branch = bank.start("one", process("Mumbai", &server.url()));
    wait_for_owner(&[&branch]);
    deposit(&branch, 20);
    let before = branch.database().movements();
    branch.kill9();
    lose(branch.database_path());
    branch.restart();
    wait_for_owner(&[&branch]);
    assert_eq!(branch.database().movements(), before);
    deposit(&branch, 1);
    assert_eq!(branch.connect().balance(1001), "1021.00");
    assert_eq!(branch.stop(), Some(0));
    audit(branch.database_path()).assert_clean();
}

#[test]
fn a_branch_of_one_machine_begins_its_log_with_the_books_that_it_has() {
    let (bank, server) = (Bank::new(), Server::start());
    let mut alone = bank.branch("Mumbai");
    deposit(&alone, 5);
    assert_eq!(alone.stop(), Some(0));
    let database = alone.database_path().to_path_buf();
    let branch = Branch::start(process("Mumbai", &server.url()).database(&database));
    wait_for_owner(&[&branch]);
    let other = bank.start("other", process("Mumbai", &server.url()));
    other.wait_until_following();
    assert_eq!(other.connect().balance(1001), "1005.00");
    drop((branch, other));
    // Without its log, it is written no more.
    let without = Branch::start(Options::named("Mumbai").database(&database));
    without.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).refused("not_primary");
}

#[test]
fn a_process_that_was_away_for_longer_than_the_log_is_kept_takes_a_snapshot() {
    let (bank, server) = (Bank::new(), Server::start());
    let options = |options: Options| options.value("--log-mib", 1);
    let owner = bank.start("one", options(process("Mumbai", &server.url())));
    wait_for_owner(&[&owner]);
    let mut other = bank.start("two", options(process("Mumbai", &server.url())));
    other.wait_until_following();
    assert_eq!(other.stop(), Some(0));
    let first_kept = || server.sql("bank", "SELECT min(sequence) FROM bank_commit_log").parse::<i64>().unwrap();
    let begun = first_kept();
    let mut connection = owner.connect();
    wait_until("the log was cut", || {
        for _ in 0..20 {
            let deposit = json!({"action": "deposit", "params": {"account_no": 1001, "amount": 1}});
            connection.ask("batch", json!({"requests": vec![deposit; 200]})).ok();
        }
        first_kept() > begun + 1
    });
    other.restart();
    other.wait_until_following();
    assert!(other.log().text().contains("taking a snapshot"), "{}", other.log().text());
    other.wait_until_caught_up(&owner);
    assert_eq!(other.connect().balance(1001), owner.connect().balance(1001));
    other.connect().ask("audit", json!({})).ok();
}

#[test]
fn a_copy_that_is_ahead_of_the_log_says_so_and_goes_no_further() {
    let (bank, server) = (Bank::new(), Server::start());
    let mut branch = bank.start("one", process("Mumbai", &server.url()));
    wait_for_owner(&[&branch]);
    deposit(&branch, 3);
    branch.kill9();
    // PostgreSQL is put back to an older state.
    let last: i64 = server.sql("bank", "SELECT max(sequence) FROM bank_commit_log").parse().unwrap();
    server.sql("bank", &format!("DELETE FROM bank_commit_log WHERE sequence > {}", last - 2));
    branch.restart();
    branch.wait_until_state("replica", "diverged");
    let trouble = branch.replication().unwrap()["replication"]["trouble"].to_string();
    assert!(trouble.contains("put back to an older state"), "{trouble}");
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).refused("not_primary");
    // A person says that what PostgreSQL has is right.
    branch.connect().ask("resync", json!({})).ok();
    wait_until("it owns the branch again", || is_owner(&branch));
    assert_eq!(branch.connect().balance(1001), "1001.00");
}

#[test]
fn a_log_that_was_lost_altogether_begins_anew_by_order_alone() {
    let (bank, server) = (Bank::new(), Server::start());
    let mut branch = bank.start("one", process("Mumbai", &server.url()));
    wait_for_owner(&[&branch]);
    deposit(&branch, 3);
    branch.kill9();
    server.sql("bank", "DROP TABLE bank_owner, bank_commit_log, bank_snapshot, bank_process");
    branch.restart();
    branch.wait_until_state("replica", "diverged");
    branch.connect().ask("promote", json!({"force": true}));
    wait_until("it owns the branch again", || is_owner(&branch));
    assert_eq!(branch.connect().balance(1001), "1003.00");
}
