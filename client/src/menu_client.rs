//! The dialogue with a branch's menu: it shows what the server says, and sends one line for each question.
//!
//! It owns whose turn it is. While the server owes a line the wait is bounded; while a question is open it is not,
//! and whatever the server says meanwhile is shown at once. After the input has ended it asks nothing more, and
//! shows what the server still says. The far side may be any pair of `Read` and `Write`, the near side any
//! [`Console`]; it opens no socket and knows no terminal. What a menu means is the server's business.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use protocol::menu_line::ServerLine;

use crate::console::{Console, Question, QuestionKind, Tone};
use crate::error::{ClientError, ExitStatus};
use crate::events::{Event, Events};

/// The half of a connection that carries the answers.
pub trait AnswerWriter: Write {
    /// Says that no more answers come, and leaves the other half open.
    ///
    /// # Errors
    /// The connection's.
    fn end(&mut self) -> io::Result<()>;
}

impl AnswerWriter for TcpStream {
    fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// How a dialogue that was held to its end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was refused.
    AllDone,
    /// The server said `@FAIL` at least once.
    Refused,
}

impl Verdict {
    /// The exit status that this verdict has.
    #[must_use]
    pub fn status(self) -> ExitStatus {
        match self {
            Self::AllDone => ExitStatus::AllDone,
            Self::Refused => ExitStatus::Refused,
        }
    }
}

/// Who speaks next.
#[derive(Debug)]
enum Turn {
    /// The server.
    Server,
    /// The person, or the script: this question is open.
    Person(Question),
    /// The server, for the last time: no more answers can go to it, because of this error or because the input ended.
    Farewell(Option<io::Error>),
}

/// A dialogue under way.
///
/// Invariant: one answer is on request exactly while a question is open that the console does not answer itself.
#[derive(Debug)]
pub struct MenuClient<'c, W, C> {
    server: W,
    console: &'c mut C,
    events: Events,
    server_wait_max: Duration,
    turn: Turn,
    was_asked: bool,
    was_refused: bool,
}

impl<'c, W: AnswerWriter, C: Console> MenuClient<'c, W, C> {
    /// A dialogue in which the server speaks first, and is given `server_wait_max` for each of its lines.
    pub fn new(server: W, console: &'c mut C, events: Events, server_wait_max: Duration) -> Self {
        Self { server, console, events, server_wait_max, turn: Turn::Server, was_asked: false, was_refused: false }
    }

    /// Holds the dialogue to its end.
    ///
    /// # Errors
    /// Why there was no proper end. The line of a question that was open then has been ended.
    pub fn run(mut self) -> Result<Verdict, ClientError> {
        let result = loop {
            match self.next_event().and_then(|event| self.react(event)) {
                Ok(None) => {}
                Ok(Some(verdict)) => break Ok(verdict),
                Err(error) => break Err(error),
            }
        };
        // The reason for the end matters more than an output or a connection that may be gone too.
        let _ = self.withdraw_question();
        let _ = self.server.end();
        result
    }

    fn next_event(&self) -> Result<Event, ClientError> {
        let events = self.events.receiver();
        let received = match self.turn {
            Turn::Person(_) => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Turn::Server | Turn::Farewell(_) => events.recv_timeout(self.server_wait_max),
        };
        received.map_err(|error| match error {
            RecvTimeoutError::Timeout => ClientError::Silent(self.server_wait_max),
            RecvTimeoutError::Disconnected => ClientError::Closed,
        })
    }

