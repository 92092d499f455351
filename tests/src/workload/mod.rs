//! Clients of three branches at once, for tests in which branches suffer: they pay, run dry, repeat their ids, open and
//! close accounts, and name receivers by name and by address. Each keeps what it was told, and [`judge()`] holds the
//! books against that: what was acknowledged is there once, what was refused is not there, and what nobody knows is
//! there at most once.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use protocol::proof::BranchKey;
use serde_json::{Value, json};

use crate::bank::Bank;
use crate::branch::Branch;
use crate::branch_connection::{BranchConnection, Reply};
use crate::random::Random;
use crate::wait::{DEADLINE, SetOnDrop, wait_until_within};

mod client;
mod judge;

use client::Client;
pub use judge::{expected_total, judge, repeat};

/// The branches of the workload.
pub const NAMES: [&str; 3] = ["Mumbai", "Delhi", "Pune"];
/// Accounts of every branch that have enough for everything, and those that get less than they spend.
const RICH: [i64; 2] = [1001, 1002];
const POOR: [i64; 2] = [1003, 1004];
/// What is deposited into each rich account before the work, beside the Rs 1000 of a sample account.
const RICH_PAISE: i64 = 100_000_000;
const SAMPLE_PAISE: i64 = 100_000;
/// Accounts that are opened and closed have numbers from here.
const MOVING_FROM: i64 = 10_001;
/// So many of them are open at a branch at one time.
const MOVING: usize = 6;
/// How long a client waits before it asks again on a new connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Refusals for good: nothing was done, unless an earlier sending of the same request still comes.
const REFUSALS: [&str; 6] =
    ["insufficient_funds", "account_closed", "money_held", "vote_timeout", "branch_unreachable", "transaction_aborted"];
/// Answers that say nothing of the outcome: the request is sent again.
const PASSING: [&str; 10] = [
    "busy",
    "stopping",
    "undecided",
    "request_repeated",
    "unconfirmed",
    "replicas_missing",
    "no_commit_log",
    "not_primary",
    "fenced",
    "not_ready",
];

/// A row that an operation makes: at which branch, its type, the customers on its two sides (0 for none), paise.
type Row = (usize, &'static str, i64, i64, i64);

/// One request, what it does to the books, and what its client knows.
#[derive(Clone, Debug)]
pub struct Operation {
    home: usize,
    body: String,
    rows: Vec<Row>,
    opens: Option<i64>,
    /// What it pays out is known from its answer alone.
    closes: Option<i64>,
    fate: Fate,
}

#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Acknowledged(Value),
    Refused(String),
    Unknown,
}

/// What the clients share.
#[derive(Debug)]
pub struct World {
    /// Where each branch is; it moves when a copy is promoted.
    pub ports: [AtomicU16; 3],
    /// Whether the clients are to end.
    pub is_over: AtomicBool,
    /// Whether somebody has failed, so that nobody need wait for an answer any more.
    is_broken: AtomicBool,
    key: BranchKey,
    /// Every amount is another one, by which it is recognised in the books.
    next_paise: AtomicI64,
    next_account: AtomicI64,
    /// Accounts that were opened and may be closed, by branch.
    moving: [Mutex<Vec<i64>>; 3],
    /// Requests that were sent again, at once or after a lost answer.
    repeats: AtomicUsize,
    /// Distinguishes the ids of two runs of the clients.
    runs: AtomicUsize,
}

impl World {
    /// Opens the accounts and makes the branches known to each other.
    #[must_use]
    #[track_caller]
    pub fn new(bank: &Bank, branches: &[&Branch; 3]) -> Self {
        for branch in branches {
            let mut connection = branch.connect();
            for account in POOR {
                connection.ask("create_account", json!({"account_no": account, "name": "Poor"})).ok();
            }
            for account in RICH {
                connection.ask("deposit", json!({"account_no": account, "amount": rupees(RICH_PAISE)})).ok();
            }
        }
        Bank::introduce(branches);
        Self {
            ports: branches.map(|branch| AtomicU16::new(branch.port())),
            is_over: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            key: bank.key(),
            next_paise: AtomicI64::new(1),
            next_account: AtomicI64::new(MOVING_FROM),
            moving: Default::default(),
            repeats: AtomicUsize::new(0),
            runs: AtomicUsize::new(0),
        }
    }

