//! Three branches, many clients, and branches that are killed, stopped, put back from a backup and replaced by their
//! copies at random: afterwards the money is exact, what was acknowledged is there once, what was refused is not there,
//! and what nobody knows is there at most once. `SOAK_SECONDS` makes it longer; `BANK_TEST_SEED` repeats what was
//! drawn by lot.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bank_tests::workload::{NAMES, Operation, World, expected_total, judge, repeat};
use bank_tests::{Bank, Branch, Options, Random, client_command, replica_options, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

const CLIENTS: usize = 16;
const SECONDS: u64 = 10;
/// Promotions go on for less, because the last of them has to be finished.
const SECONDS_WITH_PROMOTIONS: u64 = 7;
/// Fewer clients where processes are started all the time, or where little has to happen.
const FEW_CLIENTS: usize = 6;
/// One in so many stops is longer than a link's patience and a vote's time-out.
const LONG_STOP_ONE_IN: u64 = 12;
/// One in so many kills is followed by a backup and its restoring.
const PUT_BACK_ONE_IN: u64 = 5;

/// What was done to the branches.
#[derive(Default)]
struct Torments {
    kills: AtomicUsize,
    stops: AtomicUsize,
    restores: AtomicUsize,
    promotions: AtomicUsize,
}

fn seconds(default: u64) -> Duration {
    let text = env::var("SOAK_SECONDS");
    Duration::from_secs(text.map_or(default, |text| text.parse().expect("SOAK_SECONDS is a number")))
}

#[test]
fn money_stays_exact_under_kills_stops_and_restored_backups() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let mut branches = NAMES.map(|name| bank.branch(name));
    let world = World::new(&bank, &branches.each_ref());
    let torments = Torments::default();
    let copies = bank.folder().join("copies");
    fs::create_dir(&copies).unwrap();
    let mut tormentors: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
    for branch in &mut branches {
        let (random, world, torments, copies) = (random.fork(), &world, &torments, &copies);
        tormentors.push(Box::new(move || torment(world, branch, random, torments, copies)));
    }
    let operations = world.run(CLIENTS, seconds(SECONDS), &mut random, tormentors);
    settle(&branches.each_ref(), operations, &world, &torments);
}

/// Kills the branch and starts it again, sometimes from a backup of that moment, or stops it for a while, at moments
/// that are drawn by lot.
fn torment(world: &World, branch: &mut Branch, mut random: Random, torments: &Torments, copies: &Path) {
    while !world.is_over.load(Ordering::SeqCst) {
        world.wait(Duration::from_millis(100 + random.below(1_500)));
        if random.below(2) == 0 {
            torments.kills.fetch_add(1, Ordering::SeqCst);
            branch.kill9();
            // Once at least, however short the run is.
            if torments.restores.load(Ordering::SeqCst) == 0 || random.below(PUT_BACK_ONE_IN) == 0 {
                // What was confirmed last is in the log that the kill has left; a backup has that too.
                let number = torments.restores.fetch_add(1, Ordering::SeqCst);
                let copy = copies.join(format!("{number}.db"));
                branch.back_up(&copy);
                branch.put_back(&copy);
            } else {
                world.wait(Duration::from_millis(random.below(600)));
            }
            branch.restart();
        } else {
            let longest = if random.below(LONG_STOP_ONE_IN) == 0 { 7_000 } else { 800 };
            stop_for_a_while(world, branch, random.below(longest), torments);
        }
    }
}

fn stop_for_a_while(world: &World, branch: &Branch, milliseconds: u64, torments: &Torments) {
    torments.stops.fetch_add(1, Ordering::SeqCst);
    branch.signal(Signal::STOP);
    world.wait(Duration::from_millis(milliseconds));
    branch.signal(Signal::CONT);
}

/// Judges the books, asks everything again under its id, and judges once more. The branches run.
#[track_caller]
fn settle(branches: &[&Branch; 3], mut operations: Vec<Operation>, world: &World, torments: &Torments) {
    Bank::wait_until_settled(branches);
    judge(branches, &operations);
    println!(
        "{} kills, {} stops, {} restores, {} promotions: {}",
        torments.kills.load(Ordering::SeqCst),
        torments.stops.load(Ordering::SeqCst),
        torments.restores.load(Ordering::SeqCst),
        torments.promotions.load(Ordering::SeqCst),
        world.summary(&operations)
    );
    repeat(branches, &mut operations);
    Bank::wait_until_settled(branches);
    assert_eq!(judge(branches, &operations), expected_total(&operations), "the clients know another sum");
}

