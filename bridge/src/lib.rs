//! The bank's HTTP bridge: REST for scripts, the dashboard for people, one stream of events for both.
//!
//! It holds no money and no disk. It asks the branches over the branch protocol, as a holder of the bank's key, and
//! decides itself who may ask for what: so the table in [`api`] is what stands between a browser and the bank.
//! It is the bank's only async program, because thousands of idle browsers are what async is good at; calls to
//! branches block, on threads.
//!
//! - [`serve`]: wires it together and serves until a signal.
//! - [`server`]: sockets; [`guard`]: what each request passes; [`api`]: the table of paths, [`routes`]: what answers them; [`access`]: who may.
//! - [`branches`], [`branch`]: the allow-list, one branch.
//! - [`who`], [`session`], [`logins`], [`passwords`], [`password_check`]: who is signed in, until when; [`quota`]: what each may have under way.
//! - [`watchers`], [`auditor`]: threads that look at the branches, and write what they find into [`branch_state`],
//!   [`books`], [`store`] and [`chart_history`]; [`event_cache`]: the store as text for streams.
//! - [`demo`], [`supervisor`]: a whole bank on this machine, for a lecture.
//!
//! What it leaves out: TLS (a proxy's business), permission below "administrator" and "own account", and any state
//! that survives its end.

pub mod access;
pub mod api;
pub mod arguments;
pub mod assets;
pub mod auditor;
pub mod bank;
pub mod books;
pub mod branch;
pub mod branch_state;
pub mod branches;
pub mod bridge;
pub mod chart_history;
pub mod config;
pub mod demo;
pub mod error;
pub mod event_cache;
pub mod guard;
pub mod limits;
pub mod logins;
pub mod metrics;
pub mod offline_page;
pub mod openapi;
pub mod origin;
pub mod params;
pub mod password_check;
pub mod passwords;
pub mod proxy;
pub mod quota;
pub mod request_id;
pub mod routes;
pub mod scenario;
pub mod server;
pub mod session;
pub mod shown_scenario;
pub mod stop;
pub mod store;
pub mod supervisor;
pub mod transcript;
pub mod watchers;
pub mod who;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};

use crate::bridge::{Bridge, Restarter};
use crate::config::Config;
use crate::watchers::Watchers;

/// Serves until SIGINT or SIGTERM, and ends within two seconds of it. Says on standard output where, once it listens.
///
/// `restarter` is who can start a crashed branch again, if anyone can.
///
/// # Errors
/// One sentence when it can't start.
pub fn serve(config: Config, restarter: Option<Arc<dyn Restarter>>) -> Result<(), String> {
    command_line::descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("bridge")
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .build()
        .map_err(|error| format!("no threads: {error}"))?;
    let outcome = runtime.block_on(run(config, restarter));
    // A call to a branch that has stopped may block for long yet; it is the branch's to finish or not.
    runtime.shutdown_background();
    outcome
}

async fn run(config: Config, restarter: Option<Arc<dyn Restarter>>) -> Result<(), String> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let listener = bind(config.listen)?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    warn(&config);
    let bridge = Arc::new(Bridge::new(config, address, restarter).map_err(|error| error.to_string())?);
    let watchers = Watchers::start(&bridge)?;
    let serving = tokio::spawn(server::serve(Arc::clone(&bridge), listener, routes::router(Arc::clone(&bridge))));
    announce(address);
    tokio::select! {
        _ = interrupt.recv() => log::info!("SIGINT received: the bridge is stopping"),
        _ = terminate.recv() => log::info!("SIGTERM received: the bridge is stopping"),
    }
    bridge.stop.set();
    scenario::let_go(&bridge);
    let served = serving.await.map_err(|error| format!("the server failed: {error}"));
    let ended = Arc::clone(&bridge);
    let threads = tokio::task::spawn_blocking(move || watchers.end(&ended)).await;
    served.and(threads.map_err(|error| format!("a thread failed: {error}")))
}

fn no_signals(error: io::Error) -> String {
    format!("signals cannot be watched: {error}")
}

/// Connections get their bound of the listener.
fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let socket = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(limits::SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        socket.listen(limits::BACKLOG)
    };
    socket().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {} on {} is in use; name another with --port, or 0 for any", address.port(), address.ip())
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

fn warn(config: &Config) {
    if !config.listen.ip().is_loopback() {
        log::warn!(
            "the bridge listens beyond this machine and HTTP is not encrypted: passwords can be read on the way, so \
             put a proxy with TLS in front of it"
        );
    }
    if config.is_open {
        log::warn!("the bridge is open: every program on this machine may do everything at every branch");
    }
    if config.credentials.keys.found.is_empty() {
        log::warn!("no branch key was found (--key bank.key), so only branches that are open can be asked");
    }
}

/// Prints the line that a script may wait for.
fn announce(address: SocketAddr) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "bridge on http://{address}").and_then(|()| out.flush()) {
        log::warn!("standard output is closed: {error}");
    }
}
