//! Processes of a branch and their PostgreSQL are killed and stopped under load: one of the others takes over, nothing
//! that was acknowledged is lost, and nothing is booked twice.

use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, DEADLINE, Options, assert_same_rows, wait_until, wait_until_within};
use postgres_tests::{Clerks, Server, is_owner, process, wait_for_owner};
use rustix::process::Signal;
use serde_json::json;

/// After the owner alone was killed, another one answers within so long. A build for tests on a busy machine has a
/// little more than the five seconds that are claimed.
const TAKE_OVER: Duration = Duration::from_secs(8);

/// Deposits between two blows, so that each falls into the middle of work.
const SOME_DEPOSITS: usize = 50;

/// Two processes of Mumbai, the first of which owns it.
fn two_processes(bank: &Bank, server: &Server) -> [Branch; 2] {
    let one = bank.start("one", process("Mumbai", &server.url()));
    wait_for_owner(&[&one]);
    let other = bank.start("two", process("Mumbai", &server.url()));
    other.wait_until_following();
    [one, other]
}

fn ports(processes: &[Branch; 2]) -> [u16; 2] {
    processes.each_ref().map(Branch::port)
}

#[test]
fn a_process_that_stands_by_takes_over_when_the_owner_is_killed_and_nothing_acknowledged_is_lost() {
    let (bank, server, clerks) = (Bank::new(), Server::start(), Clerks::default());
    let mut processes = two_processes(&bank, &server);
    let (ports, key) = (ports(&processes), bank.key());
    clerks.work(4, &ports, &key, || {
        for round in 1..=4 {
            clerks.wait_for_more(SOME_DEPOSITS);
            let owner = wait_for_owner(&processes.each_ref());
            clerks.longest_outage();
            let killed_at = Instant::now();
            processes[owner].kill9();
            wait_until_within(TAKE_OVER, "the other one owns the branch", || is_owner(&processes[1 - owner]));
            println!("round {round}: another owner after {:?}", killed_at.elapsed());
            processes[owner].restart();
            processes[owner].wait_until_following();
            println!("round {round}: the longest wait for a deposit was {:?}", clerks.longest_outage());
        }
    });
    let owner = wait_for_owner(&processes.each_ref());
    println!("{} deposits", clerks.judge(&processes[owner]));
    let status = processes[owner].replication().unwrap();
    assert!(status["epoch"]["number"].as_i64().or(status["epoch"].as_i64()).unwrap() >= 5, "{status}");
    let (owner, other) = (&processes[owner], &processes[1 - owner]);
    other.wait_until_caught_up(owner);
    assert_same_rows(owner.database_path(), other.database_path());
}

#[test]
fn an_owner_that_stood_still_is_fenced_and_shows_nothing_old() {
    let (bank, server, clerks) = (Bank::new(), Server::start(), Clerks::default());
    let processes = two_processes(&bank, &server);
    let (ports, key) = (ports(&processes), bank.key());
    let owner = clerks.work(4, &ports, &key, || {
        clerks.wait_for_more(SOME_DEPOSITS);
        let owner = wait_for_owner(&processes.each_ref());
        // A reader that was connected before.
        let mut reader = processes[owner].connect();
        processes[owner].signal(Signal::STOP);
        wait_until_within(TAKE_OVER, "the other one owns the branch", || is_owner(&processes[1 - owner]));
        // The new owner writes what the old one has not seen when it goes on.
        clerks.wait_for_more(SOME_DEPOSITS);
        processes[owner].signal(Signal::CONT);
        let reply = reader.try_ask("balance", json!({"account_no": 1001}), None);
        // It asks before it answers; or its session ends because it steps down.
        assert!(reply.is_err() || !reply.as_ref().unwrap().is_ok(), "{reply:?}");
        processes[owner].wait_until_following();
        1 - owner
    });
    assert!(is_owner(&processes[owner]));
    clerks.judge(&processes[owner]);
}

#[test]
fn a_clean_stop_hands_the_branch_over_at_once() {
    let (bank, server) = (Bank::new(), Server::start());
    let mut processes = two_processes(&bank, &server);
    let begun = Instant::now();
    assert_eq!(processes[0].stop(), Some(0));
    wait_until("the other one owns the branch", || is_owner(&processes[1]));
    println!("handed over after {:?}", begun.elapsed());
    assert!(processes[1].log().text().contains("is gone"));
}

