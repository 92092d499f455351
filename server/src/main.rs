//! The branch's program: reads the command line, wires the parts together, waits for the end.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bank_server::arguments::{Arguments, Command};
use bank_server::bank::outbox::SqlOutbox;
use bank_server::bank::{ADMINISTRATOR, Bank, BankSettings};
use bank_server::branch::Context;
use bank_server::branch::door::BranchDoor;
use bank_server::config::Config;
use bank_server::dbs_exec::{CopyRole, DbsExec, put_in_place};
use bank_server::key::find_or_make;
use bank_server::limits::{REOPEN_WAIT, STOP_EVENTS, SYNC_STOP_WAIT};
use bank_server::listener::{Clients, Door, Listener};
use bank_server::menu::Texts;
use bank_server::menu::door::{LabDoor, Menu, PlainDoor};
use bank_server::replication::{Dialler, Parts, Reopen, Replication, is_replaced, settle_role};
use bank_server::sms::{self, Pace, SmsSender};
use bank_server::tls_door::TlsDoor;
use bank_server::transfer::directory::{Address, Directory};
use bank_server::transfer::discovery;
use bank_server::transfer::links::{Identity, Links};
use bank_server::transfer::{Engine, EngineParts};
use bank_server::{backup, clock, commands, error};
use clap::Parser as _;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use protocol::proof::BranchKey;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use tls::{Acceptor, Connector};

/// The server could not start.
const EXIT_FAILED: u8 = 1;
/// The command line is wrong (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;
/// The disk failed under the database (`EX_IOERR` of sysexits.h).
const EXIT_DISK: u8 = 74;
/// The administrator's password can be set by this variable, for machines without a terminal.
const ADMIN_PASSWORD_VARIABLE: &str = "BANK_ADMIN_PASSWORD";

