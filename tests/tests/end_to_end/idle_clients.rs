//! Many clients that do nothing cost little, and a bank that is full says so.

#![cfg(target_os = "linux")]

use std::fs;
use std::time::{Duration, Instant};

use bank_tests::{Branch, MenuConnection, Options, audit, raise_descriptor_limit, wait_until};

const IDLE_CLIENTS: usize = 2_000;
/// Of them, those who have logged in: hashing a password leaves memory behind too.
const LOGGED_IN: usize = 32;
const RESIDENT_KIB_MAX: u64 = 150 * 1024;
/// What a person takes for at once, with room for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn two_thousand_idle_clients_cost_under_150_mib_and_one_more_gets_its_menu_at_once() {
    raise_descriptor_limit(IDLE_CLIENTS as u64 + 1_000);
    let mut branch = Branch::start(Options::preloaded());
    let mut clients: Vec<_> = (0..LOGGED_IN).map(|_| branch.log_in("1001", "1001")).collect();
    clients.extend((LOGGED_IN..IDLE_CLIENTS).map(|_| branch.menu()));
    let resident = resident_kib(&branch);
    let start = Instant::now();
    let mut one_more = branch.menu();
    let taken = start.elapsed();
    println!("{IDLE_CLIENTS} clients: {resident} KiB resident; one more got its menu in {taken:?}");
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB resident");
    assert!(taken < AT_ONCE, "{taken:?}");
    one_more.log_in("1002", "1002").unwrap();
    one_more.deposit(5).unwrap().expect_done();
    // None of them was given up meanwhile.
    for client in &mut clients {
        client.answer("x").unwrap().expect_fail();
    }
    drop(clients);
    assert_eq!(branch.stop(), Some(0));
    audit(branch.database_path()).assert_clean();
}

#[test]
fn the_fourth_client_of_a_bank_for_three_is_told_and_a_place_that_is_left_is_given_again() {
    let branch = Branch::start(Options::preloaded().value("--max-clients", 3));
    let mut clients: Vec<_> = (0..3).map(|_| branch.menu()).collect();
    let busy = "@EXIT The bank is busy: too many customers are here. Please come back later.\n";
    for _ in 0..3 {
        assert_eq!(MenuConnection::connect(branch.menu_port()).unwrap().rest(), busy);
    }
    clients[0].log_in("1001", "1001").unwrap();
    drop(clients.pop());
    wait_until("the place is free", || {
        let mut next = MenuConnection::connect(branch.menu_port()).unwrap();
        next.turn().is_ok_and(|turn| turn.text() != busy)
    });
}

fn resident_kib(branch: &Branch) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", branch.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
