//! How all programs of the bank read their command line, and the environment variables that stand in for flags.
//!
//! `clap` does the reading. What it leaves open is decided here, once for all programs:
//! - an empty variable is none;
//! - a switch is on by `1`, `true`, `yes`, `on`, and off by `0`, `false`, `no`, `off`;
//! - a value of the form `tcp://10.0.0.7:9100` is not ours: Kubernetes puts `BANK_PORT` with such a value into every pod
//!   beside a Service called `bank`. It is ignored, with a warning;
//! - a wrong value that came from a variable is told with the variable's name, since nobody has typed the flag;
//! - a flag on the command line wins over its variable, whatever that holds.
//!
//! The log that the servers begin with is in [`logging`]; how many clients they can hold, in [`descriptors`]; how they
//! write to streams, in [`streams`]; how a password is asked for, in [`echo`]; what `--host` names, in [`resolve_host`].

pub mod descriptors;
pub mod echo;
mod host;
pub mod logging;
pub mod streams;

pub use host::resolve_host;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::builder::{BoolishValueParser, Resettable};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

/// The command line is wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// What was read.
#[derive(Debug)]
pub struct Parsed<A> {
    /// The arguments.
    pub arguments: A,
    /// The variables of the environment that stand in for flags and are set.
    variables: Vec<String>,
}

/// Why nothing was read: help was asked for, or something is wrong.
#[derive(Debug)]
pub struct Notice {
    error: clap::Error,
    /// What is said after it.
    more: String,
}

/// Looks up an environment variable.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads this process's command line and environment.
///
/// # Errors
/// The exit status, when help or an error has been printed.
pub fn parse<A: CommandFactory + FromArgMatches>() -> Result<Parsed<A>, ExitCode> {
    parse_from(env::args_os().collect(), &|name| env::var_os(name)).map_err(|notice| {
        // Where it can't be printed, nothing else can be said either.
        notice.print()
    })
}

/// Reads a command line.
///
/// # Errors
/// [`Notice`].
fn parse_from<A: CommandFactory + FromArgMatches>(
    line: Vec<OsString>,
    lookup: Lookup<'_>,
) -> Result<Parsed<A>, Box<Notice>> {
    let mut surroundings = Surroundings { line: &line, lookup, variables: Vec::new() };
    let mut command = surroundings.settle(A::command());
    let read = command.try_get_matches_from_mut(&line);
    match read.and_then(|matches| A::from_arg_matches(&matches)) {
        Ok(arguments) => {
            let variables = surroundings.variables.into_iter().map(|(_, variable)| variable).collect();
            Ok(Parsed { arguments, variables })
        }
        Err(error) => Err(Box::new(Notice::new(error, &surroundings))),
    }
}

impl<A> Parsed<A> {
    /// An error about what the arguments mean together, with the variables that may have had a part in it.
    #[must_use]
    pub fn explain(&self, error: &str) -> String {
        match self.variables.as_slice() {
            [] => error.to_string(),
            variables => format!("{error} (set in the environment: {})", variables.join(", ")),
        }
    }
}

impl Notice {
    fn new(error: clap::Error, surroundings: &Surroundings<'_>) -> Self {
        let names: Vec<&str> = surroundings.variables.iter().map(|(_, variable)| variable.as_str()).collect();
        let more = match surroundings.culprit(&error) {
            _ if !error.use_stderr() => String::new(),
            Some(variable) => format!("The value is that of the environment variable {variable}.\n"),
            None if names.is_empty() => String::new(),
            None => format!("Set in the environment: {}.\n", names.join(", ")),
        };
        Self { error, more }
    }

    fn print(&self) -> ExitCode {
        let printed = self.error.print().and_then(|()| io::stdout().flush());
        if self.error.use_stderr() {
            // A closed output leaves nothing else to say.
            let _ = io::stderr().write_all(self.more.as_bytes());
            return ExitCode::from(EXIT_USAGE);
        }
        match printed {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => {
                let _ = io::stderr().write_all(b"standard output can't be written\n");
                ExitCode::from(streams::EXIT_IO)
            }
        }
    }
}

