//! The bank's line client: the menu on a terminal, a script on standard input.
//!
//! This file reads the command line, wires the connection, the events and a console to the menu client, and turns
//! the way it ended into an exit status. It decides nothing of the dialogue.

mod arguments;
mod connect;
mod console;
mod error;
mod events;
mod menu_client;

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Configuration, Input, Surroundings};
use crate::console::{Console, ScriptConsole, TerminalConsole, TerminalEcho};
use crate::error::{ClientError, ExitStatus};
use crate::events::Events;
use crate::menu_client::{MenuClient, Verdict};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(notice) => {
            // A closed output is all that can go wrong here, and then nobody reads the notice.
            let _ = notice.print();
            let status = if notice.use_stderr() { ExitStatus::WrongCommandLine } else { ExitStatus::AllDone };
            return status.into();
        }
    };
    let surroundings = Surroundings::new(
        io::stdin().is_terminal(),
        io::stdout().is_terminal(),
        env::var_os("TERM").as_deref(),
        env::var_os("NO_COLOR").as_deref(),
    );
    let status = match run(&arguments.resolve(&surroundings)) {
        Ok(verdict) => verdict.status(),
        Err(error) => {
            if !error.is_quiet() {
                eprintln!("bank-client: {error}");
            }
            error.status()
        }
    };
    status.into()
}

fn run(configuration: &Configuration) -> Result<Verdict, ClientError> {
    match configuration.input {
        Input::Person => {
            let echo = TerminalEcho::default();
            hold_dialogue(configuration, &mut TerminalConsole::new(io::stdout(), echo, configuration.style))
        }
        Input::Script => hold_dialogue(configuration, &mut ScriptConsole::new(io::stdout(), configuration.style)),
    }
}

fn hold_dialogue(configuration: &Configuration, console: &mut impl Console) -> Result<Verdict, ClientError> {
    let server = connect::connect(&configuration.host, configuration.menu_port, configuration.timeout)?;
    let reading_half = server.try_clone().map_err(ClientError::System)?;
    let events = Events::start(reading_half, io::stdin()).map_err(ClientError::System)?;
    events.watch_signals().map_err(ClientError::System)?;
    MenuClient::new(server, console, events, configuration.timeout).run()
}