/// Why the server stops.
enum Stop {
    Signal(i32),
    InputEnded,
    DiskFailed,
    Reopen(Reopen),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A failed print of the usage leaves nothing else to say.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let outcome = match &arguments.command {
        Some(Command::Passwd { account }) => commands::passwd(&arguments.database, *account),
        Some(Command::Audit { json }) => commands::audit(&arguments.database, *json),
        Some(Command::Backup { to }) => backup::backup(&arguments.database, to),
        Some(Command::Restore { from, force }) => backup::restore(&arguments.database, from, *force),
        None => match Config::resolve(&arguments) {
            Ok(config) => serve(&config),
            Err(error) => {
                eprintln!("bank-server: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
        },
    };
    match outcome {
        Ok(status) => status,
        Err(error) => {
            eprintln!("bank-server: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// The listening sockets: they stay open when everything behind them is opened again.
struct Doors {
    branch: TcpListener,
    menu: TcpListener,
    lab: Option<TcpListener>,
    port: u16,
    /// Takes TLS at the branch's door and the menu's.
    acceptor: Option<Acceptor>,
    /// Speaks TLS to others.
    connector: Option<Connector>,
    /// Whether it was said that they are open: once for the whole process.
    are_announced: Cell<bool>,
}

/// How one life of the branch ended.
enum Ended {
    /// The process is to end.
    Stopped(ExitCode),
    /// Everything is to be opened again.
    Reopen(Reopen),
}

/// Opens the branch, serves until it is told to stop, and closes it again; and the same anew when its role changes.
fn serve(config: &Config) -> Result<ExitCode, String> {
    let (stop, stopped) = bounded(STOP_EVENTS);
    watch_signals(stop.clone())?;
    if config.until_input_ends {
        watch_input(stop.clone())?;
    }
    raise_descriptor_limit();
    let texts = Arc::new(find_texts(config)?);
    let (acceptor, connector) = open_tls(config)?;
    // The ports come first: a port in use must leave the database untouched.
    let branch = bind(config.branch, "--port")?;
    let port = branch.local_addr().map_err(|error| error.to_string())?.port();
    let menu = bind(config.menu, "--menu-port")?;
    let lab = config.lab.map(|address| bind(address, "--lab-port")).transpose()?;
    let doors = Doors { branch, menu, lab, port, acceptor, connector, are_announced: Cell::new(false) };
    let mut is_first = true;
    loop {
        let (ended, end) = live(config, &doors, &texts, &stop, &stopped, is_first)?;
        match ended {
            Ended::Reopen(_) => wait_until_closed(&end)?,
            Ended::Stopped(_) => {}
        }
        match ended {
            Ended::Stopped(status) => return Ok(status),
            Ended::Reopen(Reopen::Role) => {}
            Ended::Reopen(Reopen::Snapshot { copy, keep_old }) => take_over(config, &copy, keep_old)?,
        }
        is_first = false;
    }
}

/// Waits until nobody has the database open: a client's thread may still be finishing what it was at.
fn wait_until_closed(end: &Receiver<()>) -> Result<(), String> {
    match end.recv_timeout(REOPEN_WAIT) {
        Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        Err(RecvTimeoutError::Timeout) => {
            Err("the database could not be closed to change the branch's role; start it again".into())
        }
    }
}

/// Puts a snapshot in the database's place.
fn take_over(config: &Config, copy: &Path, keep_old: bool) -> Result<(), String> {
    let suffix = format!(".aside-{}", clock::unix_ms_now());
    let aside = put_in_place(copy, &config.db, &suffix)?;
    match aside {
        Some(aside) if keep_old => log::warn!("the database that was here before is kept as {}", aside.display()),
        // It was the primary's past, which the snapshot has too; or empty.
        Some(aside) => std::fs::remove_file(&aside).map_err(|error| format!("{}: {error}", aside.display()))?,
        None => {}
    }
    Ok(())
}

/// One life of the branch: in one role, on one database file.
fn live(
    config: &Config,
    doors: &Doors,
    texts: &Arc<Texts>,
    stop: &Sender<Stop>,
    stopped: &Receiver<Stop>,
    is_first: bool,
) -> Result<(Ended, Receiver<()>), String> {
    let trouble = |error: error::Error| format!("{}: {error}", config.db.display());
    let dbs = open_database(config, stop.clone())?;
    let key = find_or_make(&config.key)?;
    let dialler = Dialler { branch: config.name.clone(), key: key.clone(), tls: doors.connector.clone() };
    if is_first {
        settle_role(&dbs, &config.replication).map_err(trouble)?;
    }
    if is_replaced(&dbs, &dialler, doors.port, &config.replication.replicas).map_err(trouble)? {
        dbs.close();
        return Ok((Ended::Reopen(Reopen::Role), dbs.end()));
    }
    let is_primary = dbs.standing().role == CopyRole::Primary;
    let sms = if is_primary { start_sms(config, &dbs)? } else { None };
    let reopen_stop = stop.clone();
    let replication = Replication::new(Parts {
        dbs: Arc::clone(&dbs),
        dialler,
        port: doors.port,
        expected: config.replication.replicas.clone(),
        // A full channel means that the server is stopping already.
        reopen: Box::new(move |reopen| drop(reopen_stop.try_send(Stop::Reopen(reopen)))),
    });
    if is_primary && (!config.replication.replicas.is_empty() || config.replication.sync_replicas > 0) {
        replication.log_from_now_on().map_err(trouble)?;
    }
    let bank = open_bank(config, &dbs, sms.as_ref(), is_primary)?;
    let engine = start_engine(config, &bank, sms.as_ref(), &key, doors, stop.clone(), &replication)?;
    if is_primary && config.replication.sync_replicas > 0 {
        dbs.feed().require(config.replication.sync_replicas);
    }
    let clients = Clients::new(config.max_clients);
    let context = Arc::new(Context {
        bank: Arc::clone(&bank),
        engine: Arc::clone(&engine),
        replication: Arc::clone(&replication),
        clients: Arc::clone(&clients),
        key,
        is_open: config.open,
        idle_timeout: config.idle_timeout,
        address: Address { host: config.branch.ip().to_string(), port: doors.port },
        started: Instant::now(),
    });
    let menu = Menu::new(Arc::clone(&context), Arc::clone(texts));
    let mut listeners = Vec::new();
    let mut start = |label: &str, listener: &TcpListener, door: Arc<dyn Door>| -> Result<(), String> {
        let started = listener
            .try_clone()
            .and_then(|listener| Listener::start(listener, door, Arc::clone(&clients)))
            .map_err(|error| format!("no thread for the listener: {error}"))?;
        if !doors.are_announced.get() {
            announce(&format!("{label} on {}", started.address()));
        }
        listeners.push(started);
        Ok(())
    };
    let with_tls = |door: Arc<dyn Door>| match &doors.acceptor {
        Some(acceptor) => Arc::new(TlsDoor::new(door, acceptor.clone())),
        None => door,
    };
    start(&format!("branch {} listening", bank.name()), &doors.branch, with_tls(Arc::new(BranchDoor(context))))?;
    start("menu", &doors.menu, with_tls(Arc::new(PlainDoor(Arc::clone(&menu)))))?;
    if let Some(listener) = &doors.lab {
        start("lab", listener, Arc::new(LabDoor(Arc::clone(&menu))))?;
    }
    doors.are_announced.set(true);
    #[cfg(feature = "mdns")]
    let mdns = if is_primary { start_mdns(config, &engine, doors.port) } else { None };
    replication.start(&engine).map_err(trouble)?;
    let role = replication.role().as_str();
    log::info!("branch {} is open as {role}, database {}", bank.name(), dbs.path().display());

    let ended = wait_for_stop(stopped);
    dbs.feed().stop_within(SYNC_STOP_WAIT);
    // A message that is just being delivered is waited for while the clients are told.
    let sms_stopping = sms.map(|sender| std::thread::spawn(move || sender.stop()));
    #[cfg(feature = "mdns")]
    if let Some(mdns) = mdns {
        mdns.stop();
    }
    clients.stop();
    for listener in listeners {
        listener.join();
    }
    replication.stop();
    engine.stop();
    if let Some(stopping) = sms_stopping
        && stopping.join().is_err()
    {
        log::error!("the sender of text messages had panicked");
    }
    dbs.close();
    log::info!("branch {} is closed", bank.name());
    Ok((ended, dbs.end()))
}

/// Reads the certificates; says what goes unencrypted.
fn open_tls(config: &Config) -> Result<(Option<Acceptor>, Option<Connector>), String> {
    let trouble = |error: tls::SetUpError| error.to_string();
    let acceptor = match &config.tls {
        Some((certificate, key)) => Some(Acceptor::new(certificate, key).map_err(trouble)?),
        None => None,
    };
    let connector = config.tls_ca.as_deref().map(|path| Connector::new(Some(path))).transpose().map_err(trouble)?;
    if acceptor.is_none() && !config.is_loopback() {
        log::warn!(
            "this branch listens beyond this machine without TLS: whoever is on the way can read passwords and amounts (--tls-cert, --tls-key)"
        );
    }
    if acceptor.is_some() && connector.is_none() {
        log::info!("links to other branches are made without TLS (--tls-ca)");
    }
    Ok((acceptor, connector))
}

/// Recovers the transfers under way and links this branch to others; at a copy that is not written, neither.
fn start_engine(
    config: &Config,
    bank: &Arc<Bank>,
    sms: Option<&SmsSender>,
    key: &BranchKey,
    doors: &Doors,
    stop: Sender<Stop>,
    replication: &Arc<Replication>,
) -> Result<Arc<Engine>, String> {
    let trouble = |error: error::Error| format!("{}: {error}", config.db.display());
    let is_primary = replication.role() == CopyRole::Primary;
    let directory = Arc::new(Directory::open(Arc::clone(bank.dbs())).map_err(trouble)?);
    for peer in config.peers.iter().filter(|peer| is_primary && peer.name != config.name) {
        directory.learn(&peer.name, &peer.address).map_err(trouble)?;
    }
    let replaced = Arc::downgrade(replication);
    let instance = getrandom::u64().map_err(|error| format!("no randomness: {error}"))?;
    let identity = Identity {
        name: config.name.clone(),
        port: doors.port,
        key: key.clone(),
        instance: format!("{instance:016x}"),
        epoch: bank.dbs().standing().epoch,
        tls: doors.connector.clone(),
        on_replaced: Arc::new(move |epoch| {
            if let Some(replication) = replaced.upgrade() {
                replication.fence(epoch);
            }
        }),
    };
    let on_failure = move |_: &error::Error| {
        // A full channel means that the server is stopping already.
        let _ = stop.try_send(Stop::DiskFailed);
    };
    let parts = EngineParts {
        name: config.name.clone(),
        dbs: Arc::clone(bank.dbs()),
        links: Links::new(identity, directory),
        sms: sms.map(SmsSender::notifier),
        is_teaching: config.teaching,
        on_failure: Box::new(on_failure),
    };
    if !is_primary {
        return Ok(Engine::at_rest(parts, 0));
    }
    let engine = Engine::start(parts, config.crash_at).map_err(trouble)?;
    discovery::start(engine.links());
    Ok(engine)
}

/// Announces the branch, if that is wanted and possible.
#[cfg(feature = "mdns")]
fn start_mdns(config: &Config, engine: &Engine, port: u16) -> Option<bank_server::transfer::mdns::Mdns> {
    if !config.mdns {
        return None;
    }
    let listening = std::net::SocketAddr::new(config.branch.ip(), port);
    match bank_server::transfer::mdns::Mdns::start(engine.links(), listening, engine.links().key()) {
        Ok(mdns) => Some(mdns),
        Err(error) => {
            log::warn!("mDNS is not available here ({error}); other branches are found by --peers");
            None
        }
    }
}

/// Each client needs a file descriptor, and the usual soft limit of 1,024 is far below `--max-clients`. The
/// hard limit is what the machine's owner allows, so the soft one is raised to it.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

fn watch_signals(stop: Sender<Stop>) -> Result<(), String> {
    let trouble = |error: io::Error| format!("signals cannot be watched: {error}");
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(trouble)?;
    let watch = move || {
        for signal in signals.forever() {
            // A full channel means that the server is stopping already.
            let _ = stop.try_send(Stop::Signal(signal));
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(trouble)?;
    Ok(())
}

/// Whoever started this branch holds the other end of its standard input; that it is closed means that they are gone.
fn watch_input(stop: Sender<Stop>) -> Result<(), String> {
    let watch = move || {
        // Nothing that is sent means anything, and an error ends the input too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = stop.try_send(Stop::InputEnded);
    };
    let spawned = std::thread::Builder::new().name("input".into()).spawn(watch);
    spawned.map(drop).map_err(|error| format!("standard input cannot be watched: {error}"))
}

fn wait_for_stop(stopped: &Receiver<Stop>) -> Ended {
    match stopped.recv().expect("the signals' thread keeps a sender as long as the process runs") {
        Stop::Signal(signal) => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            log::info!("{name} received: the branch is stopping");
            Ended::Stopped(ExitCode::SUCCESS)
        }
        Stop::InputEnded => {
            log::info!("standard input has ended: the branch is stopping");
            Ended::Stopped(ExitCode::SUCCESS)
        }
        Stop::Reopen(reopen) => Ended::Reopen(reopen),
        Stop::DiskFailed => {
            log::error!("the branch stops because its disk failed; the next start recovers from what is on disk");
            Ended::Stopped(ExitCode::from(EXIT_DISK))
        }
    }
}

fn find_texts(config: &Config) -> Result<Texts, String> {
    let beside = std::env::current_exe().ok().and_then(|program| program.parent().map(ToOwned::to_owned));
    Texts::find(config.menus.as_deref(), beside.as_deref()).map_err(|error| error.to_string())
}

fn bind(address: std::net::SocketAddr, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {} on {} is in use; name another with {flag}, or 0 for any", address.port(), address.ip())
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

fn open_database(config: &Config, stop: Sender<Stop>) -> Result<Arc<DbsExec>, String> {
    let on_disk_failure = move |_: &error::Error| {
        // A full channel means that the server is stopping already.
        let _ = stop.try_send(Stop::DiskFailed);
    };
    DbsExec::open(&config.db, on_disk_failure)
        .map(Arc::new)
        .map_err(|error| format!("{}: {error}", config.db.display()))
}

fn start_sms(config: &Config, dbs: &Arc<DbsExec>) -> Result<Option<SmsSender>, String> {
    let channel = config.sms.open_channel(&sms::process_environment).map_err(|error| error.to_string())?;
    let Some(channel) = channel else { return Ok(None) };
    let sender = SmsSender::start(SqlOutbox::new(Arc::clone(dbs)), channel, Pace::default());
    sender.map(Some).map_err(|error| format!("the sender of text messages did not start: {error}"))
}

fn open_bank(
    config: &Config,
    dbs: &Arc<DbsExec>,
    sms: Option<&SmsSender>,
    is_primary: bool,
) -> Result<Arc<Bank>, String> {
    let settings = BankSettings { name: config.name.clone(), opening_balance: config.opening_balance };
    if !is_primary {
        let bank =
            Bank::attach(Arc::clone(dbs), settings).map_err(|error| format!("{}: {error}", config.db.display()))?;
        if !config.is_loopback() && dbs.position().is_some() {
            refuse_default_passwords(&bank)?;
        }
        return Ok(Arc::new(bank));
    }
    let bank = Bank::open(Arc::clone(dbs), settings, sms.map(SmsSender::notifier))
        .map_err(|error| format!("{}: {error}", config.db.display()))?;
    if let Ok(password) = std::env::var(ADMIN_PASSWORD_VARIABLE) {
        commands::check_new_password(&password).map_err(|error| format!("{ADMIN_PASSWORD_VARIABLE}: {error}"))?;
        bank.set_password(ADMINISTRATOR, &password).map_err(|error| error.to_string())?;
    }
    if config.preload {
        for account in bank.preload().map_err(|error| error.to_string())? {
            log::info!("sample account {account} made, password {account}");
        }
    }
    if !config.is_loopback() {
        refuse_default_passwords(&bank)?;
    }
    Ok(Arc::new(bank))
}

/// Beyond loopback, nobody may have a password that everyone knows.
fn refuse_default_passwords(bank: &Bank) -> Result<(), String> {
    let known = bank.default_passwords().map_err(|error| error.to_string())?;
    let Some(account) = known.first() else { return Ok(()) };
    let who = if *account == ADMINISTRATOR { "the administrator".to_string() } else { format!("account {account}") };
    Err(format!(
        "{who} still has the first password, which everyone knows: set another with `bank-server passwd {account} --db {}` (or {ADMIN_PASSWORD_VARIABLE} for the administrator) before listening beyond this machine",
        bank.dbs().path().display()
    ))
}

/// Prints a line that a script may wait for.
fn announce(line: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        log::warn!("standard output is closed: {error}");
    }
}