/// What a command line is read in.
struct Surroundings<'a> {
    line: &'a [OsString],
    lookup: Lookup<'a>,
    /// The variables that are set and heeded, each with its flag.
    variables: Vec<(String, String)>,
}

impl Surroundings<'_> {
    /// Takes the variables that are none of ours, empty, or outdone by a flag from their arguments, and notes the
    /// others that are set.
    fn settle(&mut self, command: Command) -> Command {
        let command = command.mut_args(|argument| self.settle_argument(argument));
        command.mut_subcommands(|subcommand| self.settle(subcommand))
    }

    fn settle_argument(&mut self, argument: Arg) -> Arg {
        let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
        let argument = if is_switch { argument.value_parser(BoolishValueParser::new()) } else { argument };
        let Some(variable) = argument.get_env().map(|name| name.to_string_lossy().into_owned()) else {
            return argument;
        };
        let Some(value) = (self.lookup)(&variable) else { return argument };
        let flag = argument.get_long().map(|long| format!("--{long}")).unwrap_or_default();
        // `clap` would read the variable all the same where the flag stands before a command.
        if value.is_empty() || self.is_typed(&flag) {
            return argument.env(Resettable::Reset);
        }
        let text = value.to_string_lossy();
        if ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme)) {
            // Without a standard error there is nobody to warn.
            let _ = writeln!(
                io::stderr(),
                "warning: {variable}={text} is ignored: Kubernetes sets it for a Service of that name (enableServiceLinks: false in the pod ends that)"
            );
            return argument.env(Resettable::Reset);
        }
        self.variables.push((flag, variable));
        argument
    }

    fn is_typed(&self, flag: &str) -> bool {
        let is_it = |word: &str| word == flag || word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='));
        self.line.iter().any(|word| word.to_str().is_some_and(is_it))
    }

    /// The variable whose value `clap` complains of, if it is one's.
    fn culprit(&self, error: &clap::Error) -> Option<&str> {
        let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
        let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
        let flag = argument.split([' ', '=', '[']).next()?;
        let (_, variable) = self.variables.iter().find(|(known, _)| known == flag)?;
        let set = (self.lookup)(variable)?;
        set.to_string_lossy().contains(value.as_str()).then_some(variable.as_str())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[arg(long, env = "BANK_PORT", default_value_t = 9100)]
        port: u16,
        #[arg(long, env = "BANK_OPEN")]
        open: bool,
        #[arg(long, env = "BANK_NAMES", value_delimiter = ',')]
        names: Vec<u8>,
    }

    // The variables are those of this test process: `clap` reads them itself. None of these is set there, so what a test
    // sets is seen by this crate alone; what `clap` makes of set ones is tried with the built programs.
    fn read(line: &[&str], variables: &[(&str, &str)]) -> Result<Parsed<Arguments>, Box<Notice>> {
        let line = ["bank"].iter().chain(line).map(OsString::from).collect();
        parse_from(line, &|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn what_is_set_is_told_with_an_error_and_what_is_empty_or_foreign_is_not() {
        let variables = [("BANK_PORT", "tcp://10.0.0.7:9100"), ("BANK_OPEN", ""), ("BANK_NAMES", "1")];
        let parsed = read(&[], &variables).unwrap();
        assert_eq!((parsed.arguments.port, parsed.arguments.open), (9100, false));
        assert!(parsed.arguments.names.is_empty());
        assert_eq!(parsed.explain("that can't be"), "that can't be (set in the environment: BANK_NAMES)");
        let notice = read(&["--nonsense"], &variables).unwrap_err();
        assert_eq!(notice.more, "Set in the environment: BANK_NAMES.\n");
        assert_eq!(read(&[], &[]).unwrap().explain("no"), "no");
    }

    #[test]
    fn a_typed_value_is_not_blamed_on_a_variable() {
        let notice = read(&["--port", "x"], &[("BANK_PORT", "x")]).unwrap_err();
        assert_eq!(notice.more, "");
        let help = read(&["--help"], &[("BANK_NAMES", "1")]).unwrap_err();
        assert!(!help.error.use_stderr() && help.more.is_empty());
    }
}
