//! The door of the branch protocol: frames in, frames out.
//!
//! It reads what has come, hands every whole frame to the session at once, and writes the answers in one go.
//! A frame is kept in a buffer that grows only with bytes that really arrive, and must be complete within a
//! time limit once its first byte has come; so a client that sends half a frame and waits costs little and
//! not for long.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use protocol::Address;
use protocol::answer::{push_error, push_ok};
use protocol::frame::{BATCH_FRAME_BYTES_MAX, FRAME_BYTES_MAX, HEADER_BYTES, push_frame};
use protocol::request::{Action, RequestFrame, Watch};

use super::Context;
use super::operation::to_json;
use super::session::{After, Session};
use crate::limits::{FRAME_TIMEOUT, PIPELINE_REQUESTS, READ_BUFFER_BYTES, REOPEN_WAIT, WATCH_EVENTS, WATCH_POLL};
use crate::listener::{Client, Door};
use crate::transfer::links::Peership;

/// The door.
pub struct BranchDoor(pub Arc<Context>);

impl Door for BranchDoor {
    fn name(&self) -> &'static str {
        "branch"
    }

    fn serve(&self, client: &Client) {
        log::debug!("{client}: branch connection opened");
        let ended = self.converse(client);
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

impl BranchDoor {
    fn converse(&self, client: &Client) -> io::Result<()> {
        let mut session = Session::new(&self.0, client.peer().ip(), client.share_stream());
        let mut input = Input::new(client.stream());
        let mut out = Vec::new();
        while input.fill(self.0.idle_timeout)? {
            let requests = input.whole_frames();
            let bodies: Vec<&[u8]> = requests.bodies.iter().map(|range| &input.buffer[range.clone()]).collect();
            let (taken, after) = session.answer(&bodies, &mut |body| {
                if push_frame(&mut out, body, BATCH_FRAME_BYTES_MAX).is_err() {
                    out.extend_from_slice(&framed_error("answer_too_long", "the answer is too long; ask for less"));
                }
            });
            let consumed =
                if taken == bodies.len() { requests.end } else { requests.bodies[taken].start - HEADER_BYTES };
            let too_long = requests.too_long && taken == bodies.len();
            if too_long {
                let text = format!("a frame is at most {FRAME_BYTES_MAX} bytes, a batch {BATCH_FRAME_BYTES_MAX}");
                out.extend_from_slice(&framed_error("frame_too_long", &text));
            }
            if let After::ChangeRole(opened) = &after {
                // The change is durable; the answer says that it is also carried out, so it waits for that.
                client.stay_over_the_change();
                if opened.recv_timeout(REOPEN_WAIT).is_err() {
                    return Err(io::Error::other("the branch did not open again in its new role"));
                }
                return write_all(client.stream(), &mut out);
            }
            write_all(client.stream(), &mut out)?;
            input.consume(consumed);
            if too_long {
                return Ok(());
            }
            match after {
                After::GoOn | After::ChangeRole(_) => {}
                After::Watch(watch) => self.watch(client, &watch)?,
                After::Replicate(shipment) => return self.0.replication.ship(&shipment, client.stream()),
                After::BecomeLink(peer) => {
                    let address = Address::from((client.peer().ip(), peer.port));
                    let with = Peership { instance: peer.instance, epoch: peer.epoch };
                    let stream = client.stream().try_clone()?;
                    self.0.engine.links().accept(&peer.branch, &address, with, stream);
                    return Ok(());
                }
            }
            if client.is_stopping() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Streams events until the client sends or closes, or, when it does not want to follow, to the last.
    fn watch(&self, client: &Client, watch: &Watch) -> io::Result<()> {
        let events = self.0.engine.events();
        let mut after = watch.after.unwrap_or(0);
        let mut out = Vec::new();
        loop {
            let last = events.last_number();
            let found = events.since(after, watch.txid.as_ref(), WATCH_EVENTS);
            let is_all = found.len() < WATCH_EVENTS;
            after = if is_all { last.max(after) } else { found.last().map_or(last, |event| event.number) };
            for event in &found {
                push_answer(&mut out, &to_json(event));
            }
            write_all(client.stream(), &mut out)?;
            if !is_all {
                continue;
            }
            if !watch.follow {
                push_answer(&mut out, "null");
                return write_all(client.stream(), &mut out);
            }
            events.wait_for(after, WATCH_POLL);
            if client.is_stopping() || has_input(client.stream())? {
                return Ok(());
            }
        }
    }
}

/// Whole frames at the beginning of the input.
struct Requests {
    bodies: Vec<std::ops::Range<usize>>,
    /// Where the last of them ends.
    end: usize,
    /// Whether the next one is longer than is taken.
    too_long: bool,
}

/// What has come from the client and is not answered yet.
struct Input<'s> {
    stream: &'s TcpStream,
    buffer: Vec<u8>,
}

impl<'s> Input<'s> {
    fn new(stream: &'s TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads until there is at least one whole frame, or one that is too long. `false` is a clean end.
    fn fill(&mut self, idle_timeout: std::time::Duration) -> io::Result<bool> {
        let mut deadline = Instant::now() + if self.buffer.is_empty() { idle_timeout } else { FRAME_TIMEOUT };
        let mut chunk = [0; READ_BUFFER_BYTES];
        loop {
            let requests = self.whole_frames();
            if !requests.bodies.is_empty() || requests.too_long {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut stream = self.stream;
            match stream.read(&mut chunk) {
                Ok(0) if self.buffer.is_empty() => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    if self.buffer.is_empty() {
                        deadline = Instant::now() + FRAME_TIMEOUT;
                    }
                    self.buffer.extend_from_slice(&chunk[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn whole_frames(&self) -> Requests {
        let mut requests = Requests { bodies: Vec::new(), end: 0, too_long: false };
        while requests.bodies.len() < PIPELINE_REQUESTS {
            let start = requests.end + HEADER_BYTES;
            let Some(header) = self.buffer.get(requests.end..start) else { break };
            let header: [u8; HEADER_BYTES] = header.try_into().expect("the slice has the header's length");
            let length = u32::from_be_bytes(header) as usize;
            if length > BATCH_FRAME_BYTES_MAX {
                requests.too_long = true;
                break;
            }
            let Some(body) = self.buffer.get(start..start + length) else { break };
            if length > FRAME_BYTES_MAX && !is_batch(body) {
                requests.too_long = true;
                break;
            }
            requests.bodies.push(start..start + length);
            requests.end = start + length;
        }
        requests
    }

    fn consume(&mut self, count: usize) {
        self.buffer.drain(..count);
        if self.buffer.is_empty() && self.buffer.capacity() > READ_BUFFER_BYTES {
            // A large batch leaves no large buffer behind.
            self.buffer = Vec::new();
        }
    }
}

fn is_batch(body: &[u8]) -> bool {
    RequestFrame::parse(body).and_then(|frame| frame.action()) == Ok(Action::Batch)
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

fn write_all(mut stream: &TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(out)?;
    out.clear();
    if out.capacity() > READ_BUFFER_BYTES * 4 {
        *out = Vec::new();
    }
    Ok(())
}

fn push_answer(out: &mut Vec<u8>, result: &str) {
    let mut body = Vec::new();
    push_ok(&mut body, result, None);
    push_frame(out, &body, BATCH_FRAME_BYTES_MAX).expect("an event is far below the longest frame");
}

fn framed_error(code: &str, text: &str) -> Vec<u8> {
    let (mut body, mut frame) = (Vec::new(), Vec::new());
    push_error(&mut body, code, text);
    push_frame(&mut frame, &body, FRAME_BYTES_MAX).expect("one sentence is far below the longest frame");
    frame
}
