//! A node: all that a branch opens for one role, on one database file.
//!
//! A process has more than one, one after the other, when its role changes, or when a snapshot takes the database's place: everything
//! behind the listening sockets is closed and opened anew, so that nothing of the old role is left in the new one. The
//! order is what keeps the money right. What recovers comes before what is asked, and the listeners are answered on last; at
//! the end the clients are told first, and the database closes when nobody writes to it any more.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use protocol::Address;
use protocol::proof::BranchKey;
use tls::Connector;

use crate::bank::hashing::Orderer;
use crate::bank::outbox::SqlOutbox;
use crate::bank::passwords::HashCost;
use crate::bank::{ADMINISTRATOR, Bank, BankSettings};
use crate::cli::commands;
use crate::cli::config::Config;
use crate::clock::unix_ms_now;
use crate::dbs_exec::{CopyRole, DatabaseFile, DbsExec, Failure, Opening, RemoteLog, WaitHook};
use crate::error::Error;
use crate::key::find_or_make;
use crate::limits::{CATCH_UP_WAIT, HURRY_AFTER, SYNC_STOP_WAIT};
use crate::menu::Texts;
use crate::net::accept::{Clients, Listener};
use crate::net::listeners::Listeners;
use crate::peers::directory::Directory;
use crate::peers::discovery;
use crate::peers::links::{Carrier, Identity, Inbox, Links};
#[cfg(feature = "mdns")]
use crate::peers::mdns::Mdns;
use crate::replication::{Dialler, Exchange, Parts, Reopen, Replication, is_replaced, settle_role};
use crate::running_time::RunningTime;
use crate::service::{Allowances, Service};
use crate::shared_log::SharedLog;
use crate::sms::{self, Pace, SmsSender};
use crate::teaching::Controls;
use crate::teaching::host::{TeachingCarrier, TeachingHost};
use crate::teaching::lesson::Lesson;
use crate::transfer::event_file::EventFile;
use crate::transfer::host::{Host, ThisMachine};
use crate::transfer::{Engine, EngineParts};

/// The administrator's password can be set by this variable, for machines without a terminal.
const ADMIN_PASSWORD_VARIABLE: &str = "BANK_ADMIN_PASSWORD";

/// Exit status: a part of the program has found itself wrong.
const EXIT_WRONG: i32 = 70;

/// Why a node is closed.
#[derive(Debug)]
pub enum Stop {
    /// The process was sent this signal.
    Signal(i32),
    /// Nothing ends: what is read at the start from files that others keep up, the certificates, is to be read again.
    ReadAgain,
    /// Standard input has ended, and with it whoever started the process.
    InputEnded,
    /// What is in memory may not be what is on disk any more.
    DiskFailed,
    /// The open files are no longer those under their names.
    FilesLost,
    /// Everything is to be opened again.
    Reopen(Reopen),
}

/// What came of opening a branch.
pub enum Opened<T> {
    /// It is open.
    Open(Box<T>),
    /// It was replaced as the primary while it was away: it has to be opened again, as what it is now. What is given
    /// disconnects when nobody has the database open any more.
    Replaced(Receiver<()>),
}

/// What a branch is between its disk and its listeners: the database in its role, the books, and the transfers, recovered.
/// It has no socket open and waits for nobody, so a simulation opens one, too.
pub struct Core {
    /// The database.
    pub dbs: Arc<DbsExec>,
    /// All that answers requests.
    pub service: Arc<Service>,
    sms: Option<SmsSender>,
}

/// What a [`Core`] is not made of by itself.
pub struct Surroundings {
    /// The port on which the branch takes requests.
    pub port: u16,
    /// How other branches and copies are met, when they speak TLS.
    pub connector: Option<Connector>,
    /// The machine.
    pub host: Box<dyn Host>,
    /// What the hash of a new password costs.
    pub hash_cost: HashCost,
    /// The network, when it is not the links' own.
    pub carrier: Option<Box<dyn Carrier>>,
    /// Where other copies of the branch are met, when it is not the network.
    pub exchange: Option<Arc<dyn Exchange>>,
    /// Where events are kept over a restart, if they are.
    pub event_file: Option<EventFile>,
    /// What has replicas take what they must have, where no other thread does.
    pub wait_hook: Option<WaitHook>,
    /// The commit log elsewhere, where this process shares one with others.
    pub shared_log: Option<Arc<SharedLog>>,
    /// Where it is said that the node is to be closed.
    pub stop: Sender<Stop>,
    /// Ends the process at once, with this status.
    pub exit: fn(i32),
}

