//! Three branches on three hosts: network namespaces, each with an interface of its own on one switch, whose cables are
//! pulled and plugged in again in the middle of transfers.
//!
//! Needs Linux, root and iproute2's `ip`; without them the test says that it is skipped. What it makes lives in
//! namespaces of its own and is gone afterwards: nothing of the machine's network is touched.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{DEADLINE, ProgramLog, SetOnDrop, program, wait_until};
use protocol::answer::{Audit, Branch as BranchLine, Status};
use protocol::connection::{CallError, Connection};
use protocol::proof::BranchKey;
use protocol::request::Action;
use protocol::{Money, Total};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["Mumbai", "Delhi", "Pune"];
const PORT: u16 = 9100;
/// What each branch's one account holds at first.
const FIRST_BALANCE: u32 = 10_000;
/// After this long the last cable was plugged in long ago, and whatever waited has been sent again.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// A switch and a host for each branch. Deleted when dropped.
struct Network {
    /// What the namespaces' names begin with.
    prefix: String,
}

impl Network {
    /// `None` when this machine or this user can't have one.
    fn make() -> Option<Self> {
        let network = Self { prefix: format!("bank-test-{}", std::process::id()) };
        let is_root = rustix::process::geteuid().is_root();
        if !is_root || !ip(&["netns", "add", &network.switch()]) {
            return None;
        }
        let switch = network.switch();
        assert!(ip(&["-n", &switch, "link", "add", "switch", "type", "bridge"]));
        assert!(ip(&["-n", &switch, "link", "set", "switch", "up"]));
        for number in 0..NAMES.len() {
            let (host, cable) = (network.host(number), cable(number));
            assert!(ip(&["netns", "add", &host]));
            assert!(ip(&[
                "-n", &switch, "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &host
            ]));
            assert!(ip(&["-n", &switch, "link", "set", &cable, "master", "switch", "up"]));
            assert!(ip(&["-n", &host, "address", "add", &format!("{}/24", address(number)), "dev", "eth0"]));
            assert!(ip(&["-n", &host, "link", "set", "lo", "up"]));
            assert!(ip(&["-n", &host, "link", "set", "eth0", "up"]));
        }
        Some(network)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    fn host(&self, number: usize) -> String {
        format!("{}-host{number}", self.prefix)
    }

    fn pull_cable(&self, number: usize) {
        assert!(ip(&["-n", &self.switch(), "link", "set", &cable(number), "down"]));
    }

    fn plug_in(&self, number: usize) {
        assert!(ip(&["-n", &self.switch(), "link", "set", &cable(number), "up"]));
    }

    /// Moves the calling thread to a host: connections that it makes from now on come from there.
    fn enter(&self, number: usize) {
        let host = File::open(Path::new("/run/netns").join(self.host(number))).unwrap();
        move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for number in 0..NAMES.len() {
            ip(&["netns", "delete", &self.host(number)]);
        }
        ip(&["netns", "delete", &self.switch()]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let run = Command::new("ip").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

fn cable(number: usize) -> String {
    format!("cable{number}")
}

fn address(number: usize) -> String {
    format!("10.77.0.{}", 10 + number)
}

/// A `bank-server` on a host; killed when dropped.
struct Branch {
    child: Child,
    log: ProgramLog,
}

impl Branch {
    fn start(network: &Network, number: usize, folder: &Path, peers: &[usize]) -> Self {
        let peers: Vec<_> = peers.iter().map(|peer| format!("{}={}:{PORT}", NAMES[*peer], address(*peer))).collect();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &network.host(number)]).arg(program("bank-server"));
        command.args(["--name", NAMES[number], "--host", &address(number), "--port", &PORT.to_string()]);
        command.arg("--db").arg(folder.join(format!("{}.db", NAMES[number])));
        if !peers.is_empty() {
            command.args(["--peers", &peers.join(",")]);
        }
        // Beyond loopback the first password of the administrator is refused.
        command.env("BANK_ADMIN_PASSWORD", "a password of the test");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = ProgramLog::collect(child.stderr.take().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), format!("branch {} listening on {}:{PORT}", NAMES[number], address(number)));
        Self { child, log }
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.log.text());
        }
    }
}

/// A connection to a branch from its own host, which no cable parts.
struct Client(Connection<TcpStream>);

