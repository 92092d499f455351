//! What several clients see of one branch at the same time could have been seen one after another: each operation
//! takes effect at one moment between its request and its answer.
//!
//! Histories of real clients are checked against a sequential bank by the search of Wing and Gong ("Testing and
//! verifying concurrent objects", 1993) with Lowe's memory of configurations that led nowhere ("Testing for
//! linearizability", 2017). The search itself is tested with histories that are wrong.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use bank_tests::{Bank, BranchConnection, Options, Random};
use serde_json::json;

const ACCOUNTS: usize = 3;
/// The number of the first account.
const FIRST: usize = 2001;
const CLIENTS: usize = 5;
const OPERATIONS: usize = 6;
const ROUNDS: usize = 120;
const ROUNDS_WITH_KILL: usize = 12;
const _: () = assert!(CLIENTS * OPERATIONS + ACCOUNTS <= 64, "a history's operations are the bits of a word");

/// Balances in paise.
type Balances = [i64; ACCOUNTS];

#[derive(Clone, Copy, Debug)]
enum Operation {
    Deposit(usize, i64),
    Withdraw(usize, i64),
    Transfer(usize, usize, i64),
    Balance(usize),
    /// All balances at one moment, by an atomic batch.
    Balances,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Balance(i64),
    Two(i64, i64),
    All(Balances),
    Insufficient,
}

/// The bank as it would be if there was nobody else.
fn carry_out(balances: &mut Balances, operation: Operation) -> Answer {
    match operation {
        Operation::Deposit(account, paise) => {
            balances[account] += paise;
            Answer::Balance(balances[account])
        }
        Operation::Withdraw(account, paise) if balances[account] >= paise => {
            balances[account] -= paise;
            Answer::Balance(balances[account])
        }
        Operation::Transfer(from, to, paise) if balances[from] >= paise => {
            balances[from] -= paise;
            balances[to] += paise;
            Answer::Two(balances[from], balances[to])
        }
        Operation::Withdraw(..) | Operation::Transfer(..) => Answer::Insufficient,
        Operation::Balance(account) => Answer::Balance(balances[account]),
        Operation::Balances => Answer::All(*balances),
    }
}

/// One operation of a history. Without an answer it may have taken effect or not, before its client knew of the loss.
#[derive(Clone, Copy, Debug)]
struct Event {
    operation: Operation,
    invoked: u64,
    returned: u64,
    answer: Option<Answer>,
}

/// Whether the operations can be put into one line that respects their times and explains their answers.
fn is_linearizable(start: Balances, history: &[Event]) -> bool {
    assert!(history.len() <= 64, "a history's operations are the bits of a word");
    let all = (0..history.len()).fold(0_u64, |bits, index| bits | 1 << index);
    let mut dead_ends = HashSet::new();
    search(start, all, history, &mut dead_ends)
}

fn search(balances: Balances, remaining: u64, history: &[Event], dead_ends: &mut HashSet<(u64, Balances)>) -> bool {
    let left = || history.iter().enumerate().filter(|(index, _)| remaining & 1 << index != 0);
    let answered = left().filter(|(_, event)| event.answer.is_some());
    let Some(first_return) = answered.map(|(_, event)| event.returned).min() else { return true };
    if !dead_ends.insert((remaining, balances)) {
        return false;
    }
    // Next can be whatever was invoked before anything that is left had returned.
    left().filter(|(_, event)| event.invoked < first_return).any(|(index, event)| {
        let mut after = balances;
        let answer = carry_out(&mut after, event.operation);
        if event.answer.is_some_and(|seen| seen != answer) {
            return false;
        }
        // What was lost before this one began has not happened, if it has not happened by now.
        let too_late = left().filter(|(_, lost)| lost.answer.is_none() && lost.returned < event.invoked);
        let too_late = too_late.fold(0_u64, |bits, (index, _)| bits | 1 << index);
        search(after, remaining & !(1 << index) & !too_late, history, dead_ends)
    })
}

/// The history of a round, with a clock that counts.
#[derive(Default)]
struct Recorder {
    clock: AtomicU64,
    history: Mutex<Vec<Event>>,
}

impl Recorder {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Carries an operation out and records it. `false` when the answer was lost.
    fn record(&self, connection: &mut BranchConnection, operation: Operation) -> bool {
        let invoked = self.now();
        let answer = ask(connection, operation);
        let event = Event { operation, invoked, returned: self.now(), answer };
        self.history.lock().unwrap().push(event);
        answer.is_some()
    }
}

