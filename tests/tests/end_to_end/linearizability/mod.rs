//! What several clients see of one branch at the same time could have been seen one after another: each operation
//! takes effect at one moment between its request and its answer, and a write with an id takes effect once, however
//! often it is sent: each further answer is that of the first. Accounts run dry, are opened, and are closed.
//!
//! Histories of real clients are held against the sequential bank of `model`.

mod model;

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use bank_tests::{Bank, Branch, BranchConnection, Options, Random, replica_options};
use serde_json::json;

use self::model::{ACCOUNTS, Account, Answer, Event, IDS, LASTING, MOVING, Operation, Request, State, is_linearizable};

/// The number of the first account.
const FIRST: usize = 2001;
const FIRST_MOVING: usize = 10_001;
const CLIENTS: usize = 5;
const OPERATIONS: usize = 6;
const ROUNDS: usize = 120;
const ROUNDS_WITH_KILL: usize = 12;
/// One in so many of them goes on from a backup of that moment.
const PUT_BACK_EVERY: usize = 6;
/// How often a primary is killed and its replica promoted, unless `PROMOTIONS` says otherwise.
const PROMOTIONS: usize = 3;
const _: () = assert!(CLIENTS * (OPERATIONS + 1) + ACCOUNTS <= 64, "a history's operations are the bits of a word");

/// The history of a round, with a clock that counts.
struct Recorder {
    round: usize,
    clock: AtomicU64,
    history: Mutex<Vec<Event>>,
}