impl Client {
    fn connect(number: usize, key: &BranchKey) -> Self {
        let stream = TcpStream::connect((address(number), PORT)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut connection = Connection::new(stream);
        assert_eq!(connection.authenticate(key, &[7; 32]).unwrap(), NAMES[number]);
        Self(connection)
    }

    fn ask<T: DeserializeOwned>(&mut self, action: Action, params: &Value) -> T {
        self.0.call(action, params, None).unwrap()
    }

    fn is_settled(&mut self) -> bool {
        let status: Status = self.ask(Action::Status, &json!({}));
        status.in_doubt + status.undelivered == 0
    }
}

/// Asks a branch something from its own host.
fn at<T: Send>(network: &Network, key: &BranchKey, number: usize, ask: impl FnOnce(&mut Client) -> T + Send) -> T {
    let run = || {
        network.enter(number);
        ask(&mut Client::connect(number, key))
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// How transfers ended, by the code of the refusal; empty for those that were carried out.
type Outcomes = BTreeMap<String, usize>;

/// Pays from one branch to the others in turn until it is told to stop.
fn pay_until(network: &Network, key: &BranchKey, payer: usize, stop: &AtomicBool) -> Outcomes {
    network.enter(payer);
    let mut client = Client::connect(payer, key);
    let mut outcomes = Outcomes::new();
    let mut stopped_at = None;
    for turn in 0.. {
        // On a slow machine it goes on a while after the last cable is back.
        let is_enough = outcomes.get("").is_some_and(|done| *done > DONE);
        if stop.load(Ordering::SeqCst) {
            let since: &mut Instant = stopped_at.get_or_insert_with(Instant::now);
            if is_enough || since.elapsed() > DEADLINE {
                break;
            }
        }
        let receiver = NAMES[(payer + 1 + turn % 2) % NAMES.len()];
        let params = json!({"src_account_no": 1001, "dest_account_no": 1001, "amount": 1, "dest_branch": receiver});
        let id = format!("{payer}-{turn}");
        let code = match client.0.call::<Value>(Action::InterBranchTransfer, &params, Some(&id)) {
            Ok(_) => String::new(),
            Err(CallError::Refused(refused)) => refused.code,
            Err(error) => panic!("the branch and its client are on one host: {error}"),
        };
        *outcomes.entry(code).or_default() += 1;
    }
    outcomes
}

/// More transfers than this each payer gets done, whatever happens to the cables.
const DONE: usize = 20;

/// Checks each branch's books, and that they agree about what is between them.
fn assert_exact(audits: &[Audit]) {
    let sum = |figure: fn(&Audit) -> Total| audits.iter().map(figure).sum::<Total>();
    for (number, audit) in audits.iter().enumerate() {
        assert!(audit.ok, "{}: {audit:?}", NAMES[number]);
        for (peer, due) in &audit.due {
            let there = NAMES.iter().position(|name| name == peer).unwrap();
            let owed = audits[there].due.get(NAMES[number]).copied().unwrap_or_default();
            assert_eq!(*due + owed, Total::ZERO, "{} and {peer}: {audits:?}", NAMES[number]);
        }
    }
    assert_eq!(sum(|audit| audit.in_transit), Total::ZERO, "{audits:?}");
    let all = Total::from(Money::from_rupees(FIRST_BALANCE * 3));
    assert_eq!((sum(|audit| audit.balances), sum(|audit| audit.paid_in)), (all, all), "{audits:?}");
}

#[test]
fn three_hosts_find_one_another_and_lose_nothing_when_cables_are_pulled() {
    let Some(network) = Network::make() else {
        println!("skipped: there are no network namespaces here, or this user may not make them");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // A chain: each knows the one before.
    let first = Branch::start(&network, 0, folder.path(), &[]);
    let key: BranchKey = std::fs::read_to_string(folder.path().join("bank.key")).unwrap().parse().unwrap();
    let _branches =
        [first, Branch::start(&network, 1, folder.path(), &[0]), Branch::start(&network, 2, folder.path(), &[1])];
    for number in 0..NAMES.len() {
        let params = json!({"account_no": 1001, "name": "Asha Rao", "balance": FIRST_BALANCE});
        at(&network, &key, number, |client| client.ask::<Value>(Action::CreateAccount, &params));
        wait_until("each knows all", || {
            let lines: Vec<BranchLine> = at(&network, &key, number, |client| client.ask(Action::Branches, &json!({})));
            lines.iter().filter(|line| line.state == "up").count() == NAMES.len() - 1
        });
    }

    let stop = AtomicBool::new(false);
    let outcomes: Vec<Outcomes> = thread::scope(|scope| {
        let _stop = SetOnDrop(&stop);
        let payers: Vec<_> = (0..NAMES.len())
            .map(|payer| {
                let (network, key, stop) = (&network, &key, &stop);
                scope.spawn(move || pay_until(network, key, payer, stop))
            })
            .collect();
        for pulled in [1, 2, 0, 1] {
            let before = at(&network, &key, pulled, |client| client.ask::<Status>(Action::Status, &json!({})));
            wait_until("transfers are under way", || {
                let now = at(&network, &key, pulled, |client| client.ask::<Status>(Action::Status, &json!({})));
                now.transactions > before.transactions + 20
            });
            network.pull_cable(pulled);
            wait_until("the others notice", || {
                let others = (pulled + 1) % NAMES.len();
                let lines: Vec<BranchLine> =
                    at(&network, &key, others, |client| client.ask(Action::Branches, &json!({})));
                lines.iter().any(|line| line.name == NAMES[pulled] && line.state == "down")
            });
            network.plug_in(pulled);
        }
        stop.store(true, Ordering::SeqCst);
        payers.into_iter().map(|payer| payer.join().unwrap()).collect()
    });

    let healed = Instant::now();
    for number in 0..NAMES.len() {
        wait_until("nothing is in doubt or undelivered", || at(&network, &key, number, Client::is_settled));
    }
    assert!(healed.elapsed() < SETTLED_WITHIN, "it took {:?}", healed.elapsed());
    let audits: Vec<Audit> = (0..NAMES.len())
        .map(|number| at(&network, &key, number, |client| client.ask(Action::Audit, &json!({}))))
        .collect();
    assert_exact(&audits);
    println!("{outcomes:?}");
    for (number, outcomes) in outcomes.iter().enumerate() {
        assert!(outcomes.get("").is_some_and(|done| *done > DONE), "{}: {outcomes:?}", NAMES[number]);
    }
    let was_cut = |outcomes: &Outcomes| outcomes.keys().any(|code| !code.is_empty());
    assert!(outcomes.iter().any(was_cut), "no transfer met a pulled cable: {outcomes:?}");
}
