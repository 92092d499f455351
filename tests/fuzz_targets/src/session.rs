//! The branch port of a branch with a real database.
//!
//! The first byte of the input says who is there: `a` nobody yet, `c` the customer of account 1001, `o` anyone at an
//! open branch, who may do all. The rest is what comes over the socket, frame by frame; after `A`, `C` and `O` each line
//! of it is the body of one frame. What follows a request by which the connection becomes a link are messages of the
//! peer, as JSON. Afterwards the books must be in order.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bank_server::bank::passwords::HashCost;
use bank_server::branch::incoming::{Filled, Incoming, Terms};
use bank_server::branch::outgoing::Outgoing;
use bank_server::branch::session::{After, BranchSession};
use bank_server::cli::arguments::Arguments;
use bank_server::cli::config::Config;
use bank_server::dbs_exec::{CopyRole, DbsExec};
use bank_server::error::Result;
use bank_server::node::{Core, Opened, Stop, Surroundings};
use bank_server::peers::links::{Carrier, Inbox as _, StampedMessage};
use bank_server::replication::{Duplex, Exchange};
use bank_server::service::audit::audit;
use bank_server::service::{Allowances, Service};
use bank_server::transfer::host::Host;
use clap::Parser as _;
use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use protocol::frame::{BATCH_FRAME_BYTES_MAX, HEADER_BYTES, read_frame};
use protocol::{Address, BranchName};
use tempfile::TempDir;
use two_phase_commit::PeerAddr;

/// How many inputs a branch takes before it is made anew.
const INPUTS: u32 = 500;
/// The most bytes that are put into the socket at once; nobody reads them while they are written.
const INPUT_BYTES: usize = 64 << 10;
/// How a customer is let in.
const LOGIN: &[u8] = br#"{"action":"login","params":{"account_no":"1001","password":"1001"}}"#;

/// A clock that goes on by a tick whenever it is looked at.
#[derive(Default)]
struct Counted(AtomicU64);

impl Host for Counted {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn unix_ms(&self) -> i64 {
        1_600_000_000_000
    }

    fn random(&self) -> Result<u64> {
        Ok(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn run_aside(&self, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        work();
        Ok(())
    }

    fn patience(&self, _limit: Duration) -> Duration {
        Duration::ZERO
    }
}

/// A network that loses all.
struct Nowhere;

impl Carrier for Nowhere {
    fn carry(&self, _to: &PeerAddr, _messages: Vec<StampedMessage>) {}
}

impl Exchange for Nowhere {
    fn connect(&self, _at: &Address) -> Option<Box<dyn Duplex>> {
        None
    }
}

/// A branch with two accounts, without its sockets and threads.
pub(crate) struct Branch {
    core: Box<Core>,
    /// The same branch to those who have to say who they are.
    strict: Service,
    stop: Receiver<Stop>,
    inputs: u32,
    _folder: TempDir,
}

/// A branch's database as it is at first, and the bank's key.
static FIRST: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder is made");
    let branch = Branch::start(folder, true);
    branch.core.dbs.close();
    let read = |name: &str| std::fs::read(branch._folder.path().join(name)).expect("the file is there");
    (read("Mumbai.db"), read("bank.key"))
});

impl Branch {
    /// Opens one.
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder is made");
        let (database, key) = &*FIRST;
        for (name, bytes) in [("Mumbai.db", database), ("bank.key", key)] {
            std::fs::write(folder.path().join(name), bytes).expect("the file is written");
        }
        Self::start(folder, false)
    }

    fn start(folder: TempDir, with_accounts: bool) -> Self {
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (db, key) = (path("Mumbai.db"), path("bank.key"));
        let mut words = vec!["bank-server", "--open", "--name", "Mumbai", "--peers", "Delhi=127.0.0.1:2"];
        words.extend(["--db", &db, "--key", &key]);
        if with_accounts {
            words.push("--preload");
        }
        let config = Arguments::try_parse_from(words).map_err(|error| error.to_string());
        let config = config.and_then(|arguments| Config::resolve(&arguments)).expect("the command line is right");
        let (stop, stopped) = bounded(64);
        let around = Surroundings {
            port: 1,
            connector: None,
            hash_cost: HashCost::LEAST,
            host: Box::new(Counted::default()),
            carrier: Some(Box::new(Nowhere)),
            exchange: Some(Arc::new(Nowhere)),
            event_file: None,
            wait_hook: None,
            shared_log: None,
            stop,
            exit: |status| panic!("the branch ends with {status}"),
        };
        let core = match Core::open(&config, around, true).expect("the branch opens") {
            Opened::Open(core) => core,
            Opened::Replaced(_) => panic!("a branch that nobody knows was replaced"),
        };
        let strict = strict(&core.service);
        Self { core, strict, stop: stopped, inputs: 0, _folder: folder }
    }

    /// Its database.
    pub(crate) fn dbs(&self) -> &Arc<DbsExec> {
        &self.core.dbs
    }

    fn converse(&self, mode: u8, bytes: &[u8]) {
        let service = if mode.eq_ignore_ascii_case(&b'o') { &*self.core.service } else { &self.strict };
        let mut sent = Vec::new();
        if mode.eq_ignore_ascii_case(&b'c') {
            push(&mut sent, LOGIN);
        }
        if mode.is_ascii_uppercase() {
            bytes.split(|byte| *byte == b'\n').for_each(|line| push(&mut sent, line));
        } else {
            sent.extend_from_slice(bytes);
        }
        if sent.len() <= INPUT_BYTES {
            let stream = socket_with(&sent);
            let link = serve(service, &stream, &sent);
            if let Some((peer, messages)) = link {
                messages.into_iter().for_each(|stamped| service.engine.received(&peer, vec![stamped]));
            }
        }
        self.check();
    }

    /// The books are in order, and the branch goes on.
    fn check(&self) {
        if let Ok(stop) = self.stop.try_recv() {
            assert!(matches!(stop, Stop::Reopen(_)), "the branch stops: {stop:?}");
        }
        let books = self.dbs().read(|reader| audit(reader)).expect("the books are read");
        assert!(books.findings.is_empty(), "{:#?}", books.findings);
    }

    /// Whether it still does what it did at first.
    fn is_used_up(&self) -> bool {
        self.inputs >= INPUTS || self.dbs().copy_state().role != CopyRole::Primary
    }
}

