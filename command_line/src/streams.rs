//! Standard output and standard error as they may come: closed, full, or not ready.
//!
//! `println!` panics where its stream can't be written. A stream that is shared with a program that made it
//! non-blocking isn't ready at times, which is no failure: it is waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

/// Standard input or output failed, or the disk under a database (`EX_IOERR` of sysexits.h).
pub const EXIT_IO: u8 = 74;

/// Says a sentence on standard error; when that is gone too there is nobody to tell.
pub fn complain(program: &str, text: &str) {
    let _ = write_patiently(&mut io::stderr().lock(), format!("{program}: {text}\n").as_bytes());
}

/// A stream that is waited for when it isn't ready.
#[derive(Debug)]
pub struct Patient<S>(pub S);

impl<S: Write + AsFd> Write for Patient<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(&self.0, PollFlags::OUT)?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        loop {
            match self.0.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(&self.0, PollFlags::OUT)?,
                done => return done,
            }
        }
    }
}

impl<S: Read + AsFd> Read for Patient<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for(&self.0, PollFlags::IN)?,
                done => return done,
            }
        }
    }
}

/// Writes and flushes all of it.
///
/// # Errors
/// The stream's.
pub fn write_patiently(stream: &mut (impl Write + AsFd), bytes: &[u8]) -> io::Result<()> {
    let mut stream = Patient(stream);
    stream.write_all(bytes).and_then(|()| stream.flush())
}

fn wait_for(stream: &impl AsFd, for_what: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(stream, for_what)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_stream_that_is_not_ready_is_waited_for() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let sent = vec![b'x'; 8 << 20];
        let mut received = Vec::new();
        there.set_nonblocking(true).unwrap();
        std::thread::scope(|scope| {
            let (here, sent) = (&mut here, &sent);
            let sender = scope.spawn(move || {
                write_patiently(here, sent).unwrap();
                here.shutdown(std::net::Shutdown::Write).unwrap();
            });
            Patient(&mut there).read_to_end(&mut received).unwrap();
            sender.join().unwrap();
        });
        assert_eq!(received.len(), sent.len());
    }
}