impl Recorder {
    fn new(round: usize) -> Self {
        Self { round, clock: AtomicU64::new(0), history: Mutex::default() }
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Carries a request out and records it. `false` when the answer was lost.
    fn record(&self, connection: &mut BranchConnection, request: Request) -> bool {
        let invoked = self.now();
        let answer = ask(connection, request, self.round);
        let event = Event { request, invoked, returned: self.now(), answer };
        self.history.lock().unwrap().push(event);
        answer.is_some()
    }

    /// What is there at the end is part of the history.
    #[track_caller]
    fn record_end(self, looker: &mut BranchConnection) -> Vec<Event> {
        for account in 0..ACCOUNTS {
            assert!(self.record(looker, Operation::Balance(account).into()), "the branch is gone");
        }
        self.history.into_inner().unwrap()
    }
}

fn ask(connection: &mut BranchConnection, request: Request, round: usize) -> Option<Answer> {
    let number = |account: usize| {
        if account < LASTING { FIRST + account } else { FIRST_MOVING + round * MOVING + account - LASTING }
    };
    let rupees = |paise: i64| format!("{}.{:02}", paise / 100, paise % 100);
    let look = |account| json!({"action": "balance", "params": {"account_no": number(account)}});
    let of_one = |account, paise| json!({"account_no": number(account), "amount": rupees(paise)});
    let (action, params) = match request.operation {
        Operation::Deposit(account, paise) => ("deposit", of_one(account, paise)),
        Operation::Withdraw(account, paise) => ("withdraw", of_one(account, paise)),
        Operation::Transfer(from, to, paise) => {
            let accounts =
                json!({"src_account_no": number(from), "dest_account_no": number(to), "amount": rupees(paise)});
            ("local_transfer", accounts)
        }
        Operation::Open(account, paise) => {
            ("create_account", json!({"account_no": number(account), "name": "Ravi", "balance": rupees(paise)}))
        }
        Operation::Close(account) => ("close_account", json!({"account_no": number(account)})),
        Operation::Balance(account) => ("balance", json!({"account_no": number(account)})),
        Operation::Balances => {
            ("batch", json!({"atomic": true, "requests": (0..LASTING).map(look).collect::<Vec<_>>()}))
        }
    };
    let id = request.id.map(|id| format!("round {round} request {id}"));
    let reply = loop {
        let reply = connection.try_ask(action, params.clone(), id.as_deref()).ok()?;
        // The branch has not looked at it for another reason than the accounts.
        if !["busy", "request_repeated"].contains(&reply.code()) {
            break reply;
        }
    };
    match reply.code() {
        "insufficient_funds" => return Some(Answer::Insufficient),
        "no_such_account" => return Some(Answer::NoSuchAccount),
        "account_closed" => return Some(Answer::AccountClosed),
        "account_exists" => return Some(Answer::AccountExists),
        _ => {}
    }
    let result = reply.ok();
    let figure = |json: &serde_json::Value| json.to_string().replace('.', "").parse::<i64>().unwrap();
    let paise = |json: &serde_json::Value| figure(&json["balance"]);
    Some(match request.operation {
        Operation::Transfer(..) => Answer::Two(paise(&result["from"]), paise(&result["to"])),
        Operation::Balances => Answer::All([0, 1, 2].map(|index: usize| paise(&result[index]["result"]))),
        Operation::Open(..) => Answer::Opened,
        Operation::Close(_) => Answer::PaidOut(figure(&result["paid_out"])),
        Operation::Deposit(..) | Operation::Withdraw(..) | Operation::Balance(_) => Answer::Balance(paise(&result)),
    })
}

/// A write with small amounts and little money, so that accounts run dry and the order matters.
fn draw_write(random: &mut Random) -> Operation {
    let account = random.below(ACCOUNTS as u64) as usize;
    let other = (account + 1 + random.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
    let moving = LASTING + random.below(MOVING as u64) as usize;
    let paise = 1 + random.below(9) as i64;
    match random.below(8) {
        0 => Operation::Deposit(account, paise),
        1 | 2 => Operation::Withdraw(account, paise),
        3..6 => Operation::Transfer(account, other, paise),
        6 => Operation::Open(moving, paise),
        _ => Operation::Close(moving),
    }
}

/// A write of its own, or one that others send too under the same id.
fn draw_any_write(random: &mut Random, shared: &[Operation; IDS]) -> Request {
    if random.below(2) == 0 {
        return draw_write(random).into();
    }
    let id = random.below(IDS as u64) as usize;
    Request { operation: shared[id], id: Some(id) }
}

/// A write, or a look.
fn draw(random: &mut Random, shared: &[Operation; IDS]) -> Request {
    match random.below(8) {
        0..6 => draw_any_write(random, shared),
        6 => Operation::Balance(random.below(ACCOUNTS as u64) as usize).into(),
        _ => Operation::Balances.into(),
    }
}

fn open_accounts(connection: &mut BranchConnection) {
    for account in 0..LASTING {
        let params = json!({"account_no": account + FIRST, "name": "Asha", "balance": "0.10"});
        connection.ask("create_account", params).ok();
    }
}

/// What a round begins with.
#[track_caller]
fn state(connection: &mut BranchConnection) -> State {
    match ask(connection, Operation::Balances.into(), 0) {
        Some(Answer::All(balances)) => {
            let mut state = State { accounts: [Account::Absent; ACCOUNTS], answers: [None; IDS] };
            for (account, balance) in state.accounts.iter_mut().zip(balances) {
                *account = Account::Open(balance);
            }
            state
        }
        other => panic!("no balances: {other:?}"),
    }
}

#[track_caller]
fn assert_linearizable(start: State, history: &[Event], what: &str) {
    if !is_linearizable(start, history) {
        let mut history = history.to_vec();
        history.sort_by_key(|event| event.invoked);
        let lines: Vec<String> = history.iter().map(|event| format!("{event:?}")).collect();
        panic!("{what} from {start:?} is not linearizable:\n{}", lines.join("\n"));
    }
}

/// How many pairs of requests overlapped.
fn overlaps(history: &[Event]) -> usize {
    let pairs =
        history.iter().enumerate().flat_map(|(index, one)| history[..index].iter().map(move |other| (one, other)));
    pairs.filter(|(one, other)| one.invoked < other.returned && other.invoked < one.returned).count()
}

/// How often each kind of answer came, and how many were to repeats.
#[derive(Debug, Default)]
struct Seen {
    insufficient: usize,
    opened: usize,
    paid_out: usize,
    closed: usize,
    repeated: usize,
    lost: usize,
}

impl Seen {
    fn add(&mut self, history: &[Event]) {
        let count = |is: fn(&Option<Answer>) -> bool| history.iter().filter(|event| is(&event.answer)).count();
        self.insufficient += count(|answer| *answer == Some(Answer::Insufficient));
        self.opened += count(|answer| *answer == Some(Answer::Opened));
        self.paid_out += count(|answer| matches!(answer, Some(Answer::PaidOut(_))));
        self.closed += count(|answer| *answer == Some(Answer::AccountClosed));
        self.lost += count(Option::is_none);
        for id in 0..IDS {
            let done = history.iter().filter(|event| event.request.id == Some(id));
            let done = done.filter(|event| event.answer.is_some_and(|answer| !answer.is_refusal())).count();
            self.repeated += done.saturating_sub(1);
        }
    }

    #[track_caller]
    fn assert_all(&self) {
        let all = [self.insufficient, self.opened, self.paid_out, self.closed, self.repeated];
        assert!(all.iter().all(|&count| count > 0), "something never happened: {self:?}");
    }
}

#[test]
fn concurrent_clients_of_one_branch() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let branch = bank.start("Mumbai", Options::empty());
    let mut looker = branch.connect();
    open_accounts(&mut looker);
    let mut connections: Vec<_> = (0..CLIENTS).map(|_| branch.connect()).collect();
    let (mut overlapping, mut seen) = (0, Seen::default());
    for round in 0..ROUNDS {
        let start = state(&mut looker);
        let shared = [(); IDS].map(|()| draw_write(&mut random));
        let (recorder, barrier) = (Recorder::new(round), Barrier::new(CLIENTS));
        thread::scope(|scope| {
            for connection in &mut connections {
                let (mut random, recorder, barrier, shared) = (random.fork(), &recorder, &barrier, &shared);
                scope.spawn(move || {
                    barrier.wait();
                    for _ in 0..OPERATIONS {
                        assert!(recorder.record(connection, draw(&mut random, shared)), "the branch is gone");
                    }
                });
            }
        });
        let history = recorder.record_end(&mut looker);
        overlapping += overlaps(&history);
        seen.add(&history);
        assert_linearizable(start, &history, &format!("round {round}"));
    }
    println!("{overlapping} pairs overlapped, {seen:?}");
    assert!(overlapping > ROUNDS * CLIENTS, "the clients hardly met: {overlapping} pairs overlapped");
    seen.assert_all();
    Bank::assert_exact(&[&branch]);
}

#[test]
fn concurrent_clients_of_a_branch_that_is_killed_and_perhaps_put_back_from_a_backup() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let mut branch = bank.start("Mumbai", Options::empty());
    open_accounts(&mut branch.connect());
    let mut rounds = RoundsWithKill::default();
    for round in 0..ROUNDS_WITH_KILL {
        let (start, recorder) = load_until_killed(&mut branch, round, &mut random, draw);
        if round % PUT_BACK_EVERY == 0 {
            let copy = bank.folder().join(format!("copy-{round}.db"));
            branch.back_up(&copy);
            branch.put_back(&copy);
        }
        branch.restart();
        rounds.assert_linearizable(start, recorder, &branch);
    }
    rounds.assert_all();
    Bank::assert_exact(&[&branch]);
}

