//! The bank's client: the menu on a terminal, a script on standard input, or one command to a branch.
//!
//! This file reads the command line, wires the connection, the events and a console to the menu client, or a branch
//! and an output to a command, and turns the way it ended into an exit status. It decides nothing of either.

mod arguments;
mod branch;
mod commands;
mod connect;
mod console;
mod error;
mod events;
mod gather;
mod lesson_bank;
mod menu_client;
mod output;
mod peers;
mod shell;
mod surroundings;

use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use branch_client::{Credentials, Keys, RequestId};
use clap::CommandFactory as _;
use command_line::echo::TerminalEcho;
use command_line::streams::{self, Patient};
use protocol::Address;

use crate::arguments::{Arguments, Configuration};
use crate::branch::{Access, Branch};
use crate::commands::{Command, Context};
use crate::console::{Console, ScriptConsole, TerminalConsole, harmless};
use crate::error::{ClientError, ExitStatus};
use crate::events::Events;
use crate::menu_client::{MenuClient, Verdict};
use crate::output::Output;
use crate::shell::without_request_id;
use crate::surroundings::{Input, Surroundings};

fn main() -> ExitCode {
    let arguments = match command_line::parse::<Arguments>() {
        Ok(parsed) => parsed.arguments,
        Err(status) => return status,
    };
    let surroundings = Surroundings::new(
        io::stdin().is_terminal(),
        io::stdout().is_terminal(),
        env::var_os("TERM").as_deref(),
        env::var_os("NO_COLOR").as_deref(),
    );
    let outcome = match arguments.resolve(&surroundings) {
        (Some(command), configuration) => run_command(command, configuration),
        (None, configuration) => run_menu(&configuration).map(Verdict::status),
    };
    let status = match outcome {
        Ok(status) => status,
        Err(error) => {
            if !error.is_quiet() {
                tell(&error);
            }
            error.status()
        }
    };
    status.into()
}

/// What a branch said may stand in it, so what could steer a terminal is left out.
fn tell(error: &ClientError) {
    let text = error.to_string();
    let lines: Vec<_> = text.lines().map(harmless).collect();
    streams::complain("bank-client", &lines.join("\n"));
}

fn run_command(command: Command, configuration: Configuration) -> Result<ExitStatus, ClientError> {
    let keys = match &configuration.key {
        Some(path) => Keys::named(path).map_err(ClientError::Usage)?,
        None => {
            let database = env::var_os("BANK_DB").filter(|path| !path.is_empty());
            Keys::in_usual_places(database.as_deref().map(Path::new), env::current_exe().ok().as_deref())
        }
    };
    let command_line = without_request_id(env::args_os());
    let tls = connect::open_tls(configuration.tls.as_ref())?;
    let credentials = Arc::new(Credentials { keys, tls });
    let access = Arc::new(Access { credentials, timeout: configuration.timeout, command_line });
    let id = match configuration.request_id {
        Some(id) => id,
        None => RequestId::draw().map_err(ClientError::System)?,
    };
    let mut standard_output = Patient(io::stdout().lock());
    let mut context = Context {
        branch: Branch::new(access, Address { host: configuration.host, port: configuration.port })
            .also_at(configuration.also_at),
        out: Output::new(&mut standard_output, configuration.json),
        id,
        input: configuration.input,
        style: configuration.style,
        description: Arguments::command,
    };
    commands::run(command, &mut context)
}

fn run_menu(configuration: &Configuration) -> Result<Verdict, ClientError> {
    match configuration.input {
        Input::Person => {
            let echo = TerminalEcho::default();
            hold_dialogue(configuration, &mut TerminalConsole::new(Patient(io::stdout()), echo, configuration.style))
        }
        Input::Script => {
            hold_dialogue(configuration, &mut ScriptConsole::new(Patient(io::stdout()), configuration.style))
        }
    }
}

fn hold_dialogue(configuration: &Configuration, console: &mut impl Console) -> Result<Verdict, ClientError> {
    let tls = connect::open_tls(configuration.tls.as_ref())?;
    let menu = Address { host: configuration.host.clone(), port: configuration.menu_port };
    let server = connect::connect_menu(&menu, configuration.timeout, tls.as_ref())?;
    let reading_half = server.try_clone().map_err(ClientError::System)?;
    let events = Events::start(reading_half, Patient(io::stdin())).map_err(ClientError::System)?;
    events.watch_signals().map_err(ClientError::System)?;
    MenuClient::new(server, console, events, configuration.timeout).run()
}
