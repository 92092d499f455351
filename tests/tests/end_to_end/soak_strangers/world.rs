//! The bank that is attacked: its branches, its bridge, its accounts, and how a hostile client gets at it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, BranchConnection, Bridge, DEADLINE, Options, Random};
use rustix::net::{AddressFamily, SocketType};
use serde_json::json;
use tempfile::TempDir;
use tls::{Connector, Patience};

use super::http_strangers;
use super::measures::Process;
use super::strangers;

/// The ordinary users' accounts at each branch: number and password are the same.
pub const ORDINARY: std::ops::Range<u64> = 3_001..3_011;
/// The hostile ones'.
pub const HOSTILE: std::ops::Range<u64> = 6_001..6_013;
/// One whose password is guessed at, so that it is mostly locked,
pub const GUESSED: u64 = 6_101;
/// and one that logs in all the time, so that it mostly has to wait.
pub const KNOWN: u64 = 6_102;
/// Balance of each account when it begins, in rupees.
pub const BALANCE: i64 = 1_000_000;
/// Movements before it begins, so that the writer's page cache is full and what grows later is no cache.
const FILLING_BATCHES: usize = 50;
/// Movements of one batch.
pub const BATCH: usize = 9_999;
/// Transfers before it begins, so that what keeps the last events is full.
const FILLING_TRANSFERS: usize = 2_000;
/// How long hostile clients wait for what they wait for.
const IMPATIENCE: Duration = Duration::from_secs(5);
const PATIENCE: Patience = Patience { handshake: DEADLINE, write: DEADLINE, linger: Duration::from_secs(5) };

/// What a hostile client does over and over: one round of it.
pub type Hostility = fn(&mut Hostile<'_>) -> io::Result<()>;

/// Everything.
pub struct World {
    _bank: Bank,
    certificate: TempDir,
    /// A branch with all ports, without TLS.
    pub mumbai: Branch,
    /// Where transfers go.
    pub delhi: Branch,
    /// A branch with TLS at its ports, by itself.
    pub pune: Branch,
    /// The bridge to Mumbai and Delhi.
    pub bridge: Bridge,
    /// Set at the end.
    pub is_over: AtomicBool,
    rounds: BTreeMap<&'static str, AtomicU64>,
}

/// A hostile client's place in the world.
pub struct Hostile<'w> {
    /// What it is hostile to.
    pub world: &'w World,
    /// Its lots.
    pub random: Random,
    /// Connections that it holds: the oldest goes when there are too many.
    held: std::collections::VecDeque<TcpStream>,
}

