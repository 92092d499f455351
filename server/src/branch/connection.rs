//! Connections of the branch protocol: frames in, frames out.
//!
//! It reads what has come, hands every whole frame to the session at once, and has each answer written before the next
//! is made; or leaves the answers of operations to another thread, and reads on (`super::replies`). Both directions are
//! in bounded memory: [`super::incoming`] and [`super::outgoing`].

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use protocol::frame::{BATCH_FRAME_BYTES_MAX, FRAME_BYTES_MAX};
use protocol::request::Watch;
use protocol::{Address, Epoch};

use super::answers::to_json;
use super::incoming::{Filled, Incoming, Terms};
use super::outgoing::{Outgoing, framed_error};
use super::replies::Replies;
use super::session::{After, BranchSession};
use crate::limits::{REOPEN_WAIT, STRANGER_IDLE, WATCH_EVENTS, WATCH_POLL};
use crate::net::accept::{Client, Handler};
use crate::peers::links::PeerInfo;
use crate::service::Service;
use crate::service::access::Caller;

/// Serves the branch protocol.
pub struct BranchHandler(pub Arc<Service>);

impl Handler for BranchHandler {
    fn name(&self) -> &'static str {
        "branch"
    }

    fn serve(&self, client: &Client) {
        log::debug!("{client}: branch connection opened");
        let replies = Replies::new(client.share_stream());
        let ended = self.converse(client, &replies);
        // What is under way has its effect, and its client is counted until then.
        replies.end();
        match ended {
            Ok(()) => log::debug!("{client}: branch connection closed"),
            Err(error) => log::debug!("{client}: branch connection broke: {error}"),
        }
    }

    fn ask_for_tls(&self, mut stream: &TcpStream) {
        let text = "this port speaks TLS: give bank-client --tls, and a branch --tls-ca";
        let _ = stream.write_all(&framed_error("tls_required", text));
    }

    fn turn_away(&self, mut stream: &TcpStream) {
        // A newcomer that does not take this answer finds out by the end of the connection.
        let _ = stream.write_all(&framed_error("busy", "the bank is busy: too many clients are connected"));
    }
}

impl BranchHandler {
    fn converse(&self, client: &Client, replies: &Arc<Replies>) -> io::Result<()> {
        let mut session = BranchSession::new(&self.0, client);
        let mut incoming = Incoming::new(client.stream()).beside(replies);
        let mut outgoing = Outgoing::shared(client.stream(), replies);
        loop {
            let terms = self.terms(&session);
            match incoming.fill(&terms)? {
                Filled::Requests => {}
                Filled::End => return Ok(()),
                Filled::TooLong => {
                    let text = format!(
                        "a frame is at most {FRAME_BYTES_MAX} bytes, a batch of someone who has proved who it is {BATCH_FRAME_BYTES_MAX}"
                    );
                    outgoing.error("frame_too_long", &text)?;
                    return outgoing.flush();
                }
                Filled::Busy => {
                    outgoing.error("busy", "the bank is busy with other long requests; try again in a moment")?;
                    return outgoing.flush();
                }
            }
            let bodies = incoming.bodies(terms.frame_bytes_max);
            let goes_on = incoming.goes_on_after(bodies.len());
            let (taken, after) = session.answer(&bodies, goes_on, &mut outgoing)?;
            if let After::ChangeRole(opened) = &after {
                // The change is durable; the answer says that it is also carried out, so it waits for that.
                client.stay_over_the_change();
                if opened.recv_timeout(REOPEN_WAIT).is_err() {
                    return Err(io::Error::other("the branch did not open again in its new role"));
                }
                return outgoing.flush();
            }
            outgoing.flush_gathered()?;
            if incoming.is_long() {
                // Its bytes are given back when it is answered.
                outgoing.settle()?;
            }
            incoming.consume(taken);
            match after {
                After::GoOn | After::ChangeRole(_) => {}
                // What stands behind it already is the client's sign that it has seen enough.
                After::Watch(watch) => self.watch(client, &watch, incoming.goes_on_after(0), &mut outgoing)?,
                After::Replicate(stream) => {
                    client.become_replica();
                    return self.0.replication.serve_replica(&stream, client.stream());
                }
                After::BecomeLink(peer) => {
                    let caller = Address::from((client.peer().ip(), peer.port));
                    let told = peer.host.as_deref().and_then(|host| Address::new(host, peer.port).ok());
                    let address = told.map_or_else(|| caller.clone(), |told| told.told_by(&caller));
                    let epoch = Epoch::new(peer.epoch, &peer.epoch_id);
                    let with = PeerInfo { instance: peer.instance, epoch };
                    let stream = client.stream().try_clone()?;
                    self.0.engine.links().accept(&peer.branch, &address, with, stream);
                    return Ok(());
                }
            }
            if client.is_stopping() {
                return Ok(());
            }
        }
    }

    /// What the client may send, as far as it has proved who it is.
    fn terms(&self, session: &BranchSession<'_>) -> Terms<'_> {
        let (frame_bytes_max, idle, allowance) = match session.requester().caller() {
            Caller::Anonymous => {
                (FRAME_BYTES_MAX, self.0.idle_timeout.min(STRANGER_IDLE), &self.0.allowances.strangers_frames)
            }
            Caller::Customer(_) | Caller::KeyHolder | Caller::Open => {
                (BATCH_FRAME_BYTES_MAX, self.0.idle_timeout, &self.0.allowances.frames)
            }
        };
        Terms { frame_bytes_max, idle, owner: session.requester().owner(), allowance }
    }

    /// Streams events until the client sends or closes, or, when it does not want to follow, to the last.
    fn watch(&self, client: &Client, watch: &Watch, has_sent: bool, outgoing: &mut Outgoing<'_>) -> io::Result<()> {
        let events = self.0.engine.events();
        let mut after = watch.after.unwrap_or(0);
        loop {
            let last = events.last_number();
            let found = events.since(after, watch.txid.as_ref(), WATCH_EVENTS);
            let is_all = found.len() < WATCH_EVENTS;
            // The last one found may be newer than `last`: it happened between the two looks.
            let last_found = found.last().map_or(after, |event| event.number);
            after = if is_all { last.max(last_found) } else { last_found };
            for event in &found {
                outgoing.result(&to_json(event))?;
            }
            if !is_all {
                continue;
            }
            if !watch.follow {
                outgoing.result("null")?;
                return outgoing.flush();
            }
            outgoing.flush()?;
            if has_sent {
                return Ok(());
            }
            events.wait_for(after, WATCH_POLL);
            if client.is_stopping() || has_input(client.stream())? {
                return Ok(());
            }
        }
    }
}

/// Whether the client has sent something, or has gone.
fn has_input(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match peeked {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
