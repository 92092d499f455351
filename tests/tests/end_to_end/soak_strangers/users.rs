//! The ordinary users: each has an account of its own, knows to the paisa what is in it, and counts how long it waits.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use bank_tests::{BranchConnection, FORM, MenuConnection, SignedIn, figure};
use serde_json::{Value, json};

use super::world::{BALANCE, World};

/// The pause of a user between two operations.
const THINKING: Duration = Duration::from_millis(25);
/// Operations of one session; then the user goes and comes back.
const OPERATIONS: usize = 100;
/// A log-in, as its wait is counted.
const LOG_IN: &str = "log-in";

/// One user, until the end.
pub type User = fn(&World) -> Latencies;

/// All of them: number `n` has the account `3000 + n`.
pub const ALL: [User; 9] = [
    |world| at_branch(world, 3_001),
    |world| at_branch(world, 3_002),
    |world| at_menu(world, 3_003),
    |world| at_menu(world, 3_004),
    |world| at_bridge(world, 3_005),
    |world| at_bridge(world, 3_006),
    |world| between_branches(world, 3_007),
    |world| at_branch_by_tls(world, 3_008),
    |world| at_menu_by_tls(world, 3_009),
];

/// How long users waited, by what they did.
#[derive(Default)]
pub struct Latencies(BTreeMap<&'static str, Vec<Duration>>);

impl Latencies {
    /// Does one thing, and counts how long it takes.
    fn time<T>(&mut self, what: &'static str, operation: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = operation();
        self.0.entry(what).or_default().push(begin.elapsed());
        done
    }

    /// Takes another user's.
    pub fn append(&mut self, other: Self) {
        for (what, waits) in other.0 {
            self.0.entry(what).or_default().extend(waits);
        }
    }

    /// One line for each sort of operation.
    pub fn print(&self) {
        for (what, waits) in &self.0 {
            let [half, most, longest] = [50, 99, 100].map(|percent| percentile(waits, percent));
            println!("{what:<24} {:>7} operations, p50 {half:.1?}, p99 {most:.1?}, longest {longest:.1?}", waits.len());
        }
    }

    /// Checks that 99 of 100 operations ended in time.
    ///
    /// # Panics
    /// When they did not.
    #[track_caller]
    pub fn assert_below(&self, most: Duration, log_in_most: Duration) {
        for (what, waits) in &self.0 {
            let limit = if *what == LOG_IN { log_in_most } else { most };
            let found = percentile(waits, 99);
            assert!(found < limit, "{what}: 99 of 100 ended in {found:?}, which should be below {limit:?}");
        }
    }
}

/// The wait that so many of a hundred do not exceed.
fn percentile(waits: &[Duration], percent: usize) -> Duration {
    let mut sorted = waits.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

/// What is in an account, in paise, as its owner knows it.
struct Purse {
    account: u64,
    paise: i64,
    count: i64,
}

impl Purse {
    fn new(account: u64) -> Self {
        Self { account, paise: BALANCE * 100, count: 0 }
    }

    /// The next amount to move, which is never the same twice in a row.
    fn next_paise(&mut self) -> i64 {
        self.count += 1;
        1 + self.count % 97
    }

    fn text(&self) -> String {
        rupees(self.paise)
    }
}

fn rupees(paise: i64) -> String {
    format!("{}.{:02}", paise / 100, paise % 100)
}

/// Sessions of some operations each, until the end.
fn sessions<S>(
    world: &World,
    latencies: &mut Latencies,
    open: impl Fn() -> S,
    mut operate: impl FnMut(&mut S, &mut Latencies),
) {
    while !world.is_over() {
        let mut session = latencies.time(LOG_IN, &open);
        for _ in 0..OPERATIONS {
            operate(&mut session, latencies);
            world.wait(THINKING);
            if world.is_over() {
                return;
            }
        }
    }
}

fn logged_in(mut connection: BranchConnection, account: u64) -> BranchConnection {
    connection.ask("login", json!({"account_no": account, "password": account.to_string()})).ok();
    connection
}

fn at_branch(world: &World, account: u64) -> Latencies {
    let open = || logged_in(world.mumbai.connect_anonymously(), account);
    by_protocol(world, account, "branch", open)
}

fn at_branch_by_tls(world: &World, account: u64) -> Latencies {
    let open = || logged_in(BranchConnection::over(world.by_tls(world.pune.port()).unwrap()), account);
    by_protocol(world, account, "branch by TLS", open)
}

/// Pays in, out, and looks.
fn by_protocol(world: &World, account: u64, what: &'static str, open: impl Fn() -> BranchConnection) -> Latencies {
    let (mut latencies, mut purse) = (Latencies::default(), Purse::new(account));
    sessions(world, &mut latencies, open, |connection, latencies| {
        let paise = purse.next_paise();
        let (action, change) = if purse.count % 3 == 0 { ("withdraw", -paise) } else { ("deposit", paise) };
        let params = json!({"account_no": account, "amount": rupees(paise)});
        let result = latencies.time(what, || connection.ask(action, params).ok());
        purse.paise += change;
        assert_eq!(figure(&result["balance"]), purse.text(), "{what}: after {action} of {paise} paise");
        let found = latencies.time(what, || connection.balance(account));
        assert_eq!(found, purse.text(), "{what}");
    });
    latencies
}

fn at_menu(world: &World, account: u64) -> Latencies {
    let open = || MenuConnection::open(world.mumbai.menu_port()).unwrap();
    by_menu(world, account, "menu", open)
}

fn at_menu_by_tls(world: &World, account: u64) -> Latencies {
    let open = || {
        let mut menu = MenuConnection::over(world.by_tls(world.pune.menu_port()).unwrap());
        menu.turn().unwrap();
        menu
    };
    by_menu(world, account, "menu by TLS", open)
}

fn by_menu(world: &World, account: u64, what: &'static str, open: impl Fn() -> MenuConnection) -> Latencies {
    let (mut latencies, mut purse) = (Latencies::default(), Purse::new(account));
    let (number, password) = (account.to_string(), account.to_string());
    let log_in = || {
        let mut menu = open();
        menu.log_in(&number, &password).unwrap();
        menu
    };
    sessions(world, &mut latencies, log_in, |menu, latencies| {
        let paise = purse.next_paise();
        let (letter, change) = if purse.count % 3 == 0 { ("c", -paise) } else { ("b", paise) };
        let turn = latencies.time(what, || menu.operation(&[letter, &rupees(paise)]).unwrap());
        purse.paise += change;
        let expected = format!("The balance is Rs {}.", purse.text());
        assert!(turn.expect_done().contains(&expected), "{what}: {} and not {expected}", turn.text());
    });
    latencies
}

fn at_bridge(world: &World, account: u64) -> Latencies {
    let (mut latencies, mut purse) = (Latencies::default(), Purse::new(account));
    let open = || world.bridge.sign_in("Mumbai", &account.to_string(), &account.to_string());
    sessions(world, &mut latencies, open, |session, latencies| {
        let paise = purse.next_paise();
        let (path, change) = if purse.count % 3 == 0 { ("/withdraw", -paise) } else { ("/deposit", paise) };
        let form = format!("branch=Mumbai&account={account}&amount={}", rupees(paise));
        let result = latencies.time("bridge", || post(world, session, path, &form).unwrap());
        purse.paise += change;
        assert_eq!(figure(&result["balance"]), purse.text(), "bridge: after {path} of {paise} paise");
    });
    latencies
}

fn post(world: &World, session: &SignedIn, path: &str, form: &str) -> io::Result<Value> {
    Ok(world.bridge.request("POST", path).session(session).body(FORM, form).try_send()?.ok())
}

/// Pays into the account of the same number at Delhi; at the end, what has gone has come.
fn between_branches(world: &World, account: u64) -> Latencies {
    let (mut latencies, mut purse, mut late) = (Latencies::default(), Purse::new(account), 0);
    let open = || logged_in(world.mumbai.connect_anonymously(), account);
    sessions(world, &mut latencies, open, |connection, latencies| {
        let paise = purse.next_paise();
        let params = json!({"src_account_no": account, "dest_branch": "Delhi", "dest_account_no": account,
            "amount": rupees(paise)});
        let reply = latencies.time("transfer to Delhi", || connection.ask("inter_branch_transfer", params));
        if reply.code() == "vote_timeout" {
            // On a machine with too little time for all of them, a vote may come too late: then nothing is moved.
            late += 1;
            assert!(late <= 3 + purse.count / 100, "{late} of {} transfers had no vote in time", purse.count);
        } else {
            assert_eq!(reply.ok()["status"], "transfer_complete", "{}", reply.text);
            purse.paise -= paise;
        }
        assert_eq!(connection.balance(account), purse.text(), "the payer");
    });
    // A delivery that was pending is soon done.
    let gone = BALANCE * 100 - purse.paise;
    let expected = rupees(BALANCE * 100 + gone);
    let mut delhi = world.delhi.connect();
    bank_tests::wait_until("what was paid has come", || delhi.balance(purse.account) == expected);
    latencies
}
