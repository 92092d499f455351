//! The menu's two doors: the plain one, and the older client's.
//!
//! Both serve the same dialogue; they differ in the terminal alone.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use protocol::menu_line::ServerLine;

use super::perform::perform;
use super::{Ended, LAB_KEY_TIMEOUT_MS, LabTerminal, PlainTerminal, Session, Terminal, Texts, drive};
use crate::branch::Context;
use crate::net::accept::{Client, Door, Patience};

/// What both doors share.
pub struct Menu {
    context: Arc<Context>,
    texts: Arc<Texts>,
}

impl Menu {
    /// A menu over a branch.
    #[must_use]
    pub fn new(context: Arc<Context>, texts: Arc<Texts>) -> Arc<Self> {
        Arc::new(Self { context, texts })
    }

    fn converse(&self, client: &Client, terminal: &mut impl Terminal) -> io::Result<Ended> {
        let session = Session::new(Arc::clone(&self.texts), self.context.bank.name().clone());
        let mut login = None;
        let ended = drive(session, terminal, |request| perform(&self.context, client, &mut login, request));
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

fn log_end(door: &str, client: &Client, ended: &io::Result<Ended>) {
    match ended {
        Ok(_) | Err(_) if client.is_stopping() => log::info!("{client}: {door} closed: the branch is stopping"),
        Ok(ended) => log::info!("{client}: {door} closed: {ended}"),
        Err(error) => log::info!("{client}: {door} closed: the connection broke: {error}"),
    }
}

/// The door of the plain-text menu protocol.
pub struct PlainDoor(pub Arc<Menu>);

impl Door for PlainDoor {
    fn name(&self) -> &'static str {
        "menu"
    }

    fn serve(&self, client: &Client) {
        log::info!("{client}: menu opened");
        let patience = Patience::new(client.stream(), self.0.context.idle_timeout);
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

/// The door of the older client.
pub struct LabDoor(pub Arc<Menu>);

impl Door for LabDoor {
    fn name(&self) -> &'static str {
        "lab"
    }

    fn serve(&self, client: &Client) {
        log::info!("{client}: lab opened");
        let patience = Patience::new(client.stream(), Duration::from_millis(LAB_KEY_TIMEOUT_MS));
        let ended = LabTerminal::handshake(&patience, &patience).and_then(|mut terminal| {
            patience.set_limit(self.0.context.idle_timeout);
            self.0.converse(client, &mut terminal)
        });
        log_end(self.name(), client, &ended);
    }

    fn ask_for_tls(&self, _stream: &TcpStream) {
        // Its wire format is older than TLS, so it never asks for any (see `config`).
    }

    fn turn_away(&self, _stream: &TcpStream) {
        // Nothing can be said before the key is known; the connection is closed.
    }
}
