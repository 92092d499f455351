//! What serves a client of the menu.
//!
//! The older client's port ([`crate::compat`]) serves the same dialogue; the two differ in the terminal alone.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use protocol::menu_line::ServerLine;

use super::dispatch::dispatch;
use super::{Ended, MenuSession, PlainTerminal, Terminal, Texts, run};
use crate::net::accept::{Client, Handler, IdleTimeoutStream};
use crate::service::Service;

/// What all menu clients share.
pub struct Menu {
    pub(crate) service: Arc<Service>,
    texts: Arc<Texts>,
}

impl Menu {
    /// A menu over a branch.
    #[must_use]
    pub fn new(service: Arc<Service>, texts: Arc<Texts>) -> Arc<Self> {
        Arc::new(Self { service, texts })
    }

    /// Has the dialogue with one client, from the first menu to the goodbye.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn converse(&self, client: &Client, terminal: &mut impl Terminal) -> io::Result<Ended> {
        let session = MenuSession::new(Arc::clone(&self.texts), self.service.bank.name().clone());
        let mut login = None;
        let ended = run(session, terminal, |request| dispatch(&self.service, client, &mut login, request));
        let goodbye = match ended {
            _ if client.is_stopping() => "The bank is closing. Goodbye.",
            // A client may end its input and still listen: a script that is through, for one.
            Ok(Ended::ClientGone) => "Your input has ended, you are logged out. Goodbye.",
            Ok(Ended::ByChoice | Ended::Idle | Ended::EndlessLine) | Err(_) => return ended,
        };
        // Whether anyone still hears it makes no difference to how the session ended.
        let _ = terminal.show(&[ServerLine::Exit(goodbye.into())]);
        ended
    }
}

pub(crate) fn log_end(name: &str, client: &Client, ended: &io::Result<Ended>) {
    match ended {
        Ok(_) | Err(_) if client.is_stopping() => log::info!("{client}: {name} closed: the branch is stopping"),
        Ok(ended) => log::info!("{client}: {name} closed: {ended}"),
        Err(error) => log::info!("{client}: {name} closed: the connection broke: {error}"),
    }
}

/// Serves the plain-text menu protocol.
pub struct MenuHandler(pub Arc<Menu>);

impl Handler for MenuHandler {
    fn name(&self) -> &'static str {
        "menu"
    }

    fn serve(&self, client: &Client) {
        log::info!("{client}: menu opened");
        let patience = IdleTimeoutStream::new(client.stream(), self.0.service.idle_timeout);
        let ended = self.0.converse(client, &mut PlainTerminal::new(&patience, &patience));
        log_end(self.name(), client, &ended);
    }

    fn ask_for_tls(&self, mut stream: &TcpStream) {
        let text = "This menu speaks TLS: connect with bank-client --tls. Goodbye.";
        let _ = stream.write_all(format!("{}\n", ServerLine::Exit(text.into())).as_bytes());
    }

    fn turn_away(&self, mut stream: &TcpStream) {
        // A newcomer that does not take this one line finds out by the end of the connection.
        let busy = ServerLine::Exit("The bank is busy: too many customers are here. Please come back later.".into());
        let _ = stream.write_all(format!("{busy}\n").as_bytes());
    }
}
