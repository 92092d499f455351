//! The branch's program: reads the command line, wires the parts together, waits for the end.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bank_server::arguments::{Arguments, Command};
use bank_server::bank::outbox::SqlOutbox;
use bank_server::bank::{ADMINISTRATOR, Bank, BankSettings};
use bank_server::branch::Context;
use bank_server::branch::door::BranchDoor;
use bank_server::config::Config;
use bank_server::dbs_exec::DbsExec;
use bank_server::key::find_or_make;
use bank_server::limits::STOP_EVENTS;
use bank_server::listener::{Clients, Door, Listener};
use bank_server::menu::Texts;
use bank_server::menu::door::{LabDoor, Menu, PlainDoor};
use bank_server::sms::{self, Pace, SmsSender};
use bank_server::tls_door::TlsDoor;
use bank_server::transfer::directory::{Address, Directory};
use bank_server::transfer::discovery;
use bank_server::transfer::links::{Identity, Links};
use bank_server::transfer::{Engine, EngineParts};
use bank_server::{backup, commands, error};
use clap::Parser as _;
use crossbeam_channel::{Receiver, Sender, bounded};
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

/// Opens the branch, serves until it is told to stop, and closes it again.
fn serve(config: &Config) -> Result<ExitCode, String> {
    let (stop, stopped) = bounded(STOP_EVENTS);
    watch_signals(stop.clone())?;
    if config.until_input_ends {
        watch_input(stop.clone())?;
    }
    raise_descriptor_limit();
    let texts = find_texts(config)?;
    let (acceptor, connector) = open_tls(config)?;
    // The ports come first: a port in use must leave the database untouched.
    let branch_listener = bind(config.branch, "--port")?;
    let menu_listener = bind(config.menu, "--menu-port")?;
    let lab_listener = config.lab.map(|address| bind(address, "--lab-port")).transpose()?;
    let port = branch_listener.local_addr().map_err(|error| error.to_string())?.port();
    let dbs = open_database(config, stop.clone())?;
    let sms = start_sms(config, &dbs)?;
    let bank = open_bank(config, &dbs, sms.as_ref())?;
    let key = find_or_make(&config.key)?;
    let engine = start_engine(config, &bank, sms.as_ref(), &key, port, connector, stop)?;
    let clients = Clients::new(config.max_clients);
    let context = Arc::new(Context {
        bank: Arc::clone(&bank),
        engine: Arc::clone(&engine),
        clients: Arc::clone(&clients),
        key,
        is_open: config.open,
        idle_timeout: config.idle_timeout,
        address: Address { host: config.branch.ip().to_string(), port },
        started: Instant::now(),
    });
    let menu = Menu::new(Arc::clone(&context), texts);
    let mut listeners = Vec::new();
    let mut start = |label: &str, listener: TcpListener, door: Arc<dyn Door>| -> Result<(), String> {
        let started = Listener::start(listener, door, Arc::clone(&clients))
            .map_err(|error| format!("no thread for the listener: {error}"))?;
        announce(&format!("{label} on {}", started.address()));
        listeners.push(started);
        Ok(())
    };
    let with_tls = |door: Arc<dyn Door>| match &acceptor {
        Some(acceptor) => Arc::new(TlsDoor::new(door, acceptor.clone())),
        None => door,
    };
    start(&format!("branch {} listening", bank.name()), branch_listener, with_tls(Arc::new(BranchDoor(context))))?;
    start("menu", menu_listener, with_tls(Arc::new(PlainDoor(Arc::clone(&menu)))))?;
    if let Some(listener) = lab_listener {
        start("lab", listener, Arc::new(LabDoor(Arc::clone(&menu))))?;
    }
    #[cfg(feature = "mdns")]
    let mdns = start_mdns(config, &engine, port);
    log::info!("branch {} is open, database {}", bank.name(), dbs.path().display());

    let status = wait_for_stop(&stopped);
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
    engine.stop();
    if let Some(stopping) = sms_stopping
        && stopping.join().is_err()
    {
        log::error!("the sender of text messages had panicked");
    }
    dbs.close();
    log::info!("branch {} is closed", bank.name());
    Ok(status)
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

/// Recovers the transfers under way and links this branch to others.
fn start_engine(
    config: &Config,
    bank: &Arc<Bank>,
    sms: Option<&SmsSender>,
    key: &BranchKey,
    port: u16,
    tls: Option<Connector>,
    stop: Sender<Stop>,
) -> Result<Arc<Engine>, String> {
    let trouble = |error: error::Error| format!("{}: {error}", config.db.display());
    let directory = Arc::new(Directory::open(Arc::clone(bank.dbs())).map_err(trouble)?);
    for peer in config.peers.iter().filter(|peer| peer.name != config.name) {
        directory.learn(&peer.name, &peer.address).map_err(trouble)?;
    }
    let instance = getrandom::u64().map_err(|error| format!("no randomness: {error}"))?;
    let identity =
        Identity { name: config.name.clone(), port, key: key.clone(), instance: format!("{instance:016x}"), tls };
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

fn wait_for_stop(stopped: &Receiver<Stop>) -> ExitCode {
    match stopped.recv().expect("the signals' thread keeps a sender as long as the process runs") {
        Stop::Signal(signal) => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            log::info!("{name} received: the branch is stopping");
            ExitCode::SUCCESS
        }
        Stop::InputEnded => {
            log::info!("standard input has ended: the branch is stopping");
            ExitCode::SUCCESS
        }
        Stop::DiskFailed => {
            log::error!("the branch stops because its disk failed; the next start recovers from what is on disk");
            ExitCode::from(EXIT_DISK)
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

fn open_bank(config: &Config, dbs: &Arc<DbsExec>, sms: Option<&SmsSender>) -> Result<Arc<Bank>, String> {
    let settings = BankSettings { name: config.name.clone(), opening_balance: config.opening_balance };
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
