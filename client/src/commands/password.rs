//! Passwords: asked for where they can't be read over a shoulder, in a list of processes or in a shell's history.
//!
//! On a terminal a password is typed twice without an echo; a script gives it once, as a line of standard input. The
//! question goes to standard error, so that standard output holds the answer alone.

use std::io;

use command_line::echo::TerminalEcho;
use protocol::request::{Action, SetPassword};
use serde::de::IgnoredAny;

use crate::commands::context::Context;
use crate::commands::values::OneAccountArguments;
use crate::console::{Console, Question, QuestionKind, TerminalConsole};
use crate::error::{ClientError, ExitStatus};
use crate::events::{Event, Events};
use crate::surroundings::{Input, Style};

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client set_password 1001
  bank-client set_password --account_no 1001 < password.txt

On a terminal it is asked for without showing it; otherwise it is the first line of standard input.";

pub(super) fn set(arguments: &OneAccountArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let account_no = arguments.account()?;
    let params = SetPassword { account_no, password: ask(context.input)?, present_password: None };
    context.order(Action::SetPassword, &params, |_: IgnoredAny| format!("Account {account_no} has a new password."))
}

/// Asks for a new password.
///
/// # Errors
/// `Usage` when none was given, `Input` when standard input fails, `Signal` when it was interrupted.
pub(super) fn ask(input: Input) -> Result<String, ClientError> {
    let events = Events::start(io::empty(), io::stdin()).map_err(ClientError::System)?;
    match input {
        Input::Script => answer(&events)?.ok_or_else(no_password),
        Input::Person => {
            events.watch_signals().map_err(ClientError::System)?;
            let mut console = TerminalConsole::new(io::stderr(), TerminalEcho::default(), Style::default());
            let first = ask_hidden(&mut console, &events, "New password: ")?;
            let second = ask_hidden(&mut console, &events, "The same again: ")?;
            if first == second { Ok(first) } else { Err(ClientError::Usage("the two passwords differ".into())) }
        }
    }
}

fn ask_hidden(console: &mut impl Console, events: &Events, text: &str) -> Result<String, ClientError> {
    let question = Question { kind: QuestionKind::Hidden, text: text.into() };
    console.ask(&question).map_err(ClientError::Output)?;
    let answer = answer(events);
    console.answered(&question, b"").map_err(ClientError::Output)?;
    answer?.ok_or_else(no_password)
}

/// The next line of standard input; `None` at its end.
fn answer(events: &Events) -> Result<Option<String>, ClientError> {
    events.request_answer();
    for event in events.receiver() {
        match event {
            // The empty stream that stands in for a server ends at once.
            Event::Server(_) => {}
            Event::Signal(number) => return Err(ClientError::Signal(number)),
            Event::Answer(Err(error)) => return Err(ClientError::Input(error)),
            Event::Answer(Ok(None)) => return Ok(None),
            Event::Answer(Ok(Some(bytes))) => {
                let text = String::from_utf8(bytes);
                return text.map(Some).map_err(|_| ClientError::Usage("the password is not UTF-8 text".into()));
            }
        }
    }
    Ok(None)
}

fn no_password() -> ClientError {
    ClientError::Usage("no password was given: type one, or give a line of standard input".into())
}
