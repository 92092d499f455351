//! The menu protocol's lines, in both directions.
//!
//! A server speaks in [`ServerLine`]s: ordinary text, or a directive that begins with `@`. A client
//! answers with plain lines, which a server reads with a [`LineReader`]: at most [`LINE_BYTES_MAX`] bytes,
//! valid UTF-8, no control characters. A bad line is reported as such and swallowed to its end, in bounded
//! memory, so the question can be asked again.

use std::fmt;
use std::io::{self, Read};

/// The longest line that a client may answer, in bytes, without its line ending.
pub const LINE_BYTES_MAX: usize = 1024;
/// How much of one over-long line is swallowed, in bytes, before the connection is given up.
pub const LINE_SWALLOWED_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(LINE_BYTES_MAX < LINE_SWALLOWED_BYTES_MAX);

/// One line from a menu server to its client.
///
/// Invariant kept by [`fmt::Display`]: the written form is one line, whatever the text holds; control
/// characters are written as `\u{fffd}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerLine {
    /// Clear the screen.
    Clear,
    /// Show the text without a newline, read one line, send it.
    Prompt(String),
    /// The same with echo off.
    Pass(String),
    /// Show the text, wait for Enter, send an empty line.
    Pause(String),
    /// Show the text: the operation was carried out.
    Done(String),
    /// Show the text: the operation was refused.
    Fail(String),
    /// Show the text and end.
    Exit(String),
    /// Show the text.
    Text(String),
}

impl ServerLine {
    /// Reads one line, without its line ending. A directive that this program does not know is text.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if let Some(rest) = line.strip_prefix("@@") {
            return Self::Text(format!("@{rest}"));
        }
        let (directive, text) = line.split_once(' ').unwrap_or((line, ""));
        let text = text.to_string();
        match directive {
            "@CLEAR" => Self::Clear,
            "@PROMPT" => Self::Prompt(text),
            "@PASS" => Self::Pass(text),
            "@PAUSE" => Self::Pause(text),
            "@DONE" => Self::Done(text),
            "@FAIL" => Self::Fail(text),
            "@EXIT" => Self::Exit(text),
            _ => Self::Text(line.to_string()),
        }
    }
}

impl fmt::Display for ServerLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (directive, text) = match self {
            Self::Clear => return f.write_str("@CLEAR"),
            Self::Prompt(text) => ("@PROMPT ", text),
            Self::Pass(text) => ("@PASS ", text),
            Self::Pause(text) => ("@PAUSE ", text),
            Self::Done(text) => ("@DONE ", text),
            Self::Fail(text) => ("@FAIL ", text),
            Self::Exit(text) => ("@EXIT ", text),
            Self::Text(text) if text.starts_with('@') => ("@", text),
            Self::Text(text) => ("", text),
        };
        f.write_str(directive)?;
        for character in text.chars() {
            fmt::Write::write_char(f, if character.is_control() { '\u{fffd}' } else { character })?;
        }
        Ok(())
    }
}

/// One line from a client, as far as it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientLine {
    /// A proper line, without its line ending.
    Text(String),
    /// A line that was swallowed, and why.
    Bad(BadLine),
}

/// Why a client's line is refused. Each message is the sentence that the client is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// Over [`LINE_BYTES_MAX`] bytes.
    TooLong,
    /// Not valid UTF-8.
    NotUtf8,
    /// Holds a control character.
    Control,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "That line is too long: at most {LINE_BYTES_MAX} bytes. Please type it again."),
            Self::NotUtf8 => f.write_str("That line is not valid UTF-8 text. Please type it again."),
            Self::Control => f.write_str("That line holds a control character. Please type it again."),
        }
    }
}

/// Checks one line's bytes (without the line ending) as [`LineReader`] does.
#[must_use]
pub fn check_line(bytes: &[u8]) -> ClientLine {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.len() > LINE_BYTES_MAX {
        return ClientLine::Bad(BadLine::TooLong);
    }
    match std::str::from_utf8(bytes) {
        Err(_) => ClientLine::Bad(BadLine::NotUtf8),
        Ok(text) if text.chars().any(char::is_control) => ClientLine::Bad(BadLine::Control),
        Ok(text) => ClientLine::Text(text.to_string()),
    }
}

/// Splits a client's bytes into lines, in memory that is bounded by the longest line.
///
/// A reader that gives `WouldBlock` or `TimedOut` may be asked again: what has arrived is kept.
#[derive(Debug, Default)]
pub struct LineReader {
    buffer: Vec<u8>,
    /// Bytes of the present line that were thrown away because it is over-long.
    swallowed_bytes: usize,
}

/// How much is read at a time, in bytes. Small, because thousands of idle clients each have a buffer.
const READ_BYTES: usize = 512;