#[test]
fn concurrent_clients_of_a_primary_that_is_killed_and_replaced_by_its_replica() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let synchronous = |options: Options| options.value("--sync-replicas", 1);
    let mut primary = bank.start("one", synchronous(Options::empty()));
    let mut replica = bank.start("two", synchronous(replica_options("Mumbai", &primary)));
    replica.wait_until_following();
    open_accounts(&mut primary.connect());
    let promotions = env::var("PROMOTIONS").map_or(PROMOTIONS, |text| text.parse().expect("PROMOTIONS is a number"));
    let mut rounds = RoundsWithKill::default();
    for round in 0..promotions {
        // A look waits for no replica, so it may show what the promoted one lacks. Every other answer waits.
        let (start, recorder) = load_until_killed(&mut primary, round, &mut random, draw_any_write);
        primary.promote_instead(&mut replica, synchronous);
        rounds.assert_linearizable(start, recorder, &primary);
    }
    rounds.assert_all();
    Bank::assert_exact(&[&primary]);
}

/// Has clients work until the branch is killed in the middle. Gives what the round began with and what they saw.
#[track_caller]
fn load_until_killed(
    branch: &mut Branch,
    round: usize,
    random: &mut Random,
    draw: fn(&mut Random, &[Operation; IDS]) -> Request,
) -> (State, Recorder) {
    let start = state(&mut branch.connect());
    let shared = [(); IDS].map(|()| draw_write(random));
    let recorder = Recorder::new(round);
    let kill_after = random.below((CLIENTS * OPERATIONS) as u64 - 4) as usize;
    thread::scope(|scope| {
        for mut connection in (0..CLIENTS).map(|_| branch.connect()).collect::<Vec<_>>() {
            let (mut random, recorder, shared) = (random.fork(), &recorder, &shared);
            scope.spawn(move || (0..OPERATIONS).all(|_| recorder.record(&mut connection, draw(&mut random, shared))));
        }
        bank_tests::wait_until("enough has happened", || recorder.history.lock().unwrap().len() >= kill_after);
        branch.kill9();
    });
    (start, recorder)
}

/// Rounds at whose end the branch is killed.
#[derive(Default)]
struct RoundsWithKill {
    seen: Seen,
    asked_again: usize,
}

impl RoundsWithKill {
    /// Asks again, under its id, what got no answer: it was done, and this is its answer, or it is done now. Then the
    /// whole round has to be explained.
    #[track_caller]
    fn assert_linearizable(&mut self, start: State, recorder: Recorder, branch: &Branch) {
        let mut looker = branch.connect();
        let round = recorder.round;
        let lost: Vec<Event> = recorder.history.lock().unwrap().clone();
        let lost = lost.into_iter().filter(|event| event.answer.is_none() && event.request.id.is_some());
        for event in lost {
            self.asked_again += 1;
            assert!(recorder.record(&mut looker, event.request), "the branch is gone");
        }
        let history = recorder.record_end(&mut looker);
        self.seen.add(&history);
        assert_linearizable(start, &history, &format!("round {round}"));
    }

    #[track_caller]
    fn assert_all(&self) {
        println!("{} lost answers asked for again, {:?}", self.asked_again, self.seen);
        assert!(self.seen.lost > 0, "no kill ever met an operation");
    }
}
