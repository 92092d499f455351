//! The branch's program: reads the command line, wires the parts together, waits for the end.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bank_server::cli::arguments::{Arguments, Command};
use bank_server::cli::config::Config;
use bank_server::cli::report::complain;
use bank_server::cli::{backup, commands};
use bank_server::clock;
use bank_server::dbs_exec::{put_in_place, remove_database};
use bank_server::limits::{REOPEN_WAIT, STOP_EVENTS};
use bank_server::menu::Texts;
use bank_server::net::listeners::Listeners;
use bank_server::node::{Node, Opened, Stop};
use bank_server::replication::Reopen;
use bank_server::service_manager::{State, notify};
use bank_server::shared_log::SharedLog;
#[cfg(feature = "postgres")]
use bank_server::shared_log::postgres::PostgresStore;
use command_line::streams::EXIT_IO;
use command_line::{EXIT_USAGE, descriptors};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The server could not start.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    let parsed = match command_line::parse::<Arguments>() {
        Ok(parsed) => parsed,
        Err(status) => return status,
    };
    let arguments = &parsed.arguments;
    command_line::logging::start();
    let outcome = match &arguments.command {
        Some(Command::Passwd { account }) => commands::passwd(&arguments.database, *account),
        Some(Command::Audit { json, expect }) => commands::audit(&arguments.database, *json, *expect),
        Some(Command::Backup { to }) => backup::backup(&arguments.database, to),
        Some(Command::Restore { from, force }) => backup::restore(&arguments.database, from, *force),
        None => match Config::resolve(arguments) {
            Ok(config) => serve(&config),
            Err(error) => {
                complain(&parsed.explain(&error));
                return ExitCode::from(EXIT_USAGE);
            }
        },
    };
    match outcome {
        Ok(status) => status,
        Err(error) => {
            complain(&error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// How a node of the branch ended.
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
    descriptors::raise_limit();
    let texts = Arc::new(find_texts(config)?);
    // The ports come first: a port in use must leave the database untouched.
    let listeners = Listeners::open(config)?;
    let shared_log = open_shared_log(config, &listeners)?;
    let mut is_first = true;
    let mut is_told = false;
    let mut awaited: Option<Sender<()>> = None;
    loop {
        let (ended, end) = match Node::open(config, &listeners, &texts, &stop, shared_log.as_ref(), is_first)? {
            Opened::Open(node) => {
                if let Some(awaited) = awaited.take() {
                    // Whoever ordered the change of role may have gone.
                    let _ = awaited.try_send(());
                }
                if !is_told {
                    notify(State::Ready);
                    is_told = true;
                }
                let ended = wait_for_stop(&stopped, || listeners.renew_tls(config));
                let is_change = matches!(ended, Ended::Reopen(_));
                if !is_change {
                    notify(State::Stopping);
                }
                (ended, node.close(is_change))
            }
            Opened::Replaced(end) => (Ended::Reopen(Reopen::Role { awaited: awaited.take() }), end),
        };
        match ended {
            Ended::Reopen(_) => wait_until_closed(&end)?,
            Ended::Stopped(_) => {}
        }
        match ended {
            Ended::Stopped(status) => return Ok(status),
            Ended::Reopen(Reopen::Role { awaited: someone }) => awaited = someone,
            Ended::Reopen(Reopen::Snapshot { copy, keep_old }) => take_over(config, &copy, keep_old)?,
        }
        is_first = false;
    }
}

/// The commit log elsewhere. Nothing is dialled yet.
#[cfg(feature = "postgres")]
fn open_shared_log(config: &Config, listeners: &Listeners) -> Result<Option<Arc<SharedLog>>, String> {
    let Some(url) = &config.commit_log else { return Ok(None) };
    let address = std::net::SocketAddr::new(config.branch.ip(), listeners.port).to_string();
    let store = PostgresStore::new(url, config.name.to_string(), address, listeners.connector.clone())?;
    Ok(Some(SharedLog::new(Box::new(store))))
}

/// The configuration has refused it.
#[cfg(not(feature = "postgres"))]
fn open_shared_log(_config: &Config, _listeners: &Listeners) -> Result<Option<Arc<SharedLog>>, String> {
    Ok(None)
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
        Some(aside) => remove_database(&aside).map_err(|error| format!("{}: {error}", aside.display()))?,
        None => {}
    }
    Ok(())
}

/// SIGINT and SIGTERM stop the branch. So does SIGHUP when it says that the terminal is gone from which the branch was
/// started, unless that was to be ignored (`nohup`); sent by anyone else, it has the certificates read again, as
/// service managers expect.
fn watch_signals(stop: Sender<Stop>) -> Result<(), String> {
    let trouble = |error: io::Error| format!("signals cannot be watched: {error}");
    let is_hangup_ignored = is_hangup_ignored();
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(trouble)?;
    let ends_with_terminal = has_terminal() && !is_hangup_ignored;
    let watch = move || {
        for signal in signals.forever() {
            if signal == SIGHUP && (!ends_with_terminal || has_terminal()) {
                // One that waits is enough; and the channel must have room for what ends the branch.
                if stop.is_empty() {
                    let _ = stop.try_send(Stop::ReadAgain);
                }
                continue;
            }
            // A full channel means that the server is stopping already.
            let _ = stop.try_send(Stop::Signal(signal));
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(trouble)?;
    Ok(())
}

/// Whether the process has a terminal that controls it.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether whoever started the process had it ignore SIGHUP, as `nohup` does. It is not known on every system.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (SIGHUP - 1)) != 0
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

fn wait_for_stop(stopped: &Receiver<Stop>, read_again: impl Fn()) -> Ended {
    let stop = loop {
        match stopped.recv().expect("the signals' thread keeps a sender as long as the process runs") {
            Stop::ReadAgain => read_again(),
            stop => break stop,
        }
    };
    match stop {
        Stop::ReadAgain => unreachable!("that ends nothing"),
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
        Stop::FilesLost => {
            log::error!("put the database back in its place, or restore a backup, before the next start");
            Ended::Stopped(ExitCode::from(EXIT_IO))
        }
        Stop::DiskFailed => {
            log::error!("the branch stops because its disk failed; the next start recovers from what is on disk");
            Ended::Stopped(ExitCode::from(EXIT_IO))
        }
    }
}

fn find_texts(config: &Config) -> Result<Texts, String> {
    let beside = std::env::current_exe().ok().and_then(|program| program.parent().map(ToOwned::to_owned));
    Texts::find(config.menus.as_deref(), beside.as_deref()).map_err(|error| error.to_string())
}