#[test]
fn money_stays_exact_while_a_primary_is_killed_and_its_replica_promoted() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let synchronous = |options: Options| options.value("--sync-replicas", 1);
    let mut primary = bank.start("one", synchronous(Options::named(NAMES[0])));
    let mut replica = bank.start("two", synchronous(replica_options(NAMES[0], &primary)));
    replica.wait_until_following();
    let (mut delhi, mut pune) = (bank.branch(NAMES[1]), bank.branch(NAMES[2]));
    let world = World::new(&bank, &[&primary, &delhi, &pune]);
    let torments = Torments::default();
    let mut tormentors: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
    let (mut own_random, shared, counts) = (random.fork(), &world, &torments);
    let (first, second) = (&mut primary, &mut replica);
    tormentors.push(Box::new(move || {
        while !shared.is_over.load(Ordering::SeqCst) {
            shared.wait(Duration::from_millis(500 + own_random.below(1_000)));
            counts.promotions.fetch_add(1, Ordering::SeqCst);
            // What a replica that is stopped or gone does not confirm is not acknowledged.
            let is_gone = match own_random.below(4) {
                0 => {
                    stop_for_a_while(shared, second, own_random.below(800), counts);
                    second.wait_until_following();
                    false
                }
                1 | 2 => {
                    second.kill9();
                    shared.wait(Duration::from_millis(own_random.below(200)));
                    true
                }
                _ => false,
            };
            first.kill9();
            if is_gone {
                second.restart();
            }
            first.promote_instead(second, synchronous);
            shared.ports[0].store(first.port(), Ordering::SeqCst);
        }
    }));
    for branch in [&mut delhi, &mut pune] {
        let (mut random, shared, counts) = (random.fork(), &world, &torments);
        tormentors.push(Box::new(move || {
            while !shared.is_over.load(Ordering::SeqCst) {
                shared.wait(Duration::from_millis(1_000 + random.below(2_000)));
                counts.kills.fetch_add(1, Ordering::SeqCst);
                branch.kill9();
                shared.wait(Duration::from_millis(random.below(300)));
                branch.restart();
            }
        }));
    }
    let operations = world.run(FEW_CLIENTS, seconds(SECONDS_WITH_PROMOTIONS), &mut random, tormentors);
    settle(&[&primary, &delhi, &pune], operations, &world, &torments);
    replica.wait_until_caught_up(&primary);
    bank_tests::assert_same_rows(primary.database_path(), replica.database_path());
}

#[test]
fn what_a_branch_forgets_by_an_older_backup_is_named_by_the_audit_of_all() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let mut branches = NAMES.map(|name| bank.branch(name));
    let world = World::new(&bank, &branches.each_ref());
    let copy = bank.folder().join("copy.db");
    let delhi = &branches[1];
    let back_up: Box<dyn FnOnce() + Send + '_> = Box::new(|| {
        world.wait(Duration::from_millis(700));
        delhi.back_up(&copy);
        // Ending ends the run.
        world.wait(Duration::from_millis(700));
    });
    let operations = world.run(FEW_CLIENTS, Duration::from_secs(60), &mut random, vec![back_up]);
    Bank::wait_until_settled(&branches.each_ref());
    judge(&branches.each_ref(), &operations);
    let (status, said) = audit_all(&bank, &branches[0]);
    assert_eq!(status, Some(0), "{said}");

    let before = payments(&branches[1]);
    branches[1].kill9();
    branches[1].put_back(&copy);
    branches[1].restart();
    wait_until("nothing is left but what only a person can settle", || {
        branches.iter().all(|branch| {
            let pending = branch.connect().ask("list_pending", json!({})).ok();
            pending.as_array().unwrap().iter().all(|one| one["state"] == "contradicted")
        })
    });
    let forgotten = &before - &payments(&branches[1]);
    assert!(!forgotten.is_empty(), "nothing happened after the backup");
    let (status, said) = audit_all(&bank, &branches[0]);
    assert_eq!(status, Some(1), "{said}");
    let whole: Value = serde_json::from_str(&said).unwrap();
    let findings = || whole["findings"].as_array().unwrap().iter().map(|finding| finding.as_str().unwrap());
    // Of very many only some are named, and the rest is counted.
    let more = findings().filter_map(|finding| finding.strip_suffix(" more payments between branches"));
    let more: usize = more.map(|text| text.strip_prefix("and ").unwrap().parse::<usize>().unwrap()).sum();
    let named: BTreeSet<String> = findings().filter_map(named_payment).collect();
    let wrongly: Vec<_> = named.difference(&forgotten).collect();
    assert!(wrongly.is_empty(), "not forgotten: {wrongly:?}; {said}");
    assert_eq!(named.len() + more, forgotten.len(), "not named: {:?}; {said}", &forgotten - &named);
}

/// The payment in `transfer ID between Delhi and Mumbai: …`, as [`payments`] writes it.
fn named_payment(finding: &str) -> Option<String> {
    let (txid, branches) = finding.strip_prefix("transfer ")?.split_once(" between ")?;
    let (one, other) = branches.split_once(':')?.0.split_once(" and ")?;
    Some(format!("{txid} {}", if one == NAMES[1] { other } else { one }))
}

/// `bank-client audit --all`, asked of this branch: its exit status and what it says.
fn audit_all(bank: &Bank, asked: &Branch) -> (Option<i32>, String) {
    let mut command = client_command();
    command.current_dir(bank.folder()).args(["--port", &asked.port().to_string(), "--json", "audit", "--all"]);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The payments between this branch and others in its books: id and the other branch.
fn payments(branch: &Branch) -> BTreeSet<String> {
    let sql = "SELECT DISTINCT txid || ' ' || peer FROM transactions
               WHERE type IN ('transfer_out', 'transfer_in') AND peer <> 'Delhi'";
    branch.database().texts(sql).into_iter().collect()
}
