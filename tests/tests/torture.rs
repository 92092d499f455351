//! Three branches, sixteen clients, and branches that are killed and stopped at random: afterwards the money is
//! exact, what was acknowledged is there once, what was refused is not there, and what nobody knows is there at most
//! once. `SOAK_SECONDS` makes it longer; `BANK_TEST_SEED` repeats what was drawn by lot.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, BranchConnection, DEADLINE, Random, Reply, SetOnDrop, request};
use protocol::proof::BranchKey;
use rustix::process::Signal;
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["Mumbai", "Delhi", "Pune"];
const CLIENTS: usize = 16;
const SECONDS: u64 = 10;
/// The accounts of every branch.
const ACCOUNTS: [i64; 4] = [1001, 1002, 1003, 1004];
/// How long a client waits before it asks again on a new connection.
const PATIENCE: Duration = Duration::from_secs(3);
/// One in so many lost answers is not asked for again.
const GIVES_UP_ONE_IN: u64 = 3;
/// One in so many stops is longer than a link's patience and a vote's time-out.
const LONG_STOP_ONE_IN: u64 = 12;
/// Acknowledged requests that are repeated at the end.
const REPEATED: usize = 100;

/// A row that an operation makes: at which branch, its type, the customers on its two sides (0 for none), paise.
type Row = (usize, &'static str, i64, i64, i64);

/// One request, what it does to the books, and what its client knows.
#[derive(Clone, Debug)]
struct Operation {
    home: usize,
    body: String,
    rows: Vec<Row>,
    fate: Fate,
}

#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Acknowledged(Value),
    Refused,
    Unknown,
}

struct World {
    ports: [u16; 3],
    key: BranchKey,
    is_over: AtomicBool,
    /// Every amount is another one, by which it is recognised in the books.
    next_paise: AtomicI64,
    kills: AtomicUsize,
    stops: AtomicUsize,
}

#[test]
fn money_stays_exact_under_kills_and_stops() {
    let mut random = Random::from_environment();
    let seconds = env::var("SOAK_SECONDS").map_or(SECONDS, |text| text.parse().expect("SOAK_SECONDS is a number"));
    let bank = Bank::new();
    let mut branches = NAMES.map(|name| bank.branch(name));
    open_accounts(&branches);
    let world = World {
        ports: [0, 1, 2].map(|index: usize| branches[index].port()),
        key: bank.key(),
        is_over: AtomicBool::new(false),
        next_paise: AtomicI64::new(1),
        kills: AtomicUsize::new(0),
        stops: AtomicUsize::new(0),
    };
    let mut operations = torture(&world, &mut branches, &mut random, Duration::from_secs(seconds));
    let branches = branches.each_ref();
    Bank::wait_until_settled(&branches);
    judge(&branches, &operations);
    let count = |operations: &[Operation], is: fn(&Fate) -> bool| {
        operations.iter().filter(|operation| is(&operation.fate)).count()
    };
    let unknown = count(&operations, |fate| *fate == Fate::Unknown);
    repeat(&branches, &mut operations);
    Bank::wait_until_settled(&branches);
    judge(&branches, &operations);
    let acknowledged = count(&operations, |fate| matches!(fate, Fate::Acknowledged(_)));
    println!(
        "{seconds} s, {} kills, {} stops: {acknowledged} acknowledged, {} refused, {unknown} were unknown",
        world.kills.load(Ordering::SeqCst),
        world.stops.load(Ordering::SeqCst),
        count(&operations, |fate| *fate == Fate::Refused),
    );
    assert!(acknowledged > CLIENTS, "hardly anything happened");
}

/// Gives every account enough that hardly anything is refused for want of money.
fn open_accounts(branches: &[Branch; 3]) {
    for branch in branches {
        let mut connection = branch.connect();
        for account in ACCOUNTS {
            if account > 1002 {
                connection.ask("create_account", json!({"account_no": account, "name": "Another"})).ok();
            }
            connection.ask("deposit", json!({"account_no": account, "amount": 1_000_000})).ok();
        }
    }
    Bank::introduce(&branches.each_ref());
}