impl Core {
    /// Opens the database and recovers what was under way, in the order that keeps the money right.
    ///
    /// `is_first` is whether it is the first node of the process, in which the command line decides the role.
    ///
    /// # Errors
    /// One sentence when something can't be opened.
    pub fn open(config: &Config, mut around: Surroundings, is_first: bool) -> Result<Opened<Self>, String> {
        let trouble = |error: Error| format!("{}: {error}", config.db.display());
        let started_unix_ms = unix_ms_now();
        let (port, stop) = (around.port, around.stop.clone());
        let shared_log = around.shared_log.take();
        let dbs = open_database(config, stop.clone(), around.exit, shared_log.clone())?;
        if let Some(wait_hook) = around.wait_hook.take() {
            dbs.feed().set_wait_hook(wait_hook);
        }
        let key = find_or_make(&config.key)?;
        let dialler = Dialler {
            branch: config.name.clone(),
            key: key.clone(),
            tls: around.connector.clone(),
            exchange: around.exchange.clone(),
        };
        settle_role(&dbs, &config.replication, is_first, shared_log.is_some()).map_err(trouble)?;
        // Later ones begin by an order, before which the others were asked, or as a replica.
        if is_first && is_replaced(&dbs, &dialler, port, &config.replication.replicas).map_err(trouble)? {
            dbs.close();
            return Ok(Opened::Replaced(dbs.end()));
        }
        let is_primary = dbs.copy_state().role == CopyRole::Primary;
        let running_time = match is_primary {
            true => RunningTime::start(&dbs, around.host.unix_ms()),
            false => RunningTime::at_rest(&dbs),
        };
        let running_time = Arc::new(running_time.map_err(trouble)?);
        if is_primary {
            dbs.feed().announce(config.replication.sync_replicas);
        }
        let sms = if is_primary { start_sms(config, &dbs, &running_time)? } else { None };
        let replication = open_replication(config, &dbs, dialler, port, stop, shared_log).map_err(trouble)?;
        let bank = open_bank(config, &dbs, around.hash_cost, sms.as_ref(), is_primary)?;
        let (engine, lesson) = open_engine(config, &bank, running_time, sms.as_ref(), &key, around, &replication)?;
        let service = Arc::new(Service {
            bank,
            engine,
            lesson,
            replication,
            clients: Clients::new(config.max_clients),
            key,
            is_open: config.open,
            idle_timeout: config.idle_timeout,
            address: Address::from((config.branch.ip(), port)),
            started: Instant::now(),
            started_unix_ms,
            allowances: Allowances::default(),
        });
        Ok(Opened::Open(Box::new(Self { dbs, service, sms })))
    }
}

/// All that runs, as long as it does.
pub struct Node {
    core: Core,
    listeners: Vec<Listener>,
    #[cfg(feature = "mdns")]
    mdns: Option<Mdns>,
}

impl Node {
    /// Opens the branch, recovers what was under way, and answers at its listeners.
    ///
    /// `is_first` is whether it is the first node of the process, in which the command line decides the role.
    ///
    /// # Errors
    /// One sentence when something can't be opened or started.
    pub fn open(
        config: &Config,
        listeners: &Listeners,
        texts: &Arc<Texts>,
        stop: &Sender<Stop>,
        shared_log: Option<&Arc<SharedLog>>,
        is_first: bool,
    ) -> Result<Opened<Self>, String> {
        let trouble = |error: Error| format!("{}: {error}", config.db.display());
        let around = Surroundings {
            port: listeners.port,
            connector: listeners.connector.clone(),
            host: Box::new(ThisMachine::new()),
            hash_cost: HashCost::OWASP,
            carrier: None,
            exchange: None,
            event_file: DatabaseFile::resolve(&config.db).ok().map(EventFile::of),
            wait_hook: None,
            shared_log: shared_log.cloned(),
            stop: stop.clone(),
            exit: |status| std::process::exit(status),
        };
        let core = match Core::open(config, around, is_first)? {
            Opened::Open(core) => *core,
            Opened::Replaced(end) => return Ok(Opened::Replaced(end)),
        };
        let Service { bank, engine, lesson, replication, .. } = &*core.service;
        if replication.role() == CopyRole::Primary {
            engine.start_threads().map_err(trouble)?;
            if let Some(lesson) = lesson {
                lesson.start_thread().map_err(trouble)?;
            }
            discovery::start(engine.links());
        }
        let started = listeners.answer(bank.name(), &core.service, texts)?;
        #[cfg(feature = "mdns")]
        let mdns =
            if replication.role() == CopyRole::Primary { start_mdns(config, engine, listeners.port) } else { None };
        replication.start(engine).map_err(trouble)?;
        let role = replication.role().as_str();
        log::info!("branch {} is open as {role}, database {}", bank.name(), core.dbs.path().display());
        Ok(Opened::Open(Box::new(Self {
            core,
            listeners: started,
            #[cfg(feature = "mdns")]
            mdns,
        })))
    }

