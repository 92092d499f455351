//! A client at the menu, line by line over TCP.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use protocol::menu_line::ServerLine;

use crate::wait::DEADLINE;

/// A connection to a branch's menu.
///
/// Each read waits at most [`DEADLINE`]. Dropping it hangs up.
#[derive(Debug)]
pub struct MenuConnection {
    reader: BufReader<TcpStream>,
}

/// What the server says until it is the client's turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// All lines, the question or the goodbye among them.
    pub lines: Vec<ServerLine>,
    /// What came last.
    pub ending: Ending,
}

/// How a turn of the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a `@PROMPT` or `@PASS`.
    Question,
    /// With a `@PAUSE`.
    Pause,
    /// With an `@EXIT`.
    Exit,
}

impl MenuConnection {
    /// Connects and reads the first menu.
    ///
    /// # Errors
    /// The connection's.
    pub fn open(port: u16) -> io::Result<Self> {
        let mut menu = Self::connect(port)?;
        menu.turn()?;
        Ok(menu)
    }

    /// Connects and reads nothing.
    ///
    /// # Errors
    /// The connection's.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Over a connection that is there, as it is, and reads nothing.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Reads on until it is the client's turn.
    ///
    /// # Errors
    /// The connection's; `UnexpectedEof` when it ends without an `@EXIT`.
    pub fn turn(&mut self) -> io::Result<Turn> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("the server hung up after {lines:?}")));
            }
            lines.push(ServerLine::parse(line.trim_end_matches('\n')));
            let ending = match lines.last() {
                Some(ServerLine::Prompt(_) | ServerLine::Pass(_)) => Ending::Question,
                Some(ServerLine::Pause(_)) => Ending::Pause,
                Some(ServerLine::Exit(_)) => Ending::Exit,
                Some(ServerLine::Clear | ServerLine::Done(_) | ServerLine::Fail(_) | ServerLine::Text(_)) | None => {
                    continue;
                }
            };
            return Ok(Turn { lines, ending });
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection's.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Sends one line.
    ///
    /// # Errors
    /// The connection's.
    pub fn send(&mut self, line: &str) -> io::Result<()> {
        self.send_bytes(format!("{line}\n").as_bytes())
    }

    /// Sends one line and reads what the server says to it.
    ///
    /// # Errors
    /// As [`MenuConnection::turn`].
    pub fn answer(&mut self, line: &str) -> io::Result<Turn> {
        self.send(line)?;
        self.turn()
    }

    /// Gives several answers; the last one's turn is the result.
    ///
    /// # Errors
    /// As [`MenuConnection::turn`].
    pub fn answers(&mut self, lines: &[&str]) -> io::Result<Turn> {
        let (last, first) = lines.split_last().expect("at least one answer");
        for line in first {
            self.answer(line)?;
        }
        self.answer(last)
    }

    /// Carries an operation out: its answers, then Enter at the pause. Gives the turn with the outcome.
    ///
    /// # Errors
    /// As [`MenuConnection::turn`].
    pub fn operation(&mut self, lines: &[&str]) -> io::Result<Turn> {
        let turn = self.answers(lines)?;
        if turn.ending == Ending::Pause {
            self.answer("")?;
        }
        Ok(turn)
    }

    /// Logs in at the first menu.
    ///
    /// # Errors
    /// The connection's; `PermissionDenied` when the log-in was refused.
    pub fn log_in(&mut self, account: &str, password: &str) -> io::Result<()> {
        match self.answers(&["a", account, password])?.fail() {
            Some(reason) => Err(io::Error::new(ErrorKind::PermissionDenied, reason)),
            None => Ok(()),
        }
    }

    /// Deposits an amount as a customer who is logged in.
    ///
    /// # Errors
    /// As [`MenuConnection::turn`].
    pub fn deposit(&mut self, amount: impl fmt::Display) -> io::Result<Turn> {
        self.operation(&["b", &amount.to_string()])
    }

    /// All bytes up to the connection's end, however it comes.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end too; what came before it counts.
        let _ = self.reader.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Turn {
    /// What a `@DONE` said, if there is one.
    #[must_use]
    pub fn done(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let ServerLine::Done(text) = line else { return None };
            Some(text.as_str())
        })
    }

    /// What a `@FAIL` said, if there is one.
    #[must_use]
    pub fn fail(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let ServerLine::Fail(text) = line else { return None };
            Some(text.as_str())
        })
    }

    /// What a `@DONE` said.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn expect_done(&self) -> &str {
        self.done().unwrap_or_else(|| panic!("not done: {:?}", self.lines))
    }

    /// What a `@FAIL` said.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn expect_fail(&self) -> &str {
        self.fail().unwrap_or_else(|| panic!("not refused: {:?}", self.lines))
    }

    /// The lines as they came over the wire.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
