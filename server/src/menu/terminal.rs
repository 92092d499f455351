//! The way to a client: what shows lines and brings answers.
//!
//! A [`Terminal`] owns the wire format and nothing of the dialogue. Time limits are the socket's: whoever
//! opens it sets its read timeout (the idle limit) and its write timeout (for a client that never reads).

use std::fmt;
use std::io::{self, Read, Write};

use protocol::menu_line::{BadLine, ClientLine, LineReader, ServerLine};

/// A client's end of the dialogue, in one wire format or another.
pub trait Terminal {
    /// Shows the lines of one step.
    ///
    /// # Errors
    /// Whatever the connection says.
    fn show(&mut self, lines: &[ServerLine]) -> io::Result<()>;

    /// Waits for the client's answer.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` when the socket's read timeout passed, `InvalidData` for a line without
    /// an end, or whatever the connection says.
    fn answer(&mut self) -> io::Result<Answered>;
}

/// What a client answered.
#[derive(Clone, PartialEq, Eq)]
pub enum Answered {
    /// A proper line, without its ending.
    Line(String),
    /// A line that was swallowed.
    Bad(BadLine),
    /// The client has ended its input.
    End,
}

impl fmt::Debug for Answered {
    /// Hides the line, which may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "Line({} bytes)", line.len()),
            Self::Bad(bad) => f.debug_tuple("Bad").field(bad).finish(),
            Self::End => f.write_str("End"),
        }
    }
}

impl From<ClientLine> for Answered {
    fn from(line: ClientLine) -> Self {
        match line {
            ClientLine::Text(text) => Self::Line(text),
            ClientLine::Bad(bad) => Self::Bad(bad),
        }
    }
}

/// The menu protocol in plain text: one line of the session is one line on the wire.
pub struct PlainTerminal<R, W> {
    reader: R,
    writer: W,
    lines: LineReader,
}

impl<R: Read, W: Write> PlainTerminal<R, W> {
    /// A terminal over both halves of a connection.
    #[must_use]
    pub fn new(reader: R, writer: W) -> Self {
        Self { reader, writer, lines: LineReader::new() }
    }
}

impl<R: Read, W: Write> Terminal for PlainTerminal<R, W> {
    /// Shows the lines with one write, so that a step is one packet.
    fn show(&mut self, lines: &[ServerLine]) -> io::Result<()> {
        let turn: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.writer.write_all(turn.as_bytes())?;
        self.writer.flush()
    }

    fn answer(&mut self) -> io::Result<Answered> {
        Ok(self.lines.read_line(&mut self.reader)?.map_or(Answered::End, Answered::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the writes.
    #[derive(Default)]
    struct Counted(Vec<Vec<u8>>);

    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_step_is_one_write() {
        let mut written = Counted::default();
        let lines = [
            ServerLine::Clear,
            ServerLine::Text("@home".into()),
            ServerLine::Fail("No.\n@DONE Yes".into()),
            ServerLine::Prompt("Amount in Rs: ".into()),
        ];
        PlainTerminal::new(io::empty(), &mut written).show(&lines).unwrap();
        let expected = "@CLEAR\n@@home\n@FAIL No.\u{fffd}@DONE Yes\n@PROMPT Amount in Rs: \n";
        assert_eq!(written.0, [expected.as_bytes()]);
    }

    #[test]
    fn answers_are_lines_bad_lines_and_the_end() {
        let mut terminal = PlainTerminal::new(&b"a\r\n\x07\n\n"[..], io::sink());
        let expected = [
            Answered::Line("a".into()),
            Answered::Bad(BadLine::Control),
            Answered::Line(String::new()),
            Answered::End,
            Answered::End,
        ];
        for answer in expected {
            assert_eq!(terminal.answer().unwrap(), answer);
        }
    }

    #[test]
    fn half_a_line_at_the_end_is_an_error() {
        let error = PlainTerminal::new(&b"half"[..], io::sink()).answer().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_answer_is_hidden() {
        assert_eq!(format!("{:?}", Answered::Line("swordfish".into())), "Line(9 bytes)");
    }
}