    /// Closes it. What is given disconnects when the database is closed and unlocked. `is_change` is whether it is
    /// opened again at once, in another role or with another file: then nothing more can come of what is under way, and
    /// everybody is told so at once.
    #[must_use]
    pub fn close(self, is_change: bool) -> Receiver<()> {
        let Core { dbs, service, sms } = self.core;
        service.replication.give_up_waiting(is_change);
        dbs.feed().stop_within(SYNC_STOP_WAIT);
        // A message that is just being delivered is waited for while the clients are told.
        let sms_stopping = sms.map(|sender| std::thread::spawn(move || sender.stop()));
        #[cfg(feature = "mdns")]
        if let Some(mdns) = self.mdns {
            mdns.stop();
        }
        let patience = if is_change { Duration::ZERO } else { HURRY_AFTER };
        service.clients.stop(patience, || service.engine.dismiss());
        for listener in self.listeners {
            listener.join();
        }
        if let Some(lesson) = &service.lesson {
            lesson.stop();
        }
        // What this copy has promised reaches the replicas before they lose it. At a change of role they have it, or
        // another copy has more.
        service.engine.stop();
        service.replication.stop(if is_change { Duration::ZERO } else { CATCH_UP_WAIT });
        service.clients.stop_replicas();
        if let Some(stopping) = sms_stopping
            && stopping.join().is_err()
        {
            log::error!("the sender of text messages had panicked");
        }
        dbs.close();
        // Nothing is appended any more, so a process that stands by need not wait for the silence.
        service.replication.leave(is_change);
        log::info!("branch {} is closed", service.bank.name());
        dbs.end()
    }
}

/// What can't go on in memory goes on from the disk. After a panic that is at once: nothing may be answered any more by
/// a machine that has found itself wrong, and whoever waits for it would wait for ever.
fn stop_for(error: &Error, stop: &Sender<Stop>, exit: fn(i32)) {
    if matches!(error, Error::Panicked(_)) {
        log::error!("{error}");
        exit(EXIT_WRONG);
    }
    // A full channel means that the server is stopping already.
    let _ = stop.try_send(Stop::DiskFailed);
}

fn open_database(
    config: &Config,
    stop: Sender<Stop>,
    exit: fn(i32),
    shared_log: Option<Arc<SharedLog>>,
) -> Result<Arc<DbsExec>, String> {
    let on_failure = move |failure: &Failure| match failure {
        Failure::Disk(error) => stop_for(error, &stop, exit),
        // A full channel means that the server is stopping already.
        Failure::FilesLost(_) => drop(stop.try_send(Stop::FilesLost)),
    };
    let remote_log = shared_log.map(|shared| shared as Arc<dyn RemoteLog>);
    let opening = Opening { must_exist: false, judge: &commands::judge_books, remote_log };
    DbsExec::open_as(&config.db, &opening, on_failure)
        .map(Arc::new)
        .map_err(|error| format!("{}: {error}", config.db.display()))
}

fn start_sms(
    config: &Config,
    dbs: &Arc<DbsExec>,
    running_time: &Arc<RunningTime>,
) -> Result<Option<SmsSender>, String> {
    let channel = config.sms.open_channel(&sms::process_environment).map_err(|error| error.to_string())?;
    let Some(channel) = channel else { return Ok(None) };
    let sender = SmsSender::start(SqlOutbox::new(Arc::clone(dbs), Arc::clone(running_time)), channel, Pace::default());
    sender.map(Some).map_err(|error| format!("the sender of text messages did not start: {error}"))
}

/// At a primary that has or awaits replicas, whatever is committed from here on is logged for them.
fn open_replication(
    config: &Config,
    dbs: &Arc<DbsExec>,
    dialler: Dialler,
    port: u16,
    stop: Sender<Stop>,
    shared_log: Option<Arc<SharedLog>>,
) -> Result<Arc<Replication>, Error> {
    let replication = Replication::new(Parts {
        dbs: Arc::clone(dbs),
        dialler,
        port,
        expected: config.replication.replicas.clone(),
        shared_log,
        log_bytes: config.replication.log_mib.saturating_mul(1 << 20),
        // A full channel means that the server is stopping already.
        reopen: Box::new(move |reopen| drop(stop.try_send(Stop::Reopen(reopen)))),
    });
    let has_replicas = !config.replication.replicas.is_empty() || config.replication.sync_replicas > 0;
    if has_replicas && dbs.copy_state().role == CopyRole::Primary {
        replication.log_from_now_on()?;
    }
    Ok(replication)
}