/// Lets the clients work and the branches suffer for a while; at the end all branches run.
fn torture(world: &World, branches: &mut [Branch; 3], random: &mut Random, time: Duration) -> Vec<Operation> {
    thread::scope(|scope| {
        // Set at the latest when a thread panics, so that the others end too.
        let over = SetOnDrop(&world.is_over);
        let tormentors: Vec<_> = branches
            .iter_mut()
            .map(|branch| {
                let random = random.fork();
                scope.spawn(|| torment(world, branch, random))
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|index| {
                let random = random.fork();
                scope.spawn(move || Client::new(world, index, random).work())
            })
            .collect();
        let end = Instant::now() + time;
        while Instant::now() < end && !clients.iter().any(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(20));
        }
        drop(over);
        for tormentor in tormentors {
            tormentor.join().unwrap();
        }
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// Kills the branch and starts it again, or stops it for a while, at moments that are drawn by lot.
fn torment(world: &World, branch: &mut Branch, mut random: Random) {
    let wait = |time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end && !world.is_over.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    };
    while !world.is_over.load(Ordering::SeqCst) {
        wait(Duration::from_millis(100 + random.below(1_500)));
        if random.below(2) == 0 {
            world.kills.fetch_add(1, Ordering::SeqCst);
            branch.kill9();
            wait(Duration::from_millis(random.below(600)));
            branch.restart();
        } else {
            world.stops.fetch_add(1, Ordering::SeqCst);
            let longest = if random.below(LONG_STOP_ONE_IN) == 0 { 7_000 } else { 800 };
            branch.signal(Signal::STOP);
            wait(Duration::from_millis(random.below(longest)));
            branch.signal(Signal::CONT);
        }
    }
}

struct Client<'w> {
    world: &'w World,
    index: usize,
    random: Random,
    connections: [Option<BranchConnection>; 3],
}

impl<'w> Client<'w> {
    fn new(world: &'w World, index: usize, random: Random) -> Self {
        Self { world, index, random, connections: [None, None, None] }
    }

    fn work(mut self) -> Vec<Operation> {
        let mut operations = Vec::new();
        while !self.world.is_over.load(Ordering::SeqCst) {
            let mut operation = self.draw(operations.len());
            operation.fate = self.carry_out(&operation);
            operations.push(operation);
        }
        operations
    }

    fn paise(&self) -> i64 {
        self.world.next_paise.fetch_add(1, Ordering::SeqCst)
    }

    fn account(&mut self) -> i64 {
        ACCOUNTS[self.random.below(ACCOUNTS.len() as u64) as usize]
    }

    fn draw(&mut self, number: usize) -> Operation {
        let home = self.random.below(3) as usize;
        let (from, paise) = (self.account(), self.paise());
        let mut to = self.account();
        if to == from {
            to = ACCOUNTS[(from - ACCOUNTS[0] + 1) as usize % ACCOUNTS.len()];
        }
        let amount = rupees(paise);
        let (action, params, rows) = match self.random.below(10) {
            0 | 1 => {
                ("deposit", json!({"account_no": from, "amount": amount}), vec![(home, "deposit", 0, from, paise)])
            }
            2 => {
                ("withdraw", json!({"account_no": from, "amount": amount}), vec![(home, "withdrawal", from, 0, paise)])
            }
            3 | 4 => {
                let params = json!({"src_account_no": from, "dest_account_no": to, "amount": amount});
                ("local_transfer", params, vec![(home, "transfer", from, to, paise)])
            }
            5 => {
                let (other_paise, deposit) = (
                    self.paise(),
                    |account, paise| json!({"action": "deposit", "params": {"account_no": account, "amount": rupees(paise)}}),
                );
                let params = json!({"requests": [deposit(from, paise), deposit(to, other_paise)], "atomic": true});
                ("batch", params, vec![(home, "deposit", 0, from, paise), (home, "deposit", 0, to, other_paise)])
            }
            6..=8 => {
                let there = (home + 1 + self.random.below(2) as usize) % 3;
                let params = json!({"src_account_no": from, "dest_account_no": to, "amount": amount, "dest_branch": NAMES[there]});
                let rows = vec![(home, "transfer_out", from, 0, paise), (there, "transfer_in", 0, to, paise)];
                ("inter_branch_transfer", params, rows)
            }
            _ => {
                let (mut legs, mut rows) = (Vec::new(), Vec::new());
                for (there, name) in NAMES.iter().enumerate() {
                    let paise = self.paise();
                    legs.push(json!({"account_no": to, "amount": rupees(paise), "dest_branch": name}));
                    rows.extend([(home, "transfer_out", from, 0, paise), (there, "transfer_in", 0, to, paise)]);
                }
                ("split_transfer", json!({"src_account_no": from, "legs": legs}), rows)
            }
        };
        let id = format!("client {} operation {number}", self.index);
        Operation { home, body: request(action, params, Some(&id)), rows, fate: Fate::Unknown }
    }

    /// Asks until there is an answer, or gives up after a lost one.
    fn carry_out(&mut self, operation: &Operation) -> Fate {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "no answer to {}", operation.body);
            let error = match self.attempt(operation) {
                Ok(reply) if reply.is_ok() => return Fate::Acknowledged(reply.ok()),
                Ok(reply) => match reply.code() {
                    "insufficient_funds" | "vote_timeout" | "branch_unreachable" | "transaction_aborted" => {
                        return Fate::Refused;
                    }
                    "busy" | "stopping" | "undecided" | "request_repeated" => continue,
                    _ => panic!("{}: {}", operation.body, reply.text),
                },
                Err(error) => error,
            };
            self.connections[operation.home] = None;
            // One that only waits may still be carried out, whenever the branch goes on: it must be asked again.
            // One whose branch is gone either was or never will be.
            let may_wait = is_timeout(&error);
            if !may_wait && error.kind() != io::ErrorKind::ConnectionRefused && self.random.below(GIVES_UP_ONE_IN) == 0
            {
                return Fate::Unknown;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn attempt(&mut self, operation: &Operation) -> io::Result<Reply> {
        let connection = &mut self.connections[operation.home];
        let connection = match connection {
            Some(connection) => connection,
            None => {
                let mut opened = BranchConnection::connect(self.world.ports[operation.home])?;
                opened.wait_at_most(PATIENCE);
                opened.prove(&self.world.key).map_err(io::Error::other)?;
                connection.insert(opened)
            }
        };
        connection.try_text(&operation.body)
    }
}

/// Whether a read took too long; the protocol's own error stands around the system's.
fn is_timeout(error: &io::Error) -> bool {
    let text = error.to_string();
    ["timed out", "temporarily unavailable", "would block"].iter().any(|part| text.to_lowercase().contains(part))
}

fn rupees(paise: i64) -> String {
    format!("{}.{:02}", paise / 100, paise % 100)
}

/// Compares the books with what the clients know.
fn judge(branches: &[&Branch; 3], operations: &[Operation]) {
    Bank::assert_exact(branches);
    let mut there: BTreeMap<Row, i64> = BTreeMap::new();
    for (index, branch) in branches.iter().enumerate() {
        for ((kind, from, to, paise), count) in branch.database().movements() {
            let kind = ["deposit", "withdrawal", "transfer", "transfer_out", "transfer_in"]
                .into_iter()
                .find(|known| *known == kind);
            // Opening rows aside, and the deposits before the torture, there is nothing else.
            if let Some(kind) = kind.filter(|_| paise != 100_000_000) {
                there.insert((index, kind, from.max(0), to.max(0), paise), count);
            }
        }
    }
    for operation in operations {
        let counts: Vec<i64> = operation.rows.iter().map(|row| there.remove(row).unwrap_or(0)).collect();
        let is = |count: i64| counts.iter().all(|&found| found == count);
        let is_right = match operation.fate {
            Fate::Acknowledged(_) => is(1),
            Fate::Refused => is(0),
            Fate::Unknown => is(0) || is(1),
        };
        assert!(is_right, "{operation:?} is in the books {counts:?} times");
    }
    assert!(there.is_empty(), "in the books, and nobody asked for it: {there:?}");
}

/// Asks again, under the same ids: what was acknowledged is answered alike and not done again, what is unknown becomes
/// known.
fn repeat(branches: &[&Branch; 3], operations: &mut [Operation]) {
    let mut connections = branches.map(Branch::connect);
    let mut acknowledged = 0;
    for operation in operations.iter_mut().rev() {
        match &operation.fate {
            Fate::Acknowledged(answer) if acknowledged < REPEATED => {
                acknowledged += 1;
                let mut again = connections[operation.home].text(&operation.body).ok();
                // Delivery may have been pending when it was first answered.
                if let (Some(now), Some(then)) = (again.get_mut("delivery"), answer.get("delivery")) {
                    *now = then.clone();
                }
                assert_eq!(again, *answer, "{}", operation.body);
            }
            Fate::Unknown => {
                let reply = connections[operation.home].text(&operation.body);
                operation.fate = if reply.is_ok() { Fate::Acknowledged(reply.ok()) } else { Fate::Refused };
            }
            Fate::Acknowledged(_) | Fate::Refused => {}
        }
    }
}