#[test]
fn postgresql_is_killed_in_the_middle_of_work_and_nothing_acknowledged_is_lost_or_booked_twice() {
    let (bank, mut server, clerks) = (Bank::new(), Server::start(), Clerks::default());
    let processes = two_processes(&bank, &server);
    let (ports, key) = (ports(&processes), bank.key());
    clerks.work(4, &ports, &key, || {
        for _ in 0..3 {
            clerks.wait_for_more(SOME_DEPOSITS);
            server.kill9();
            clerks.wait_for_a_failure();
            server.restart();
        }
        clerks.wait_for_more(SOME_DEPOSITS);
    });
    let owner = wait_for_owner(&processes.each_ref());
    println!("{} deposits, the longest wait {:?}", clerks.judge(&processes[owner]), clerks.longest_outage());
}

#[test]
fn while_postgresql_stands_still_the_owner_shows_nothing_and_goes_on_afterwards() {
    let (bank, server, clerks) = (Bank::new(), Server::start(), Clerks::default());
    let processes = two_processes(&bank, &server);
    let (ports, key) = (ports(&processes), bank.key());
    clerks.work(3, &ports, &key, || {
        clerks.wait_for_more(SOME_DEPOSITS);
        server.signal(Signal::STOP);
        let owner = processes.iter().find(|process| process.log().text().contains("owns branch")).unwrap();
        wait_until("the owner answers no reads", || {
            owner.connect().ask("balance", json!({"account_no": 1001})).code() == "no_commit_log"
        });
        server.signal(Signal::CONT);
        wait_until("reads are answered again", || {
            let owner = wait_for_owner(&processes.each_ref());
            processes[owner].connect().ask("balance", json!({"account_no": 1001})).is_ok()
        });
    });
    let owner = wait_for_owner(&processes.each_ref());
    clerks.judge(&processes[owner]);
}

#[test]
fn a_transfer_between_branches_goes_through_a_failover_of_either_side() {
    let (bank, server) = (Bank::new(), Server::start());
    let mut mumbai = two_processes(&bank, &server);
    let delhi_options = || process("Delhi", &server.url());
    let mut delhi = [bank.start("delhi-one", delhi_options()), bank.start("delhi-two", delhi_options())];
    wait_until("Delhi has an owner and one that stands by", || {
        delhi.iter().any(is_owner)
            && delhi.iter().any(|one| one.replication().is_some_and(|it| it["replication"]["state"] == "following"))
    });
    let mut payer = wait_for_owner(&mumbai.each_ref());
    let mut payee = wait_for_owner(&delhi.each_ref());
    Bank::introduce(&[&mumbai[payer], &delhi[payee]]);
    for round in 0..2 {
        // Both at once: neither knows where the other's new owner is but by what stands in the old places.
        mumbai[payer].kill9();
        delhi[payee].kill9();
        mumbai[payer].restart();
        delhi[payee].restart();
        payer = wait_for_owner(&mumbai.each_ref());
        payee = wait_for_owner(&delhi.each_ref());
        let begun = Instant::now();
        let mut attempt = 0;
        let mut said = String::new();
        while said != "ok" {
            assert!(begun.elapsed() < DEADLINE, "no transfer went through: {said}");
            let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "dest_branch": "Delhi", "amount": 1});
            let id = format!("round {round} attempt {attempt}");
            let reply = mumbai[payer].connect().try_ask("inter_branch_transfer", params, Some(&id));
            said = reply.map_or_else(
                |error| error.to_string(),
                |reply| match reply.is_ok() {
                    true => "ok".into(),
                    false => reply.code().to_string(),
                },
            );
            // An answer for good: the next attempt is another transfer. All else is asked again.
            if ["branch_unreachable", "vote_timeout", "transaction_aborted"].contains(&said.as_str()) {
                attempt += 1;
            }
            // Asked again like this by whoever got no answer: a condition to wait for is what the answer itself is.
            thread::sleep(Duration::from_millis(100));
        }
        println!("round {round}: a transfer went through after {:?}, at attempt {attempt}", begun.elapsed());
    }
    Bank::wait_until_settled(&[&mumbai[payer], &delhi[payee]]);
    Bank::assert_exact(&[&mumbai[payer], &delhi[payee]]);
    assert_eq!(delhi[payee].connect().balance(1002), "1002.00");
}

#[test]
fn a_password_in_the_connection_string_is_in_no_log_and_no_message() {
    let (bank, server) = (Bank::new(), Server::start());
    let url = server.url().replace("bank@", "bank:open-sesame@");
    let options = Options::named("Mumbai").variable("BANK_COMMIT_LOG", url).variable("RUST_LOG", "trace");
    let branch = bank.start("one", options);
    wait_for_owner(&[&branch]);
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
    let log = branch.log().text();
    assert!(log.contains("owns branch") && !log.contains("open-sesame"), "{log}");
}