impl LineReader {
    /// A reader that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on until there is a whole line. `Ok(None)` is the end of the stream between two lines.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends inside a line, `InvalidData` when one line goes on past
    /// [`LINE_SWALLOWED_BYTES_MAX`], or the reader's own error.
    pub fn read_line(&mut self, reader: &mut impl Read) -> io::Result<Option<ClientLine>> {
        let mut searched = 0;
        loop {
            if let Some(offset) = self.buffer[searched..].iter().position(|&byte| byte == b'\n') {
                return Ok(Some(self.take_line(searched + offset)));
            }
            searched = self.buffer.len();
            // One byte more than the limit, for a carriage return that will turn out to belong to the ending.
            if searched > LINE_BYTES_MAX + 1 {
                self.swallowed_bytes += searched;
                self.buffer.clear();
                searched = 0;
            }
            if self.swallowed_bytes > LINE_SWALLOWED_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
            }
            let mut chunk = [0; READ_BYTES];
            match reader.read(&mut chunk) {
                Ok(0) if self.buffer.is_empty() && self.swallowed_bytes == 0 => return Ok(None),
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside a line"));
                }
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the line that ends at `end` out of the buffer.
    fn take_line(&mut self, end: usize) -> ClientLine {
        let line = if std::mem::take(&mut self.swallowed_bytes) > 0 {
            ClientLine::Bad(BadLine::TooLong)
        } else {
            check_line(&self.buffer[..end])
        };
        self.buffer.drain(..=end);
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, expected: &ServerLine) {
        assert_eq!(&ServerLine::parse(line), expected, "line {line:?}");
        assert_eq!(expected.to_string(), line, "expected {expected:?}");
    }

    #[test]
    fn directives_read_and_write() {
        check("@CLEAR", &ServerLine::Clear);
        check("@PROMPT Amount: ", &ServerLine::Prompt("Amount: ".into()));
        check("@PASS Password: ", &ServerLine::Pass("Password: ".into()));
        check("@PAUSE Press Enter", &ServerLine::Pause("Press Enter".into()));
        check("@DONE Deposited", &ServerLine::Done("Deposited".into()));
        check("@FAIL No such account", &ServerLine::Fail("No such account".into()));
        check("@EXIT Goodbye", &ServerLine::Exit("Goodbye".into()));
        check("plain", &ServerLine::Text("plain".into()));
        check("", &ServerLine::Text(String::new()));
        check("@@home", &ServerLine::Text("@home".into()));
        check("@@@x", &ServerLine::Text("@@x".into()));
    }

    #[test]
    fn a_directive_without_text_and_an_unknown_one() {
        assert_eq!(ServerLine::parse("@PROMPT"), ServerLine::Prompt(String::new()));
        assert_eq!(ServerLine::parse("@CLEAR\r"), ServerLine::Clear);
        assert_eq!(ServerLine::parse("@BEEP twice"), ServerLine::Text("@BEEP twice".into()));
        assert_eq!(ServerLine::parse("@PROMPTING"), ServerLine::Text("@PROMPTING".into()));
    }

    #[test]
    fn a_text_with_a_newline_cannot_forge_a_directive() {
        let line = ServerLine::Text("Asha\n@DONE Paid".into()).to_string();
        assert_eq!(line.lines().count(), 1);
        assert_eq!(line, "Asha\u{fffd}@DONE Paid");
    }

    fn lines(bytes: &[u8]) -> Vec<ClientLine> {
        let mut reader = LineReader::new();
        let mut bytes = bytes;
        let mut lines = Vec::new();
        while let Ok(Some(line)) = reader.read_line(&mut bytes) {
            lines.push(line);
        }
        lines
    }

    #[test]
    fn both_line_endings_are_taken() {
        let text = |line: &str| ClientLine::Text(line.into());
        assert_eq!(lines(b"a\r\nb\n\n\xe0\xa4\x85\n"), [text("a"), text("b"), text(""), text("अ")]);
    }

    #[test]
    fn bad_lines_are_swallowed_and_the_next_one_is_read() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX + 1];
        bytes.extend_from_slice(b"\nok\n\xff\nok\na\x07b\nok\n");
        bytes.extend_from_slice(&vec![b'y'; 100_000]);
        bytes.extend_from_slice(b"\nok\n");
        let ok = ClientLine::Text("ok".into());
        let bad = ClientLine::Bad;
        let expected = [
            bad(BadLine::TooLong),
            ok.clone(),
            bad(BadLine::NotUtf8),
            ok.clone(),
            bad(BadLine::Control),
            ok.clone(),
            bad(BadLine::TooLong),
            ok,
        ];
        assert_eq!(lines(&bytes), expected);
    }

    #[test]
    fn the_longest_line_fits_with_either_ending() {
        for ending in ["\n", "\r\n"] {
            let line = "x".repeat(LINE_BYTES_MAX);
            assert_eq!(lines(format!("{line}{ending}").as_bytes()), [ClientLine::Text(line)]);
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up_in_bounded_memory() {
        let mut reader = LineReader::new();
        let error = reader.read_line(&mut io::repeat(b'x')).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(reader.buffer.capacity() < 8 * LINE_BYTES_MAX);
    }

    #[test]
    fn half_a_line_at_the_end_is_a_cut_not_an_answer() {
        let error = LineReader::new().read_line(&mut &b"deposit"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn every_server_line_reads_back(text in "[^\\p{C}]{0,40}", kind in 0..8) {
            let line = match kind {
                0 => ServerLine::Clear,
                1 => ServerLine::Prompt(text),
                2 => ServerLine::Pass(text),
                3 => ServerLine::Pause(text),
                4 => ServerLine::Done(text),
                5 => ServerLine::Fail(text),
                6 => ServerLine::Exit(text),
                _ => ServerLine::Text(text),
            };
            prop_assert_eq!(ServerLine::parse(&line.to_string()), line);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            for line in lines(&bytes) {
                if let ClientLine::Text(text) = line {
                    prop_assert!(text.len() <= LINE_BYTES_MAX && !text.chars().any(char::is_control));
                }
            }
        }
    }
}
