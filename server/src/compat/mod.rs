//! The first system's menu client: its port, off by default, and its wire format ([`terminal`]).
//!
//! It has the menu's own dialogue; nothing else of the server knows that there is an older client.

pub mod terminal;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::menu::connection::{Menu, log_end};
use crate::net::accept::{Client, Handler, IdleTimeoutStream};

pub use terminal::LabTerminal;

/// The most bytes of one turn to the older client: it reads as many at once, and has no framing.
pub const LAB_TURN_BYTES_MAX: usize = 1024;
/// How long the older client's port waits for one more digit of the key, in milliseconds. The owner of the
/// socket sets it as read timeout before [`LabTerminal::handshake`].
pub const LAB_KEY_TIMEOUT_MS: u64 = 200;
/// How many such waits go by without a first digit before the older client's port gives a newcomer up.
pub const LAB_KEY_WAITS_MAX: u32 = 50;

/// Serves the older client.
pub struct OlderMenuHandler(pub Arc<Menu>);

impl Handler for OlderMenuHandler {
    fn name(&self) -> &'static str {
        "lab"
    }

    fn serve(&self, client: &Client) {
        log::info!("{client}: lab opened");
        let patience = IdleTimeoutStream::new(client.stream(), Duration::from_millis(LAB_KEY_TIMEOUT_MS));
        let ended = LabTerminal::handshake(&patience, &patience).and_then(|mut terminal| {
            patience.set_limit(self.0.service.idle_timeout);
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