fn ask(connection: &mut BranchConnection, operation: Operation) -> Option<Answer> {
    let number = |account: usize| account + FIRST;
    let rupees = |paise: i64| format!("{}.{:02}", paise / 100, paise % 100);
    let look = |account| json!({"action": "balance", "params": {"account_no": number(account)}});
    let (action, params) = match operation {
        Operation::Deposit(account, paise) => {
            ("deposit", json!({"account_no": number(account), "amount": rupees(paise)}))
        }
        Operation::Withdraw(account, paise) => {
            ("withdraw", json!({"account_no": number(account), "amount": rupees(paise)}))
        }
        Operation::Transfer(from, to, paise) => {
            let accounts =
                json!({"src_account_no": number(from), "dest_account_no": number(to), "amount": rupees(paise)});
            ("local_transfer", accounts)
        }
        Operation::Balance(account) => ("balance", json!({"account_no": number(account)})),
        Operation::Balances => {
            ("batch", json!({"atomic": true, "requests": (0..ACCOUNTS).map(look).collect::<Vec<_>>()}))
        }
    };
    let reply = connection.try_ask(action, params, None).ok()?;
    if reply.code() == "insufficient_funds" {
        return Some(Answer::Insufficient);
    }
    let result = reply.ok();
    let paise = |json: &serde_json::Value| json["balance"].to_string().replace('.', "").parse::<i64>().unwrap();
    Some(match operation {
        Operation::Transfer(..) => Answer::Two(paise(&result["from"]), paise(&result["to"])),
        Operation::Balances => Answer::All([0, 1, 2].map(|index: usize| paise(&result[index]["result"]))),
        Operation::Deposit(..) | Operation::Withdraw(..) | Operation::Balance(_) => Answer::Balance(paise(&result)),
    })
}

/// Small amounts and little money, so that the order matters.
fn draw(random: &mut Random) -> Operation {
    let account = random.below(ACCOUNTS as u64) as usize;
    let other = (account + 1 + random.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
    let paise = 1 + random.below(9) as i64;
    match random.below(6) {
        0 => Operation::Deposit(account, paise),
        1 => Operation::Withdraw(account, paise),
        2 | 3 => Operation::Transfer(account, other, paise),
        4 => Operation::Balance(account),
        _ => Operation::Balances,
    }
}

fn open_accounts(connection: &mut BranchConnection) {
    for account in 0..ACCOUNTS {
        let params = json!({"account_no": account + FIRST, "name": "Asha", "balance": "0.10"});
        connection.ask("create_account", params).ok();
    }
}

fn balances(connection: &mut BranchConnection) -> Balances {
    match ask(connection, Operation::Balances) {
        Some(Answer::All(balances)) => balances,
        other => panic!("no balances: {other:?}"),
    }
}

#[track_caller]
fn assert_linearizable(start: Balances, history: &[Event], what: &str) {
    if !is_linearizable(start, history) {
        let mut history = history.to_vec();
        history.sort_by_key(|event| event.invoked);
        let lines: Vec<String> = history.iter().map(|event| format!("{event:?}")).collect();
        panic!("{what} from {start:?} is not linearizable:\n{}", lines.join("\n"));
    }
}

/// How many pairs of operations overlapped.
fn overlaps(history: &[Event]) -> usize {
    let pairs =
        history.iter().enumerate().flat_map(|(index, one)| history[..index].iter().map(move |other| (one, other)));
    pairs.filter(|(one, other)| one.invoked < other.returned && other.invoked < one.returned).count()
}

#[test]
fn concurrent_clients_of_one_branch() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let branch = bank.start("Mumbai", Options::empty());
    let mut looker = branch.connect();
    open_accounts(&mut looker);
    let mut connections: Vec<_> = (0..CLIENTS).map(|_| branch.connect()).collect();
    let mut overlapping = 0;
    for round in 0..ROUNDS {
        let start = balances(&mut looker);
        let (recorder, barrier) = (Recorder::default(), Barrier::new(CLIENTS));
        thread::scope(|scope| {
            for connection in &mut connections {
                let (mut random, recorder, barrier) = (random.fork(), &recorder, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for _ in 0..OPERATIONS {
                        assert!(recorder.record(connection, draw(&mut random)), "the branch is gone");
                    }
                });
            }
        });
        // What is there at the end is part of the history.
        for account in 0..ACCOUNTS {
            recorder.record(&mut looker, Operation::Balance(account));
        }
        let history = recorder.history.into_inner().unwrap();
        overlapping += overlaps(&history);
        assert_linearizable(start, &history, &format!("round {round}"));
    }
    assert!(overlapping > ROUNDS * CLIENTS, "the clients hardly met: {overlapping} pairs overlapped");
    Bank::assert_exact(&[&branch]);
}

