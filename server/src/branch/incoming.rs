//! What has come from a client of the branch protocol and is not answered yet, in bounded memory.
//!
//! A frame is kept in a buffer that grows only with bytes that really arrive, and must be complete within a time limit
//! once its first byte has come; so a client that sends half a frame and waits costs little and not for long. What is
//! longer than [`FRAME_BYTES_FREE`] comes out of an allowance that all clients share, before any of it is read, and is
//! given back when it is answered.
//!
//! While requests that were handed in are under way, whoever waits here for more is also there for what the client does
//! not take of their answers (`Replies`).

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::frame::{FRAME_BYTES_MAX, HEADER_BYTES};
use protocol::request::{Action, RequestFrame};

use super::replies::{Replies, Woken};
use crate::allowance::{Allowance, Allowed, Owner};
use crate::limits::{FRAME_BYTES_FREE, FRAME_TIMEOUT, PIPELINE_REQUESTS, READ_BUFFER_BYTES};

/// What a client may send.
pub struct Terms<'a> {
    /// The longest frame.
    pub frame_bytes_max: usize,
    /// How long it may be silent between two requests.
    pub idle: Duration,
    /// Who answers for a long frame,
    pub owner: Owner,
    /// and out of what.
    pub allowance: &'a Arc<Allowance>,
}

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub enum Filled {
    /// At least one whole request.
    Requests,
    /// The clean end between two frames.
    End,
    /// A frame that is longer than this client may send.
    TooLong,
    /// No room for a long frame: others have it.
    Busy,
}

/// The input.
pub struct Incoming<'s> {
    stream: &'s TcpStream,
    buffer: Vec<u8>,
    held: Option<Allowed>,
    replies: Option<Arc<Replies>>,
    /// The socket's own limit of time, as it was set last.
    read_timeout: Option<Duration>,
}

/// Whole frames at the beginning of the input.
struct Ahead {
    bodies: Vec<Range<usize>>,
    /// The length that the next one announces.
    announced: Option<usize>,
    is_too_long: bool,
}

impl<'s> Incoming<'s> {
    /// Nothing yet.
    #[must_use]
    pub fn new(stream: &'s TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), held: None, replies: None, read_timeout: None }
    }

    /// The same beside answers that another thread writes.
    #[must_use]
    pub fn beside(self, replies: &Arc<Replies>) -> Self {
        Self { replies: Some(Arc::clone(replies)), ..self }
    }

