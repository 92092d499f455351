//! Clerks who pay money in at a branch of several processes, and ask again, under the same id, until they are told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Branch, BranchConnection, SetOnDrop, request, wait_until_within};
use protocol::proof::BranchKey;
use serde_json::{Value, json};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a clerk asks before the test has failed.
const GIVE_UP: Duration = Duration::from_secs(120);

/// What they have paid in.
#[derive(Debug, Default)]
pub struct Clerks {
    next_paise: AtomicI64,
    /// Attempts that were not answered with ok.
    failed: AtomicI64,
    acknowledged: Mutex<Vec<i64>>,
    longest_outage: Mutex<Duration>,
}

impl Clerks {
    /// Has clerks work at the processes on these ports for as long as `meanwhile` takes.
    pub fn work<T>(&self, clerks: usize, ports: &[u16], key: &BranchKey, meanwhile: impl FnOnce() -> T) -> T {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let over = SetOnDrop(&is_over);
            for clerk in 0..clerks {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut at = clerk % ports.len();
                    while !is_over.load(Ordering::SeqCst) {
                        at = self.pay_in(ports, at, key);
                    }
                });
            }
            let done = meanwhile();
            drop(over);
            done
        })
    }

    /// Pays in once, and says at which process that was taken.
    fn pay_in(&self, ports: &[u16], mut at: usize, key: &BranchKey) -> usize {
        let paise = self.next_paise.fetch_add(1, Ordering::SeqCst) + 1;
        let amount = format!("{}.{:02}", paise / 100, paise % 100);
        let body = request("deposit", json!({"account_no": 1001, "amount": amount}), Some(&format!("deposit {paise}")));
        let begun = Instant::now();
        loop {
            let reply = BranchConnection::connect_with(ports[at], key).and_then(|mut connection| {
                connection.wait_at_most(PATIENCE);
                connection.try_text(&body)
            });
            if reply.is_ok_and(|reply| reply.is_ok()) {
                let mut longest = self.longest_outage.lock().unwrap();
                *longest = longest.max(begun.elapsed());
                self.acknowledged.lock().unwrap().push(paise);
                return at;
            }
            self.failed.fetch_add(1, Ordering::SeqCst);
            assert!(begun.elapsed() < GIVE_UP, "a deposit was not taken in {GIVE_UP:?}");
            at = (at + 1) % ports.len();
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until so many more deposits were acknowledged.
    #[track_caller]
    pub fn wait_for_more(&self, deposits: usize) {
        let before = self.acknowledged();
        wait_until_within(GIVE_UP, "deposits are taken", || self.acknowledged() >= before + deposits);
    }

    /// Waits until one of them finds out that nothing is taken.
    #[track_caller]
    pub fn wait_for_a_failure(&self) {
        let before = self.failed.load(Ordering::SeqCst);
        wait_until_within(GIVE_UP, "a deposit fails", || self.failed.load(Ordering::SeqCst) > before);
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// The longest that one of them asked for one deposit since this was last said.
    pub fn longest_outage(&self) -> Duration {
        std::mem::take(&mut *self.longest_outage.lock().unwrap())
    }

    /// Checks that the owner has each deposit that was acknowledged once, and clean books. Returns how many there are.
    #[track_caller]
    pub fn judge(&self, owner: &Branch) -> usize {
        let booked = owner.database().deposits(1001);
        let twice: Vec<_> = booked.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "booked more than once: {twice:?}");
        let acknowledged = self.acknowledged.lock().unwrap();
        let missing: Vec<_> = acknowledged.iter().filter(|paise| !booked.contains_key(*paise)).collect();
        assert!(missing.is_empty(), "acknowledged, and not in the books: {missing:?}");
        let audit: Value = owner.connect().ask("audit", json!({})).ok();
        assert_eq!(audit["ok"], true, "{audit}");
        acknowledged.len()
    }
}