    /// Takes one step. Returns the verdict when it was the last one.
    fn react(&mut self, event: Event) -> Result<Option<Verdict>, ClientError> {
        match event {
            Event::Server(Ok(Some(line))) => self.hear(line),
            Event::Server(Ok(None)) => self.hear_end().map(Some),
            Event::Server(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(ClientError::EndlessLine),
            Event::Server(Err(error)) => Err(ClientError::Cut(error)),
            Event::Answer(Ok(Some(answer))) => self.answer(&answer).map(|()| None),
            Event::Answer(Ok(None)) => self.end_input().map(|()| None),
            Event::Answer(Err(error)) => Err(ClientError::Input(error)),
            Event::Signal(number) => Err(ClientError::Signal(number)),
        }
    }

    fn hear(&mut self, line: ServerLine) -> Result<Option<Verdict>, ClientError> {
        match line {
            ServerLine::Clear => self.show(C::clear)?,
            ServerLine::Text(text) => self.show(|console| console.show(Tone::Plain, &text))?,
            ServerLine::Done(text) => self.show(|console| console.show(Tone::Done, &text))?,
            ServerLine::Fail(text) => {
                self.was_refused = true;
                self.show(|console| console.show(Tone::Fail, &text))?;
            }
            ServerLine::Prompt(text) => self.hear_question(Question { kind: QuestionKind::Line, text })?,
            ServerLine::Pass(text) => self.hear_question(Question { kind: QuestionKind::Hidden, text })?,
            ServerLine::Pause(text) => self.hear_question(Question { kind: QuestionKind::Pause, text })?,
            ServerLine::Exit(text) => return self.hear_exit(&text).map(Some),
        }
        Ok(None)
    }

    /// Shows something, and an open question again below it.
    fn show(&mut self, show: impl FnOnce(&mut C) -> io::Result<()>) -> Result<(), ClientError> {
        let console = &mut *self.console;
        let shown = if let Turn::Person(question) = &self.turn {
            console.unanswered().and_then(|()| show(console)).and_then(|()| console.ask(question))
        } else {
            show(console)
        };
        shown.map_err(ClientError::Output)
    }

    fn hear_question(&mut self, question: Question) -> Result<(), ClientError> {
        match self.turn {
            Turn::Farewell(_) => return Ok(()),
            Turn::Person(_) => return Err(ClientError::OutOfTurn),
            Turn::Server => {}
        }
        self.was_asked = true;
        self.console.ask(&question).map_err(ClientError::Output)?;
        let answers_itself = question.kind == QuestionKind::Pause && !self.console.waits_at_pauses();
        self.turn = Turn::Person(question);
        if answers_itself {
            return self.answer(b"");
        }
        self.events.request_answer();
        Ok(())
    }

    /// The server ends the session. That is the proper end only where it was its turn.
    fn hear_exit(&mut self, text: &str) -> Result<Verdict, ClientError> {
        let owed_an_answer = self.withdraw_question()?;
        self.console.show(Tone::Plain, text).map_err(ClientError::Output)?;
        if owed_an_answer {
            return Err(ClientError::HungUp);
        }
        if !self.was_asked {
            return Err(ClientError::TurnedAway);
        }
        self.farewell()
    }

    /// The connection ended without `@EXIT`, which is proper only after the input has ended.
    fn hear_end(&mut self) -> Result<Verdict, ClientError> {
        match self.turn {
            Turn::Server | Turn::Person(_) => Err(ClientError::Closed),
            Turn::Farewell(_) => self.farewell(),
        }
    }

    fn farewell(&mut self) -> Result<Verdict, ClientError> {
        if let Turn::Farewell(reason) = &mut self.turn
            && let Some(error) = reason.take()
        {
            return Err(ClientError::Cut(error));
        }
        Ok(if self.was_refused { Verdict::Refused } else { Verdict::AllDone })
    }

    /// Ends the line of an open question that will not be answered. Says whether there was one.
    fn withdraw_question(&mut self) -> Result<bool, ClientError> {
        if !matches!(self.turn, Turn::Person(_)) {
            return Ok(false);
        }
        self.turn = Turn::Server;
        self.console.unanswered().map_err(ClientError::Output)?;
        Ok(true)
    }

    /// Sends the answer to the open question. If it can't be sent, the server may still have said why.
    fn answer(&mut self, answer: &[u8]) -> Result<(), ClientError> {
        let Turn::Person(question) = std::mem::replace(&mut self.turn, Turn::Server) else {
            unreachable!("an answer is requested only while a question is open, and no event closes that one silently");
        };
        self.console.answered(&question, answer).map_err(ClientError::Output)?;
        let line = [answer, b"\n"].concat();
        if let Err(error) = self.server.write_all(&line).and_then(|()| self.server.flush()) {
            self.turn = Turn::Farewell(Some(error));
        }
        Ok(())
    }

    fn end_input(&mut self) -> Result<(), ClientError> {
        self.withdraw_question()?;
        // Where the connection can't be shut down it is gone already, and the reading half will say so.
        self.turn = Turn::Farewell(self.server.end().err());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