fn strict(open: &Service) -> Service {
    Service {
        bank: Arc::clone(&open.bank),
        engine: Arc::clone(&open.engine),
        lesson: open.lesson.clone(),
        replication: Arc::clone(&open.replication),
        clients: Arc::clone(&open.clients),
        key: open.key.clone(),
        is_open: false,
        idle_timeout: open.idle_timeout,
        address: open.address.clone(),
        started: Instant::now(),
        started_unix_ms: open.started_unix_ms,
        allowances: Allowances::default(),
    }
}

fn push(sent: &mut Vec<u8>, body: &[u8]) {
    sent.extend_from_slice(&(body.len() as u32).to_be_bytes());
    sent.extend_from_slice(body);
}

/// A socket out of which these bytes come, and then the end. No port is taken for it.
fn socket_with(bytes: &[u8]) -> Arc<TcpStream> {
    let (mut near, far) = UnixStream::pair().expect("two sockets are made");
    near.write_all(bytes).expect("the socket takes a little");
    near.shutdown(Shutdown::Write).expect("it is open");
    Arc::new(TcpStream::from(OwnedFd::from(far)))
}

/// Serves one connection, as the branch port does; gives the messages of the peer whose link it became.
fn serve(service: &Service, stream: &Arc<TcpStream>, sent: &[u8]) -> Option<(PeerAddr, Vec<StampedMessage>)> {
    let mut session = BranchSession::over(service, IpAddr::V4(Ipv4Addr::LOCALHOST), 0, Arc::clone(stream));
    let mut incoming = Incoming::new(stream);
    let mut consumed = 0;
    loop {
        let terms = Terms {
            frame_bytes_max: BATCH_FRAME_BYTES_MAX,
            idle: Duration::from_secs(1),
            owner: session.requester().owner(),
            allowance: &service.allowances.frames,
        };
        if !matches!(incoming.fill(&terms), Ok(Filled::Requests)) {
            return None;
        }
        let bodies = incoming.bodies(BATCH_FRAME_BYTES_MAX);
        let goes_on = incoming.goes_on_after(bodies.len());
        let mut answers = Vec::new();
        let mut outgoing = Outgoing::new(&mut answers);
        let (taken, after) = session.answer(&bodies, goes_on, &mut outgoing).expect("memory takes the answers");
        outgoing.flush().expect("memory takes the answers");
        drop(outgoing);
        consumed += bodies[..taken].iter().map(|body| HEADER_BYTES + body.len()).sum::<usize>();
        incoming.consume(taken);
        check_answers(&answers, taken, matches!(after, After::Watch(_)));
        match after {
            After::GoOn | After::Watch(_) => {}
            After::ChangeRole(_) | After::Replicate(_) => return None,
            After::BecomeLink(link) => {
                return Some((PeerAddr::from(&link.branch), messages(&link.branch, &sent[consumed..])));
            }
        }
    }
}

/// Each request has one answer, in order; a watch has none of its own.
fn check_answers(answers: &[u8], taken: usize, is_watch: bool) {
    let (mut rest, mut body, mut count) = (answers, Vec::new(), 0);
    while read_frame(&mut rest, BATCH_FRAME_BYTES_MAX, &mut body).expect("answers are frames") {
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("an answer is JSON");
        let is_error = answer["status"] == "error" && answer["code"].is_string() && answer["error"].is_string();
        assert!(is_error || (answer["status"] == "ok" && answer.get("result").is_some()), "{answer}");
        assert!(answer["code"] != "internal" && answer["code"] != "database", "{answer}");
        count += 1;
    }
    assert_eq!(count + usize::from(is_watch), taken, "each request is answered");
}

/// What a peer sends over its link.
fn messages(peer: &BranchName, bytes: &[u8]) -> Vec<StampedMessage> {
    let (mut rest, mut body, mut messages) = (bytes, Vec::new(), Vec::new());
    while let Ok(true) = read_frame(&mut rest, BATCH_FRAME_BYTES_MAX, &mut body) {
        let message: std::result::Result<two_phase_commit::Message, _> = serde_json::from_slice(&body);
        if let Ok(message) = message {
            messages.push(StampedMessage { message, id: format!("{peer}:1"), clock: [(peer.clone(), 1)].into() });
        }
    }
    messages
}

static BRANCH: Mutex<Option<Branch>> = Mutex::new(None);

/// Serves one connection.
///
/// # Panics
/// When a request isn't answered, the branch stops, or the books are not in order any more.
pub fn run(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let mut place = BRANCH.lock();
    if let Some(branch) = place.take_if(|branch| branch.is_used_up()) {
        branch.core.dbs.close();
    }
    let branch = place.get_or_insert_with(Branch::open);
    branch.inputs += 1;
    branch.converse(*mode, bytes);
}