#[test]
fn concurrent_clients_of_a_branch_that_is_killed() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let mut branch = bank.start("Mumbai", Options::empty());
    open_accounts(&mut branch.connect());
    let mut lost = 0;
    for round in 0..ROUNDS_WITH_KILL {
        let start = balances(&mut branch.connect());
        let recorder = Recorder::default();
        let kill_after = random.below((CLIENTS * OPERATIONS) as u64 - 4) as usize;
        thread::scope(|scope| {
            for mut connection in (0..CLIENTS).map(|_| branch.connect()).collect::<Vec<_>>() {
                let (mut random, recorder) = (random.fork(), &recorder);
                scope.spawn(move || (0..OPERATIONS).all(|_| recorder.record(&mut connection, draw(&mut random))));
            }
            bank_tests::wait_until("enough has happened", || recorder.history.lock().unwrap().len() >= kill_after);
            branch.kill9();
        });
        branch.restart();
        let mut looker = branch.connect();
        for account in 0..ACCOUNTS {
            assert!(recorder.record(&mut looker, Operation::Balance(account)));
        }
        let history = recorder.history.into_inner().unwrap();
        lost += history.iter().filter(|event| event.answer.is_none()).count();
        assert_linearizable(start, &history, &format!("round {round}, killed after {kill_after}"));
    }
    println!("{lost} answers lost in {ROUNDS_WITH_KILL} kills");
    assert!(lost > 0, "no kill ever met an operation");
    Bank::assert_exact(&[&branch]);
}

fn event(invoked: u64, returned: u64, operation: Operation, answer: Option<Answer>) -> Event {
    Event { operation, invoked, returned, answer }
}

#[test]
fn the_search_accepts_what_can_be_explained() {
    use Operation::{Balance, Deposit, Transfer, Withdraw};
    let check = |history: &[Event]| assert!(is_linearizable([10, 0, 0], history), "{history:?}");
    check(&[]);
    // Two that overlap, in the order in which they did not begin.
    check(&[
        event(0, 9, Withdraw(0, 10), Some(Answer::Insufficient)),
        event(1, 8, Withdraw(0, 5), Some(Answer::Balance(5))),
    ]);
    // A read that overlaps a write may see it or not.
    for seen in [10, 15] {
        check(&[
            event(0, 5, Deposit(0, 5), Some(Answer::Balance(15))),
            event(1, 2, Balance(0), Some(Answer::Balance(seen))),
        ]);
    }
    // What was lost may have happened or not.
    for seen in [10, 3] {
        check(&[event(0, 5, Transfer(0, 1, 7), None), event(6, 7, Balance(0), Some(Answer::Balance(seen)))]);
    }
}

#[test]
fn the_search_rejects_what_cannot_be_explained() {
    use Operation::{Balance, Balances, Deposit, Transfer, Withdraw};
    let reject = |history: &[Event]| assert!(!is_linearizable([10, 0, 0], history), "{history:?}");
    // A stale read: the deposit was over when it began.
    reject(&[
        event(0, 1, Deposit(0, 5), Some(Answer::Balance(15))),
        event(2, 3, Balance(0), Some(Answer::Balance(10))),
    ]);
    // A double spend.
    reject(&[
        event(0, 9, Withdraw(0, 10), Some(Answer::Balance(0))),
        event(1, 8, Withdraw(0, 10), Some(Answer::Balance(0))),
    ]);
    // A lost update.
    reject(&[
        event(0, 9, Deposit(0, 1), Some(Answer::Balance(11))),
        event(1, 8, Deposit(0, 1), Some(Answer::Balance(11))),
    ]);
    // Half a transfer.
    reject(&[
        event(0, 9, Transfer(0, 1, 4), Some(Answer::Two(6, 4))),
        event(1, 8, Balances, Some(Answer::All([6, 0, 0]))),
    ]);
    // Seen, and then not seen any more.
    reject(&[
        event(0, 9, Deposit(0, 5), Some(Answer::Balance(15))),
        event(1, 2, Balance(0), Some(Answer::Balance(15))),
        event(3, 4, Balance(0), Some(Answer::Balance(10))),
    ]);
    // Two reads that see two writes in different orders.
    reject(&[
        event(0, 9, Deposit(0, 5), Some(Answer::Balance(15))),
        event(0, 9, Deposit(1, 5), Some(Answer::Balance(5))),
        event(1, 5, Balances, Some(Answer::All([15, 0, 0]))),
        event(1, 5, Balances, Some(Answer::All([10, 5, 0]))),
    ]);
    // Lost, not there after the crash, and there later.
    reject(&[
        event(0, 1, Deposit(0, 5), None),
        event(2, 3, Balance(0), Some(Answer::Balance(10))),
        event(4, 5, Balance(0), Some(Answer::Balance(15))),
    ]);
    // Refused although there was enough all the time.
    reject(&[event(0, 1, Withdraw(0, 10), Some(Answer::Insufficient))]);
}