    /// Reads until there is at least one whole frame, or one that is not taken.
    ///
    /// # Errors
    /// The connection's; `TimedOut` when the client was silent for too long; `UnexpectedEof` inside a frame.
    pub fn fill(&mut self, terms: &Terms<'_>) -> io::Result<Filled> {
        let mut deadline = Instant::now() + if self.buffer.is_empty() { terms.idle } else { FRAME_TIMEOUT };
        let mut chunk = [0; READ_BUFFER_BYTES];
        loop {
            let ahead = self.ahead(terms.frame_bytes_max);
            if !ahead.bodies.is_empty() {
                return Ok(Filled::Requests);
            }
            if ahead.is_too_long {
                return Ok(Filled::TooLong);
            }
            if self.held.is_none()
                && let Some(length) = ahead.announced.filter(|length| *length > FRAME_BYTES_FREE)
            {
                self.held = terms.allowance.take(terms.owner, length, FRAME_TIMEOUT);
                if self.held.is_none() {
                    return Ok(Filled::Busy);
                }
                deadline = Instant::now() + FRAME_TIMEOUT;
            }
            match self.read(&mut chunk, deadline, terms.idle) {
                Ok(0) if self.buffer.is_empty() => return Ok(Filled::End),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    if self.buffer.is_empty() {
                        deadline = Instant::now() + FRAME_TIMEOUT;
                    }
                    self.buffer.extend_from_slice(&chunk[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A client that waits for an answer is not silent.
                Err(error) if is_timeout(&error) && self.buffer.is_empty() => {
                    let quiet_since = self.replies.as_ref().map(|replies| replies.at_rest_since());
                    let longer = match quiet_since {
                        Some(Some(since)) => since + terms.idle,
                        Some(None) => Instant::now() + terms.idle,
                        None => return Err(error),
                    };
                    if longer <= Instant::now() {
                        return Err(error);
                    }
                    deadline = longer;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what has come, or waits for it until the deadline. Meanwhile writes what the client did not take at once of
    /// answers that were made by another thread.
    fn read(&mut self, chunk: &mut [u8], deadline: Instant, idle: Duration) -> io::Result<usize> {
        while let Some(replies) = self.replies.as_ref().filter(|replies| replies.is_busy()) {
            match replies.wait_for_input(deadline.saturating_duration_since(Instant::now()))? {
                Woken::Input => break,
                Woken::Backlog => replies.wait(usize::MAX)?,
                Woken::TimedOut => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // A wait that has just begun is always as long, and then the system knows it already.
        let timeout = if idle.saturating_sub(left) < idle / 64 { idle } else { left };
        if self.read_timeout != Some(timeout) {
            self.stream.set_read_timeout(Some(timeout))?;
            self.read_timeout = Some(timeout);
        }
        (&mut &*self.stream).read(chunk)
    }

    /// The bodies of the whole requests that have come, in order.
    #[must_use]
    pub fn bodies(&self, frame_bytes_max: usize) -> Vec<&[u8]> {
        self.ahead(frame_bytes_max).bodies.into_iter().map(|range| &self.buffer[range]).collect()
    }

    /// Whether what has come is a long frame, which others may wait to send.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.held.is_some()
    }

    /// Whether something stands behind the first so many requests.
    #[must_use]
    pub fn goes_on_after(&self, requests: usize) -> bool {
        self.end_of(requests) < self.buffer.len()
    }

    /// Forgets the first so many requests, which are answered.
    pub fn consume(&mut self, requests: usize) {
        self.buffer.drain(..self.end_of(requests));
        // A long frame stands alone: what is left behind it is at most what was read with its last bytes.
        self.held = None;
        if self.buffer.is_empty() && self.buffer.capacity() > READ_BUFFER_BYTES {
            // A large batch leaves no large buffer behind.
            self.buffer = Vec::new();
        }
    }

    fn end_of(&self, requests: usize) -> usize {
        let mut end = 0;
        for _ in 0..requests {
            end = self.header_at(end).map_or(end, |length| end + HEADER_BYTES + length);
        }
        end
    }

    fn header_at(&self, place: usize) -> Option<usize> {
        let header = self.buffer.get(place..)?.first_chunk::<HEADER_BYTES>()?;
        Some(u32::from_be_bytes(*header) as usize)
    }

    fn ahead(&self, frame_bytes_max: usize) -> Ahead {
        let mut ahead = Ahead { bodies: Vec::new(), announced: None, is_too_long: false };
        let mut end = 0;
        while ahead.bodies.len() < PIPELINE_REQUESTS {
            let Some(length) = self.header_at(end) else { break };
            let start = end + HEADER_BYTES;
            ahead.announced = Some(length);
            ahead.is_too_long = length > frame_bytes_max;
            if ahead.is_too_long {
                break;
            }
            let Some(body) = self.buffer.get(start..start + length) else { break };
            ahead.is_too_long = length > FRAME_BYTES_MAX && !is_batch(body);
            if ahead.is_too_long {
                break;
            }
            end = start + length;
            ahead.bodies.push(start..end);
        }
        ahead
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn is_batch(body: &[u8]) -> bool {
    RequestFrame::parse(body).and_then(|frame| frame.action()) == Ok(Action::Batch)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use protocol::frame::{BATCH_FRAME_BYTES_MAX, push_frame};

    use super::*;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    fn terms(allowance: &Arc<Allowance>, frame_bytes_max: usize) -> Terms<'_> {
        Terms { frame_bytes_max, idle: Duration::from_secs(30), owner: Owner::Account(1), allowance }
    }

    #[test]
    fn a_long_frame_is_refused_only_once_those_before_it_are_answered() {
        let (stream, mut client) = connection();
        let allowance = Allowance::new(BATCH_FRAME_BYTES_MAX, BATCH_FRAME_BYTES_MAX);
        let mut bytes = Vec::new();
        push_frame(&mut bytes, br#"{"action":"status"}"#, 100).unwrap();
        bytes.extend_from_slice(&(2_u32 << 20).to_be_bytes());
        client.write_all(&bytes).unwrap();
        let mut incoming = Incoming::new(&stream);
        let strict = terms(&allowance, FRAME_BYTES_MAX);
        assert_eq!(incoming.fill(&strict).unwrap(), Filled::Requests);
        assert_eq!((incoming.bodies(FRAME_BYTES_MAX).len(), incoming.goes_on_after(1)), (1, true));
        incoming.consume(1);
        // What came before may have proved who this is; else it is refused now.
        assert_eq!(incoming.fill(&strict).unwrap(), Filled::TooLong);
    }

    #[test]
    fn a_long_frame_waits_for_its_allowance_and_gives_it_back() {
        let (stream, mut client) = connection();
        let allowance = Allowance::new(FRAME_BYTES_MAX, FRAME_BYTES_MAX);
        let mut bytes = Vec::new();
        push_frame(&mut bytes, &vec![b' '; FRAME_BYTES_FREE + 1], FRAME_BYTES_MAX).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || client.write_all(&bytes).unwrap());
            let mut incoming = Incoming::new(&stream);
            assert_eq!(incoming.fill(&terms(&allowance, FRAME_BYTES_MAX)).unwrap(), Filled::Requests);
            assert!(allowance.take(Owner::Branch, FRAME_BYTES_MAX, Duration::ZERO).is_none());
            incoming.consume(1);
            assert!(!incoming.goes_on_after(0));
            assert!(allowance.take(Owner::Branch, FRAME_BYTES_MAX, Duration::ZERO).is_some());
        });
    }
}
