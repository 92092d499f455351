//! `kill -9` at random moments under load: nothing that was acknowledged is lost, and nothing happens twice.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Branch, DEADLINE, MenuConnection, Options, Random, audit};

const KILLS: usize = 50;
const SESSIONS: usize = 16;
/// The kill comes after this many acknowledgements at most.
const ACKNOWLEDGED_BEFORE_KILL: u64 = 150;
/// And this much later at most: long enough to hit any place in a commit.
const KILL_DELAY_MICROSECONDS: u64 = 4_000;
/// Every so many kills no audit puts the log away before the server starts again, and recovers by itself.
const RECOVERS_BY_ITSELF_EVERY: usize = 5;
const OPENING_PAISE: i64 = 100_000;

/// Every deposit has an amount of its own, by which it is recognised in the books.
#[derive(Default)]
struct Deposits {
    next_paise: AtomicI64,
    acknowledged: Mutex<BTreeSet<i64>>,
    acknowledged_in_this_round: AtomicUsize,
}

#[test]
fn an_acknowledged_deposit_survives_every_kill_and_none_is_there_twice() {
    let mut random = Random::from_environment();
    let mut branch = Branch::start(Options::preloaded());
    let deposits = Deposits { next_paise: AtomicI64::new(1), ..Deposits::default() };
    let mut unacknowledged_but_there = 0;
    for round in 0..KILLS {
        deposits.acknowledged_in_this_round.store(0, Ordering::SeqCst);
        let acknowledged_before_kill = random.below(ACKNOWLEDGED_BEFORE_KILL) as usize;
        let delay = Duration::from_micros(random.below(KILL_DELAY_MICROSECONDS));
        let port = branch.menu_port();
        thread::scope(|scope| {
            for _ in 0..SESSIONS {
                scope.spawn(|| deposit_until_the_end(port, &deposits));
            }
            let deadline = Instant::now() + DEADLINE;
            let mut reached = None;
            // The moment of the kill is drawn by lot: so many acknowledgements, and then so much of the next commit.
            while reached.is_none_or(|reached: Instant| reached.elapsed() < delay) {
                if deposits.acknowledged_in_this_round.load(Ordering::SeqCst) >= acknowledged_before_kill {
                    reached.get_or_insert_with(Instant::now);
                }
                assert!(Instant::now() < deadline, "no deposits in round {round}: {}", branch.log().text());
                thread::yield_now();
            }
            branch.kill9();
        });
        if round % RECOVERS_BY_ITSELF_EVERY != 0 {
            audit(branch.database_path()).assert_clean();
        }
        unacknowledged_but_there = check(&branch, &deposits, round);
        branch.restart();
    }
    assert_eq!(branch.stop(), Some(0));
    let verdict = audit(branch.database_path());
    verdict.assert_clean();
    let acknowledged = deposits.acknowledged.into_inner().unwrap().len();
    println!(
        "{KILLS} kills, {acknowledged} deposits acknowledged, {unacknowledged_but_there} more there without, \
         {} rows",
        verdict.transactions
    );
    assert!(acknowledged > 0);
}

/// Deposits until the connection breaks; before the log-in is through, too.
fn deposit_until_the_end(port: u16, deposits: &Deposits) {
    let Ok(mut menu) = MenuConnection::open(port) else { return };
    if menu.log_in("1001", "1001").is_err() {
        return;
    }
    loop {
        let paise = deposits.next_paise.fetch_add(1, Ordering::SeqCst);
        let amount = format!("{}.{:02}", paise / 100, paise % 100);
        let Ok(turn) = menu.answers(&["b", &amount]) else { return };
        turn.expect_done();
        deposits.acknowledged.lock().unwrap().insert(paise);
        deposits.acknowledged_in_this_round.fetch_add(1, Ordering::SeqCst);
        if menu.answer("").is_err() {
            return;
        }
    }
}

/// Compares the books with what the clients know; gives how many deposits are there that nobody was told of.
fn check(branch: &Branch, deposits: &Deposits, round: usize) -> usize {
    let books = branch.database();
    let there = books.deposits(1001);
    let acknowledged = deposits.acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|paise| !there.contains_key(paise)).collect();
    assert!(lost.is_empty(), "acknowledged and lost in round {round}, in paise: {lost:?}");
    let doubled: Vec<_> = there.iter().filter(|&(_, &count)| count != 1).collect();
    assert!(doubled.is_empty(), "there more than once in round {round}: {doubled:?}");
    let next = deposits.next_paise.load(Ordering::SeqCst);
    let invented: Vec<_> = there.keys().filter(|&&paise| paise >= next).collect();
    assert!(invented.is_empty(), "never asked for: {invented:?}");
    assert_eq!(books.balance_paise(1001), OPENING_PAISE + there.keys().sum::<i64>(), "round {round}");
    there.len() - acknowledged.len()
}
