//! What the dialogue waits for: the server's lines, the person's answers, signals. Each source has a thread that
//! feeds one bounded channel, so that a server that hangs up is noticed while a person sits at a question.
//!
//! The server's lines and the answers are read in bounded memory. An answer is read only when it was asked for,
//! so a script's next line is never taken before its question. These threads are not joined: two of them sit in a
//! read that only the other side can end, and the end of the program ends them.

use std::io::{self, BufRead, BufReader, IsTerminal as _, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use protocol::menu_line::{LINE_BYTES_MAX, ServerLine};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// The longest line that a server may send, in bytes: many times a page's width, in any alphabet.
pub const SERVER_LINE_BYTES_MAX: usize = 64 * 1024;
/// How much of one answer is kept, in bytes. What is over is dropped: the server refuses the rest all the same.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How many events wait. A server that is faster than the output is held back by its socket from there on.
const EVENTS_WAITING_MAX: usize = 16;

const _: () = assert!(ANSWER_BYTES_MAX > LINE_BYTES_MAX + 2);

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Something that the dialogue reacts to.
#[derive(Debug)]
pub enum Event {
    /// A line from the server, the connection's end, or its failure (`InvalidData`: a line without an end).
    Server(io::Result<Option<ServerLine>>),
    /// An answer without its line ending, or the end of the input.
    Answer(io::Result<Option<Vec<u8>>>),
    /// A signal that asks the program to end.
    Signal(u8),
}

/// The events, and the way to ask for an answer.
#[derive(Debug)]
pub struct Events {
    sender: SyncSender<Event>,
    events: Receiver<Event>,
    requests: SyncSender<()>,
}

impl Events {
    /// Starts to read `server`, and stands by to read `input`.
    ///
    /// # Errors
    /// The system's, when it refuses a thread.
    pub fn start(server: impl Read + Send + 'static, input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, events) = mpsc::sync_channel(EVENTS_WAITING_MAX);
        // One, because there is never more than one question open.
        let (requests, requested) = mpsc::sync_channel(1);
        let to_server_events = sender.clone();
        thread::Builder::new().name("server".into()).spawn(move || read_server(server, &to_server_events))?;
        let to_answer_events = sender.clone();
        thread::Builder::new().name("input".into()).spawn(move || read_input(input, &requested, &to_answer_events))?;
        Ok(Self { sender, events, requests })
    }

    /// Turns SIGINT, SIGTERM and SIGQUIT into events, and at a terminal SIGHUP. A second one of them ends the program at once, in case the
    /// first finds it stuck in a write.
    ///
    /// # Errors
    /// The system's, when it refuses a handler or a thread.
    pub fn watch_signals(&self) -> io::Result<()> {
        let mut watched = vec![SIGINT, SIGTERM, SIGQUIT];
        // A terminal that goes may come back as another's, and should have its echo then. A script that was made deaf
        // to it, as by `nohup`, has no terminal here, and stays deaf.
        if io::stdin().is_terminal() {
            watched.push(SIGHUP);
        }
        let seen = Arc::new(AtomicBool::new(false));
        for &signal in &watched {
            // In this order, so that the first signal finds the flag unset.
            flag::register_conditional_default(signal, Arc::clone(&seen))?;
            flag::register(signal, Arc::clone(&seen))?;
        }
        let mut signals = Signals::new(watched)?;
        let sender = self.sender.clone();
        let watch = move || {
            let numbers = signals.forever().filter_map(|signal| u8::try_from(signal).ok());
            let _ = numbers.map(|number| sender.send(Event::Signal(number))).find(Result::is_err);
        };
        thread::Builder::new().name("signals".into()).spawn(watch)?;
        Ok(())
    }

    /// Asks for one line of input, which comes as an [`Event::Answer`].
    pub fn request_answer(&self) {
        // An input thread that is gone has sent its last event already.
        let _ = self.requests.send(());
    }

    /// The channel to wait on.
    #[must_use]
    pub fn receiver(&self) -> &Receiver<Event> {
        &self.events
    }
}

/// Sends one event per line until the connection ends.
fn read_server(server: impl Read, events: &SyncSender<Event>) {
    let mut server = BufReader::new(server);
    loop {
        let line = read_server_line(&mut server);
        let is_last = !matches!(line, Ok(Some(_)));
        if events.send(Event::Server(line)).is_err() || is_last {
            return;
        }
    }
}

/// Sends one event per request until the input ends.
fn read_input(input: impl Read, requested: &Receiver<()>, events: &SyncSender<Event>) {
    let mut input = BufReader::new(input);
    let mut is_first = true;
    while requested.recv().is_ok() {
        let mut answer = read_answer(&mut input);
        if let Ok(Some(bytes)) = &mut answer
            && std::mem::take(&mut is_first)
            && bytes.starts_with(BYTE_ORDER_MARK)
        {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if events.send(Event::Answer(answer)).is_err() {
            return;
        }
    }
}

/// Reads one line of the server's. What is no UTF-8 in it is replaced, since it is only going to be shown.
fn read_server_line(server: &mut impl BufRead) -> io::Result<Option<ServerLine>> {
    let mut line = Vec::new();
    server.take(SERVER_LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        return Ok(Some(ServerLine::parse(&String::from_utf8_lossy(&line))));
    }
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > SERVER_LINE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended inside a line"))
}

/// Reads one line of input, whatever its bytes are, without `\n` or `\r\n`. The last line may lack its ending.
fn read_answer(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut answer = Vec::new();
    input.by_ref().take(ANSWER_BYTES_MAX as u64).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Ok(None);
    }
    if answer.pop_if(|byte| *byte == b'\n').is_some() {
        answer.pop_if(|byte| *byte == b'\r');
    } else if answer.len() >= ANSWER_BYTES_MAX {
        input.skip_until(b'\n')?;
    }
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(input: &[u8]) -> Vec<Vec<u8>> {
        let events = Events::start(io::empty(), io::Cursor::new(input.to_vec())).unwrap();
        let mut answers = Vec::new();
        events.request_answer();
        for event in events.receiver() {
            match event {
                Event::Answer(Ok(Some(answer))) => answers.push(answer),
                Event::Answer(Ok(None)) => break,
                Event::Server(Ok(None)) => continue,
                Event::Answer(Err(_)) | Event::Server(_) | Event::Signal(_) => panic!("{event:?}"),
            }
            events.request_answer();
        }
        answers
    }

    #[test]
    fn answers_lose_their_line_endings_and_nothing_else() {
        assert_eq!(answers(b"a\r\n b \n\nc\rd\n\xff\ne"), [&b"a"[..], b" b ", b"", b"c\rd", b"\xff", b"e"]);
    }

    #[test]
    fn a_byte_order_mark_is_dropped_at_the_start_alone() {
        assert_eq!(answers(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n"), [&b"a"[..], b"\xef\xbb\xbfb"]);
    }

    #[test]
    fn an_endless_answer_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; 5 * ANSWER_BYTES_MAX];
        input.extend_from_slice(b"\nnext\n");
        let answers = answers(&input);
        assert_eq!((answers[0].len(), answers[1].as_slice()), (ANSWER_BYTES_MAX, &b"next"[..]));
    }

    #[test]
    fn an_answer_that_is_exactly_as_long_as_is_kept_does_not_take_the_next_line_along() {
        let mut input = vec![b'x'; ANSWER_BYTES_MAX - 1];
        input.extend_from_slice(b"\nnext\n");
        assert_eq!(answers(&input)[1], b"next");
    }

    #[test]
    fn server_lines_are_read_with_either_ending() {
        let mut server = &b"@DONE ok\r\n\xff\n"[..];
        assert_eq!(read_server_line(&mut server).unwrap(), Some(ServerLine::Done("ok".into())));
        assert_eq!(read_server_line(&mut server).unwrap(), Some(ServerLine::Text("\u{fffd}".into())));
        assert_eq!(read_server_line(&mut server).unwrap(), None);
    }

    #[test]
    fn a_line_without_an_end_and_a_cut_line_are_errors() {
        let endless = read_server_line(&mut BufReader::new(io::repeat(b'x'))).unwrap_err();
        assert_eq!(endless.kind(), io::ErrorKind::InvalidData);
        let cut = read_server_line(&mut &b"@DONE Depo"[..]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        let mut longest = vec![b'x'; SERVER_LINE_BYTES_MAX];
        longest.push(b'\n');
        assert!(read_server_line(&mut longest.as_slice()).unwrap().is_some());
    }
}
