//! Answers on their way to a client of the branch protocol, in bounded memory.
//!
//! Short answers gather, so that a pipeline of requests is answered in few writes. Past [`WRITE_BUFFER_BYTES`] they
//! leave, and whoever makes the next answer waits until the client has taken them: so a client that reads nothing stops
//! its own work. Requests may also be handed in, and are answered by another thread (`Replies`); what is written here
//! leaves after their answers.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;

use protocol::answer::{push_error, push_ok};
use protocol::frame::{BATCH_FRAME_BYTES_MAX, FRAME_BYTES_MAX, push_frame};

use super::replies::{Expected, Replies};
use crate::limits::WRITE_BUFFER_BYTES;

/// The output.
pub struct Outgoing<'s> {
    stream: Box<dyn Write + 's>,
    buffer: Vec<u8>,
    replies: Option<Arc<Replies>>,
}

impl<'s> Outgoing<'s> {
    /// Nothing yet.
    #[must_use]
    pub fn new(stream: impl Write + 's) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), replies: None }
    }

    /// Nothing yet, to a client whose requests may be answered by another thread.
    #[must_use]
    pub fn shared(stream: &'s TcpStream, replies: &Arc<Replies>) -> Self {
        Self { replies: Some(Arc::clone(replies)), ..Self::new(stream) }
    }

    /// Adds the body of one answer.
    ///
    /// # Errors
    /// The connection's.
    pub fn answer(&mut self, body: &[u8]) -> io::Result<()> {
        push_answer(&mut self.buffer, body);
        if self.buffer.len() >= WRITE_BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds one result.
    ///
    /// # Errors
    /// The connection's.
    pub fn result(&mut self, json: &str) -> io::Result<()> {
        let mut body = Vec::new();
        push_ok(&mut body, json, None);
        self.answer(&body)
    }

    /// Adds one error.
    ///
    /// # Errors
    /// The connection's.
    pub fn error(&mut self, code: &str, text: &str) -> io::Result<()> {
        let mut body = Vec::new();
        push_error(&mut body, code, text);
        self.answer(&body)
    }

    /// Makes room for so many requests that are to be answered by another thread, after what has gathered here, which
    /// is returned with them. `None` when no other thread may answer this client.
    ///
    /// # Errors
    /// The connection's.
    pub fn expect(&mut self, requests: usize) -> io::Result<Option<(Expected, Vec<u8>)>> {
        let expected = self.replies.as_ref().map(|replies| replies.expect(requests)).transpose()?.flatten();
        Ok(expected.map(|expected| (expected, std::mem::take(&mut self.buffer))))
    }

    /// Whether requests that were handed in are not answered yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.replies.as_ref().is_some_and(|replies| replies.is_busy())
    }

    /// Waits until everything that was handed in is answered, and so has had its effect.
    ///
    /// # Errors
    /// The connection's.
    pub fn settle(&self) -> io::Result<()> {
        self.wait_for_all_but(0)
    }

    /// Waits until of the requests that were handed in only so many, the newest, are not answered.
    ///
    /// # Errors
    /// The connection's.
    pub fn wait_for_all_but(&self, requests: usize) -> io::Result<()> {
        self.replies.as_ref().map_or(Ok(()), |replies| replies.wait(requests))
    }

    /// Has the client take what waits.
    ///
    /// # Errors
    /// The connection's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.settle()?;
        self.stream.write_all(&self.buffer)?;
        self.buffer.clear();
        if self.buffer.capacity() > WRITE_BUFFER_BYTES * 2 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Has the client take what has gathered here, if anything has. Does not wait for what was handed in.
    ///
    /// # Errors
    /// The connection's.
    pub fn flush_gathered(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.flush() }
    }
}

/// Adds the body of an answer as a frame.
pub fn push_answer(frames: &mut Vec<u8>, body: &[u8]) {
    if push_frame(frames, body, BATCH_FRAME_BYTES_MAX).is_err() {
        frames.extend_from_slice(&framed_error("answer_too_long", "the answer is too long; ask for less"));
    }
}

/// One error as a frame.
///
/// # Panics
/// When the sentence is longer than a frame: the caller's mistake.
#[must_use]
pub fn framed_error(code: &str, text: &str) -> Vec<u8> {
    let (mut body, mut frame) = (Vec::new(), Vec::new());
    push_error(&mut body, code, text);
    push_frame(&mut frame, &body, FRAME_BYTES_MAX).expect("one sentence is far below the longest frame");
    frame
}
