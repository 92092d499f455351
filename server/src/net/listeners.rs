//! The listening sockets, which stay open when everything behind them is opened again, and TLS.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use protocol::BranchName;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tls::{Acceptor, Connector};

use crate::branch::connection::BranchHandler;
use crate::cli::config::Config;
use crate::compat::OlderMenuHandler;
use crate::limits::SEND_BUFFER_BYTES;
use crate::menu::Texts;
use crate::menu::connection::{Menu, MenuHandler};
use crate::net::accept::{Handler, Listener};
use crate::net::tls::TlsHandler;
use crate::service::Service;

/// The listening sockets.
#[derive(Debug)]
pub struct Listeners {
    branch: TcpListener,
    menu: TcpListener,
    lab: Option<TcpListener>,
    /// Of the branch protocol.
    pub port: u16,
    /// Takes TLS at the branch port and the menu's.
    acceptor: Option<Acceptor>,
    /// Speaks TLS to others.
    pub connector: Option<Connector>,
    /// Whether it was said that they are open: once for the whole process.
    are_announced: Cell<bool>,
}

impl Listeners {
    /// Listens. Nobody is answered yet.
    ///
    /// # Errors
    /// One sentence when a port is taken, or a certificate is not what it should be.
    pub fn open(config: &Config) -> Result<Self, String> {
        let (acceptor, connector) = open_tls(config)?;
        let branch = bind(config.branch, "--port")?;
        let port = branch.local_addr().map_err(|error| error.to_string())?.port();
        let menu = bind(config.menu, "--menu-port")?;
        let lab = config.lab.map(|address| bind(address, "--lab-port")).transpose()?;
        Ok(Self { branch, menu, lab, port, acceptor, connector, are_announced: Cell::new(false) })
    }

    /// Reads the certificates again, for connections from now on. Those that were read before stay if it fails.
    pub fn renew_tls(&self, config: &Config) {
        if self.acceptor.is_none() && self.connector.is_none() {
            log::info!("SIGHUP received: there are no certificates to read again");
            return;
        }
        match open_tls(config) {
            Ok((acceptor, connector)) => {
                if let (Some(shown), Some(read)) = (&self.acceptor, &acceptor) {
                    shown.renew(read);
                }
                if let (Some(trusted), Some(read)) = (&self.connector, &connector) {
                    trusted.renew(read);
                }
                log::info!("SIGHUP received: the certificates were read again");
            }
            Err(error) => log::error!("the certificates could not be read again, the old ones stay: {error}"),
        }
    }

    /// Answers whoever comes, and says once on standard output where.
    ///
    /// # Errors
    /// One sentence when a thread can't be started.
    pub fn answer(
        &self,
        name: &BranchName,
        service: &Arc<Service>,
        texts: &Arc<Texts>,
    ) -> Result<Vec<Listener>, String> {
        let menu = Menu::new(Arc::clone(service), Arc::clone(texts));
        let mut listeners = Vec::new();
        let mut start = |label: &str, listener: &TcpListener, handler: Arc<dyn Handler>| -> Result<(), String> {
            let started = listener
                .try_clone()
                .and_then(|listener| Listener::start(listener, handler, Arc::clone(&service.clients)))
                .map_err(|error| format!("no thread for the listener: {error}"))?;
            if !self.are_announced.get() {
                announce(&format!("{label} on {}", started.address()));
            }
            listeners.push(started);
            Ok(())
        };
        let branch = self.with_tls(Arc::new(BranchHandler(Arc::clone(service))));
        start(&format!("branch {name} listening"), &self.branch, branch)?;
        start("menu", &self.menu, self.with_tls(Arc::new(MenuHandler(Arc::clone(&menu)))))?;
        if let Some(listener) = &self.lab {
            start("lab", listener, Arc::new(OlderMenuHandler(menu)))?;
        }
        self.are_announced.set(true);
        Ok(listeners)
    }

    fn with_tls(&self, handler: Arc<dyn Handler>) -> Arc<dyn Handler> {
        match &self.acceptor {
            Some(acceptor) => Arc::new(TlsHandler::new(handler, acceptor.clone())),
            None => handler,
        }
    }
}

/// Reads the certificates; says what goes unencrypted.
fn open_tls(config: &Config) -> Result<(Option<Acceptor>, Option<Connector>), String> {
    let trouble = |error: tls::SetUpError| error.to_string();
    let acceptor = match &config.tls {
        Some((certificate, key)) => Some(Acceptor::new(certificate, key).map_err(trouble)?),
        None => None,
    };
    let connector = config.tls_ca.as_deref().map(|path| Connector::new(Some(path))).transpose().map_err(trouble)?;
    if let Some(warning) = acceptor.as_ref().and_then(Acceptor::warning) {
        log::warn!("{warning}");
    }
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

/// Connections get their bound of the listener.
fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {} on {} is in use; name another with {flag}, or 0 for any", address.port(), address.ip())
        }
        _ => format!("cannot listen on {address}: {error}"),
    })?;
    set_socket_send_buffer_size(&listener, SEND_BUFFER_BYTES)
        .map_err(|error| format!("what is held for clients at {address} cannot be bounded: {error}"))?;
    Ok(listener)
}

/// Prints a line that a script may wait for.
fn announce(line: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        log::warn!("standard output is closed: {error}");
    }
}