impl World {
    /// Starts all of it, with accounts and some history.
    pub fn start() -> Self {
        let bank = Bank::new();
        let certificate = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| certificate.path().join(name));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mumbai = bank.start("Mumbai", Options::named("Mumbai").lab());
        let delhi = bank.branch("Delhi");
        let secured = Options::preloaded().value("--tls-cert", cert.display()).value("--tls-key", key.display());
        let pune = Branch::start(secured.value("--tls-ca", cert.display()));
        Bank::introduce(&[&mumbai, &delhi]);
        let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], &[]);
        let kinds = strangers::KINDS.iter().chain(&http_strangers::KINDS);
        let rounds = kinds.map(|(kind, _)| (*kind, AtomicU64::new(0))).collect();
        let is_over = AtomicBool::new(false);
        let world = Self { _bank: bank, certificate, mumbai, delhi, pune, bridge, is_over, rounds };
        open_accounts(&mut world.mumbai.connect());
        open_accounts(&mut world.delhi.connect());
        let mut by_tls = BranchConnection::over(world.by_tls(world.pune.port()).unwrap());
        by_tls.prove(&world.pune.key()).unwrap();
        open_accounts(&mut by_tls);
        world.fill();
        world
    }

    /// Makes a history, so that what is kept of the past is full from the start.
    fn fill(&self) {
        let deposit = json!({"action": "deposit", "params": {"account_no": HOSTILE.start, "amount": "0.01"}});
        for branch in [&self.mumbai, &self.delhi] {
            let mut operator = branch.connect();
            for _ in 0..FILLING_BATCHES {
                operator.ask("batch", json!({"requests": vec![&deposit; BATCH]})).ok();
            }
        }
        let mut operator = self.mumbai.connect();
        let transfer = bank_tests::request(
            "inter_branch_transfer",
            json!({"src_account_no": HOSTILE.start, "dest_branch": "Delhi", "dest_account_no": HOSTILE.start,
                "amount": "0.01"}),
            None,
        );
        for _ in 0..FILLING_TRANSFERS / 100 {
            operator.send_bytes(&bank_tests::frame(&transfer).repeat(100)).unwrap();
            (0..100).for_each(|_| drop(operator.receive().unwrap().ok()));
        }
    }

    /// The programs that are watched.
    pub fn processes(&self) -> Vec<Process> {
        let of = |name, id| Process { name, id };
        vec![
            of("Mumbai", self.mumbai.process_id()),
            of("Delhi", self.delhi.process_id()),
            of("Pune", self.pune.process_id()),
            of("bridge", self.bridge.process_id()),
        ]
    }

    /// A connection by TLS, from an ordinary address.
    pub fn by_tls(&self, port: u16) -> io::Result<TcpStream> {
        let network = TcpStream::connect(("127.0.0.1", port))?;
        let connector = Connector::new(Some(&self.certificate.path().join("cert.pem"))).unwrap();
        let inside = connector.connect(network, "127.0.0.1", PATIENCE)?.inside()?;
        inside.set_read_timeout(Some(DEADLINE))?;
        Ok(inside)
    }

    /// Whether there is nothing left to do.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Waits so long, or until the end.
    pub fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_over() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
        }
    }

    /// Does the same thing over and over until the end. That it is refused, closed or never answered is as it should
    /// be; that it never once came to its end is not, and shows in the count.
    pub fn be_hostile(&self, kind: &'static str, random: Random, hostility: Hostility) {
        let mut hostile = Hostile { world: self, random, held: std::collections::VecDeque::new() };
        while !self.is_over() {
            match hostility(&mut hostile) {
                Ok(()) => {
                    self.rounds[kind].fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => self.wait(Duration::from_millis(50)),
            }
        }
    }

    /// How many rounds each kind of hostile client made; nothing for one that made none.
    pub fn counts(&self) -> Vec<Rounds> {
        self.rounds.iter().map(|(kind, rounds)| Rounds { kind, count: rounds.load(Ordering::Relaxed) }).collect()
    }
}

/// What came of one kind of hostile client.
pub struct Rounds {
    kind: &'static str,
    count: u64,
}

impl Rounds {
    /// Whether there was any round.
    pub fn is_some(&self) -> bool {
        self.count > 0
    }
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<34} {:>8} rounds", self.kind, self.count)
    }
}

impl Hostile<'_> {
    /// A connection from one of many addresses of this machine, none of which is an ordinary user's.
    pub fn connect(&mut self, port: u16) -> io::Result<TcpStream> {
        let last = u8::try_from(2 + self.random.below(200)).unwrap_or(2);
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 0, 9, last), 0)))?;
        rustix::net::connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(IMPATIENCE))?;
        stream.set_write_timeout(Some(IMPATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection to Mumbai's branch protocol.
    pub fn branch(&mut self) -> io::Result<BranchConnection> {
        Ok(BranchConnection::over(self.connect(self.world.mumbai.port())?))
    }

    /// The same, logged in as a hostile customer.
    pub fn customer(&mut self) -> io::Result<BranchConnection> {
        let mut connection = self.branch()?;
        let account = self.account();
        let params = json!({"account_no": account, "password": account.to_string()});
        match connection.try_ask("login", params, None)?.is_ok() {
            true => Ok(connection),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// A hostile customer.
    pub fn account(&mut self) -> u64 {
        HOSTILE.start + self.random.below(HOSTILE.end - HOSTILE.start)
    }

    /// Keeps a connection open, at most so many.
    pub fn hold(&mut self, stream: TcpStream, most: usize) {
        self.held.push_back(stream);
        while self.held.len() > most {
            self.held.pop_front();
        }
    }

    /// Those that are held.
    pub fn held(&mut self) -> &mut std::collections::VecDeque<TcpStream> {
        &mut self.held
    }
}

/// Opens the accounts, with their passwords.
fn open_accounts(operator: &mut BranchConnection) {
    let open = |number: u64| {
        let params = json!({"account_no": number, "name": "Some One", "balance": BALANCE,
            "password": number.to_string()});
        json!({"action": "create_account", "params": params})
    };
    let requests: Vec<_> = ORDINARY.chain(HOSTILE).chain([GUESSED, KNOWN]).map(open).collect();
    let answers = operator.ask("batch", json!({"requests": requests})).ok();
    assert!(answers.as_array().unwrap().iter().all(|answer| answer["status"] == "ok"), "{answers}");
}
