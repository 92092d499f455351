//! A connection to a process in memory: what is written to it is answered by a session of the process when it is read.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bank_server::service::Service;
use protocol::frame::{BATCH_FRAME_BYTES_MAX, push_frame, read_frame};

use super::process::answer;

/// One end of it.
pub struct Wire {
    service: Arc<Service>,
    asked: Vec<u8>,
    answers: Vec<u8>,
}

impl Wire {
    /// A connection to a process.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Self {
        Self { service, asked: Vec::new(), answers: Vec::new() }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.asked.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.answers.is_empty() {
            let asked = std::mem::take(&mut self.asked);
            let (mut rest, mut body) = (&asked[..], Vec::new());
            while read_frame(&mut rest, BATCH_FRAME_BYTES_MAX, &mut body).map_err(io::Error::other)? {
                let (answer, _) = answer(&self.service, &body);
                push_frame(&mut self.answers, &answer, BATCH_FRAME_BYTES_MAX).map_err(io::Error::other)?;
            }
        }
        let taken = self.answers.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.answers[..taken]);
        self.answers.drain(..taken);
        Ok(taken)
    }
}
