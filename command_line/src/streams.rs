//! Standard output and standard error as they may come: closed, full, or not ready.
//!
//! `println!` panics where its stream can't be written. A stream that is shared with a program that made it
//! non-blocking isn't ready at times, which is no failure: it is waited for.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

/// Standard input or output failed, or the disk under a database (`EX_IOERR` of sysexits.h).
pub const EXIT_IO: u8 = 74;

/// Says a sentence on standard error; when that is gone too there is nobody to tell.
pub fn complain(program: &str, text: &str) {
    let _ = write_patiently(&mut io::stderr().lock(), format!("{program}: {text}\n").as_bytes());
}

/// An error of the system in words, without the number that only programmers know.
#[must_use]
pub fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Writes and flushes all of it, and waits where the stream takes no more for the moment.
///
/// # Errors
/// The stream's.
pub fn write_patiently(stream: &mut (impl Write + AsFd), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) => wait_for(stream, error)?,
        }
    }
    loop {
        match stream.flush() {
            Ok(()) => return Ok(()),
            Err(error) => wait_for(stream, error)?,
        }
    }
}

/// Waits until a stream that wasn't ready is; any other error is given back.
fn wait_for(stream: &impl AsFd, error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => match poll(&mut [PollFd::new(stream, PollFlags::OUT)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        },
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_stream_that_is_not_ready_is_waited_for() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let sent = vec![b'x'; 8 << 20];
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            let (here, sent) = (&mut here, &sent);
            let sender = scope.spawn(move || {
                write_patiently(here, sent).unwrap();
                here.shutdown(std::net::Shutdown::Write).unwrap();
            });
            there.read_to_end(&mut received).unwrap();
            sender.join().unwrap();
        });
        assert_eq!(received.len(), sent.len());
    }
}