fn open_bank(
    config: &Config,
    dbs: &Arc<DbsExec>,
    hash_cost: HashCost,
    sms: Option<&SmsSender>,
    is_primary: bool,
) -> Result<Arc<Bank>, String> {
    let settings = BankSettings { name: config.name.clone(), opening_balance: config.opening_balance, hash_cost };
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
    let given = std::env::var_os(ADMIN_PASSWORD_VARIABLE).filter(|password| !password.is_empty());
    if let Some(password) = given {
        let password = password.into_string().map_err(|_| format!("{ADMIN_PASSWORD_VARIABLE}: it is not UTF-8"))?;
        commands::check_new_password(&password).map_err(|error| format!("{ADMIN_PASSWORD_VARIABLE}: {error}"))?;
        bank.set_password(ADMINISTRATOR, &password, Orderer::BRANCH).map_err(|error| error.to_string())?;
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

/// Recovers the transfers under way and links this branch to others; at a copy that is not written, neither.
fn open_engine(
    config: &Config,
    bank: &Arc<Bank>,
    running_time: Arc<RunningTime>,
    sms: Option<&SmsSender>,
    key: &BranchKey,
    around: Surroundings,
    replication: &Arc<Replication>,
) -> Result<(Arc<Engine>, Option<Arc<Lesson>>), String> {
    let trouble = |error: Error| format!("{}: {error}", config.db.display());
    let is_primary = replication.role() == CopyRole::Primary;
    let directory = Arc::new(Directory::open(Arc::clone(bank.dbs())).map_err(trouble)?);
    for peer in config.peers.iter().filter(|peer| is_primary && peer.name != config.name) {
        directory.learn(&peer.name, &peer.address).map_err(trouble)?;
    }
    let replaced = Arc::downgrade(replication);
    let instance = around.host.random().map_err(trouble)?;
    let identity = Identity {
        name: config.name.clone(),
        port: around.port,
        host: Some(config.branch.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()),
        key: key.clone(),
        instance: format!("{instance:016x}"),
        epoch: bank.dbs().copy_state().epoch,
        tls: around.connector,
        on_replaced: Arc::new(move |epoch| {
            if let Some(replication) = replaced.upgrade() {
                replication.hear(epoch);
            }
        }),
    };
    let on_failure = move |error: &Error| stop_for(error, &around.stop, around.exit);
    let links = Links::new(identity, directory);
    let (mut carrier, mut host) = (around.carrier.unwrap_or_else(|| Box::new(Arc::clone(&links))), around.host);
    let controls = config.teaching.then(Arc::<Controls>::default);
    if let Some(controls) = &controls {
        carrier = Box::new(TeachingCarrier { carrier, controls: Arc::clone(controls) });
        host = Box::new(TeachingHost { machine: host, controls: Arc::clone(controls) });
    }
    let parts = EngineParts {
        name: config.name.clone(),
        dbs: Arc::clone(bank.dbs()),
        carrier,
        links,
        host,
        running_time,
        sms: sms.map(SmsSender::notifier),
        event_file: around.event_file,
        sync_replicas: config.replication.sync_replicas,
        on_failure: Box::new(on_failure),
    };
    start_engine(config, parts, controls.as_ref(), is_primary).map_err(trouble)
}

/// Recovers the engine, with a lesson before it where a class has controls.
fn start_engine(
    config: &Config,
    parts: EngineParts,
    controls: Option<&Arc<Controls>>,
    is_primary: bool,
) -> Result<(Arc<Engine>, Option<Arc<Lesson>>), Error> {
    let teach =
        |engine: &Arc<Engine>| controls.map(|controls| Arc::new(Lesson::new(Arc::clone(engine), Arc::clone(controls))));
    if !is_primary {
        let engine = Engine::at_rest(parts);
        let lesson = teach(&engine);
        return Ok((engine, lesson));
    }
    if let Some(controls) = controls {
        controls.crash.arm(config.crash_at);
    }
    let mut lesson = None;
    let inbox_of = |engine: &Arc<Engine>| -> Weak<dyn Inbox> {
        lesson = teach(engine);
        match &lesson {
            Some(lesson) => Arc::downgrade(lesson) as Weak<dyn Inbox>,
            None => Arc::downgrade(engine) as Weak<dyn Inbox>,
        }
    };
    let engine = Engine::open(parts, inbox_of)?;
    if let Some(controls) = controls {
        // What a class has watched so far is there afterwards; of what the crash does to the money it changes nothing.
        let kept = Arc::downgrade(&engine);
        controls.crash.before_it(move || {
            if let Some(engine) = kept.upgrade() {
                engine.keep_all_events();
            }
        });
    }
    Ok((engine, lesson))
}

/// Announces the branch, if that is wanted and possible.
#[cfg(feature = "mdns")]
fn start_mdns(config: &Config, engine: &Engine, port: u16) -> Option<Mdns> {
    if !config.mdns {
        return None;
    }
    let listening = std::net::SocketAddr::new(config.branch.ip(), port);
    match Mdns::start(engine.links(), listening, engine.links().key()) {
        Ok(mdns) => Some(mdns),
        Err(error) => {
            log::warn!("mDNS is not available here ({error}); other branches are found by --peers");
            None
        }
    }
}
