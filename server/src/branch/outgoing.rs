//! Answers on their way to a client of the branch protocol, in bounded memory.
//!
//! Short answers gather, so that a pipeline of requests is answered in few writes. Past [`WRITE_BUFFER_BYTES`] they
//! leave, and whoever makes the next answer waits until the client has taken them: so a client that reads nothing stops
//! its own work.

use std::io::{self, Write};

use protocol::answer::{push_error, push_ok};
use protocol::frame::{BATCH_FRAME_BYTES_MAX, FRAME_BYTES_MAX, push_frame};

use crate::limits::WRITE_BUFFER_BYTES;

/// The output.
pub struct Outgoing<'s> {
    stream: Box<dyn Write + 's>,
    buffer: Vec<u8>,
}

impl<'s> Outgoing<'s> {
    /// Nothing yet.
    #[must_use]
    pub fn new(stream: impl Write + 's) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Adds the body of one answer.
    ///
    /// # Errors
    /// The connection's.
    pub fn answer(&mut self, body: &[u8]) -> io::Result<()> {
        if push_frame(&mut self.buffer, body, BATCH_FRAME_BYTES_MAX).is_err() {
            self.buffer.extend_from_slice(&framed_error("answer_too_long", "the answer is too long; ask for less"));
        }
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

    /// Has the client take what waits.
    ///
    /// # Errors
    /// The connection's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.buffer)?;
        self.buffer.clear();
        if self.buffer.capacity() > WRITE_BUFFER_BYTES * 2 {
            self.buffer = Vec::new();
        }
        Ok(())
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