    /// Has `clients` work for a while, and beside them each of the tormentors, which end when [`World::is_over`].
    #[track_caller]
    pub fn run(
        &self,
        clients: usize,
        time: Duration,
        random: &mut Random,
        tormentors: Vec<Box<dyn FnOnce() + Send + '_>>,
    ) -> Vec<Operation> {
        self.is_over.store(false, Ordering::SeqCst);
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        thread::scope(|scope| {
            // Set at the latest when a thread panics, so that the others end too.
            let over = SetOnDrop(&self.is_over);
            let tormentors: Vec<_> = tormentors.into_iter().map(|tormentor| scope.spawn(tormentor)).collect();
            let clients: Vec<_> = (0..clients)
                .map(|index| {
                    let client = Client::new(self, format!("run {run} client {index}"), random.fork());
                    scope.spawn(move || client.work())
                })
                .collect();
            let end = Instant::now() + time;
            let is_broken = || {
                clients.iter().any(thread::ScopedJoinHandle::is_finished)
                    || tormentors.iter().any(thread::ScopedJoinHandle::is_finished)
            };
            wait_until_within(time + DEADLINE, "the clients have worked", || Instant::now() >= end || is_broken());
            drop(over);
            for tormentor in tormentors {
                tormentor.join().inspect_err(|_| self.is_broken.store(true, Ordering::SeqCst)).unwrap();
            }
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    }

    /// Waits, for a tormentor, but not longer than the clients work.
    pub fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        let is_over = || Instant::now() >= end || self.is_over.load(Ordering::SeqCst);
        wait_until_within(time + DEADLINE, "it is time", is_over);
    }

    fn connect(&self, home: usize) -> io::Result<BranchConnection> {
        let mut opened = BranchConnection::connect(self.ports[home].load(Ordering::SeqCst))?;
        opened.wait_at_most(PATIENCE);
        opened.prove(&self.key).map_err(io::Error::other)?;
        Ok(opened)
    }

    /// What came of it all, for a person to read; checks that the clients did what they are for.
    #[must_use]
    #[track_caller]
    pub fn summary(&self, operations: &[Operation]) -> String {
        let (mut acknowledged, mut unknown, mut refused) = (0, 0, BTreeMap::new());
        for operation in operations {
            match &operation.fate {
                Fate::Acknowledged(_) => acknowledged += 1,
                Fate::Unknown => unknown += 1,
                Fate::Refused(code) => *refused.entry(code.as_str()).or_insert(0) += 1,
            }
        }
        let done = |operation: &&Operation| matches!(operation.fate, Fate::Acknowledged(_));
        let closed = operations.iter().filter(done).filter(|operation| operation.closes.is_some()).count();
        let opened = operations.iter().filter(done).filter(|operation| operation.opens.is_some()).count();
        let repeats = self.repeats.load(Ordering::SeqCst);
        assert!(acknowledged > 50 && repeats > 0 && opened > 0, "hardly anything happened");
        assert!(refused.contains_key("insufficient_funds"), "no account ran dry: {refused:?}");
        format!(
            "{acknowledged} acknowledged ({opened} openings, {closed} closings), refused {refused:?}, {unknown} unknown, \
             {repeats} repeats"
        )
    }
}

/// Delivery may have been pending in one answer and done in the next; nothing else may differ.
#[track_caller]
fn assert_same(first: &Value, second: &Value, body: &str) {
    let mut second = second.clone();
    if let (Some(now), Some(then)) = (second.get_mut("delivery"), first.get("delivery")) {
        *now = then.clone();
    }
    assert_eq!(*first, second, "two answers to {body}");
}

/// The code of a refusal, empty when it was done. An atomic batch of which nothing was done has an answer all the same:
/// then the code of the request in it that was refused.
fn refusal(reply: &Reply) -> &str {
    let of_batch = reply.json["result"].as_array().into_iter().flatten().filter_map(|one| one["code"].as_str());
    of_batch.chain([reply.code()]).find(|code| *code != "batch_refused").unwrap_or_default()
}

fn is_done(reply: &Reply) -> bool {
    refusal(reply).is_empty()
}

fn rupees(paise: i64) -> String {
    format!("{}.{:02}", paise / 100, paise % 100)
}

fn paise(money: &Value) -> i64 {
    money.to_string().replace('.', "").parse().unwrap()
}
