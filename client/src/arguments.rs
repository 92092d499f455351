//! The command line, and the configuration that it resolves to.
//!
//! [`Arguments`] is what was typed or set in the environment; [`Configuration`] is what the program then does, with
//! standard input, standard output and the terminal's habits taken into account. Nothing here opens a connection or writes a byte.

use std::path::PathBuf;
use std::time::Duration;

use branch_client::RequestId;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, ValueEnum, value_parser};
use protocol::{Address, bare_host};

use crate::commands::Command;
use crate::connect::TlsSetting;
use crate::surroundings::{Input, Style, Surroundings};

/// Where a branch's menu listens unless it is told otherwise.
const MENU_PORT_DEFAULT: u16 = 1069;
/// Where a branch takes requests unless it is told otherwise.
const PORT_DEFAULT: u16 = 9100;
/// Long enough for a transfer to a branch that is slow, short enough that a person does not give up first.
const TIMEOUT_SECONDS_DEFAULT: u64 = 30;
/// A day: a longer wait is a slip of the finger.
const TIMEOUT_SECONDS_MAX: u64 = 86_400;

const AFTER_HELP: &str = "\
Without a command this is the bank's menu on a terminal. With standard input from a pipe or a file each line of it is \
one answer, and the transcript goes to standard output:

  printf 'a\\n1001\\n1001\\nb\\n250.00\\nf\\nb\\n' | bank-client

A command asks a branch one thing and shows the answer:

  bank-client balance 1001
  bank-client transfer 1001 Delhi/1002 50
  bank-client --port 9101 accounts --json

The branch key is found by itself in the current directory, beside the database that BANK_DB names, and beside the \
program. 'bank-client COMMAND --help' has examples.

Exit status:
  0    all was done
  1    the bank refused something
  2    the connection failed or broke
  64   the command line was wrong
  74   standard input could not be read, or standard output not written
  130  ended by Ctrl-C (128 + the signal's number; 141 when standard output was closed)";

/// The headings of the options that stand before or after a command.
const CONNECTION: &str = "Connection";
const MENU: &str = "Menu";

/// A client for the bank: the menu, or one command.
#[derive(Debug, Parser)]
#[command(name = "bank-client", version, after_help = AFTER_HELP, infer_subcommands = false)]
pub struct Arguments {
    /// What to ask of a branch; the menu without it
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The branch's host: a name or an address
    #[arg(long, env = "BANK_HOST", default_value = "127.0.0.1", value_parser = parse_host,
          global = true, help_heading = CONNECTION)]
    host: String,

    /// The port where the branch takes commands
    #[arg(long, env = "BANK_PORT", value_name = "PORT", default_value_t = PORT_DEFAULT,
          value_parser = value_parser!(u16).range(1..), global = true, help_heading = CONNECTION)]
    port: u16,

    /// Where else the branch is, if it has several processes: the next address is asked when one takes no orders
    #[arg(long, env = "BANK_ALSO_AT", value_name = "HOST:PORT", value_delimiter = ',', global = true,
          help_heading = CONNECTION)]
    also_at: Vec<Address>,

    /// The branch key's file; found by itself without it
    #[arg(long, env = "BANK_KEY", value_name = "FILE", global = true, help_heading = CONNECTION)]
    key: Option<PathBuf>,

    /// Speak TLS, as a branch with a certificate does; its certificate must name the host
    #[arg(long, env = "BANK_TLS", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue, global = true,
          help_heading = CONNECTION)]
    tls: bool,

    /// Speak TLS, and trust the certificates in this PEM file and those that they have signed, in place of the public
    /// authorities
    #[arg(long, env = "BANK_TLS_CA", value_name = "FILE", global = true, help_heading = CONNECTION)]
    tls_ca: Option<PathBuf>,

    /// How long a command may take, and at the menu how long to wait when it is the bank's turn to speak
    #[arg(long, env = "BANK_TIMEOUT", value_name = "SECONDS", default_value_t = TIMEOUT_SECONDS_DEFAULT,
          value_parser = value_parser!(u64).range(1..=TIMEOUT_SECONDS_MAX), global = true, help_heading = CONNECTION)]
    timeout: u64,

    /// The id of a command's write, to repeat one whose outcome is unknown; a new one without it
    #[arg(long = "request-id", value_name = "ID", global = true, help_heading = CONNECTION)]
    request_id: Option<RequestId>,

    /// Show a command's answers as the branch gives them, one JSON document to a line
    #[arg(long, env = "BANK_JSON", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(),
          global = true)]
    json: bool,

    /// The branch's menu port
    #[arg(long, env = "BANK_MENU_PORT", value_name = "PORT", default_value_t = MENU_PORT_DEFAULT,
          value_parser = value_parser!(u16).range(1..), global = true, help_heading = MENU)]
    menu_port: u16,

    /// Whether the menu and scenarios use colour; `auto` does on a terminal, unless NO_COLOR is set
    #[arg(long, env = "BANK_COLOR", value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto,
          global = true, help_heading = MENU)]
    color: ColorChoice,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ColorChoice {
    /// On a terminal that can show it, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// An IPv6 address is taken with and without its brackets.
fn parse_host(text: &str) -> Result<String, &'static str> {
    match bare_host(text) {
        "" => Err("a host is a name or an address"),
        host => Ok(host.to_string()),
    }
}

impl Arguments {
    /// Whether to speak TLS, and whom to trust then.
    fn tls(&self) -> Option<TlsSetting> {
        (self.tls || self.tls_ca.is_some()).then(|| TlsSetting { authorities: self.tls_ca.clone() })
    }

    /// What the program does, given what surrounds it.
    #[must_use]
    pub fn resolve(self, surroundings: &Surroundings) -> (Option<Command>, Configuration) {
        let configuration = Configuration {
            style: self.style(surroundings),
            tls: self.tls(),
            host: self.host,
            port: self.port,
            also_at: self.also_at,
            menu_port: self.menu_port,
            key: self.key,
            timeout: Duration::from_secs(self.timeout),
            request_id: self.request_id,
            json: self.json,
            input: if surroundings.input_is_terminal { Input::Person } else { Input::Script },
        };
        (self.command, configuration)
    }

    fn style(&self, surroundings: &Surroundings) -> Style {
        let screen =
            surroundings.input_is_terminal && surroundings.output_is_terminal && !surroundings.terminal_is_dumb;
        let color = match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => screen && !surroundings.no_color,
        };
        Style { color, clear: screen }
    }
}

/// What the program does, at the menu or with a command.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The branch's host, a name or an address.
    pub host: String,
    /// Where it takes requests.
    pub port: u16,
    /// Where else the branch is.
    pub also_at: Vec<Address>,
    /// Its menu's port.
    pub menu_port: u16,
    /// The key's file, when one was named.
    pub key: Option<PathBuf>,
    /// TLS, when it is wanted.
    pub tls: Option<TlsSetting>,
    /// The longest that one request may take; at the menu the longest wait for the connection, and for each line that the
    /// server owes.
    pub timeout: Duration,
    /// The id of the command's writes, when one was given.
    pub request_id: Option<RequestId>,
    /// Whether answers are shown as they come.
    pub json: bool,
    /// Who answers what is asked for.
    pub input: Input,
    /// How things are shown.
    pub style: Style,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL: Surroundings =
        Surroundings { input_is_terminal: true, output_is_terminal: true, terminal_is_dumb: false, no_color: false };

    /// A test looks only at what it gave itself: the rest may come from the environment of the test run.
    fn resolve(arguments: &[&str], surroundings: Surroundings) -> Configuration {
        let line = ["bank-client"].iter().chain(arguments);
        Arguments::try_parse_from(line).expect("a right command line").resolve(&surroundings).1
    }

    #[test]
    fn an_ipv6_address_is_taken_with_and_without_its_brackets() {
        for host in ["::1", "[::1]"] {
            assert_eq!(resolve(&["--host", host], TERMINAL).host, "::1");
        }
    }

    #[test]
    fn flags_reach_the_configuration() {
        let line = ["--host", "bank.example", "--menu-port", "1070", "--timeout", "5", "--color", "never"];
        let Configuration { host, menu_port, timeout, input, style, tls, .. } = resolve(&line, TERMINAL);
        assert_eq!((host.as_str(), menu_port, timeout), ("bank.example", 1070, Duration::from_secs(5)));
        assert_eq!((input, style), (Input::Person, Style { color: false, clear: true }));
        assert!(tls.is_none());
    }

    #[test]
    fn colour_and_clearing_follow_the_surroundings() {
        let check = |choice, surroundings, color, clear| {
            let style = resolve(&["--color", choice], surroundings).style;
            assert_eq!(style, Style { color, clear }, "--color {choice} in {surroundings:?}");
        };
        check("auto", TERMINAL, true, true);
        check("auto", Surroundings { no_color: true, ..TERMINAL }, false, true);
        check("auto", Surroundings { terminal_is_dumb: true, ..TERMINAL }, false, false);
        check("auto", Surroundings { output_is_terminal: false, ..TERMINAL }, false, false);
        check("auto", Surroundings { input_is_terminal: false, ..TERMINAL }, false, false);
        check("always", Surroundings { no_color: true, ..TERMINAL }, true, true);
        check("always", Surroundings { input_is_terminal: false, ..TERMINAL }, true, false);
        check("never", TERMINAL, false, true);
    }

    #[test]
    fn input_that_is_no_terminal_is_a_script() {
        let piped = Surroundings { input_is_terminal: false, ..TERMINAL };
        assert_eq!(resolve(&["--host", "x"], piped).input, Input::Script);
    }

    #[test]
    fn flags_stand_before_and_after_the_command() {
        for line in [
            &["--port", "9101", "--json", "balance", "1001"][..],
            &["balance", "1001", "--port", "9101", "--json"],
            &["--json", "balance", "--port=9101", "--account_no", "1001"],
        ] {
            let arguments = Arguments::try_parse_from(["bank-client"].iter().chain(line)).expect("a right line");
            let (command, configuration) = arguments.resolve(&TERMINAL);
            assert_eq!((configuration.port, configuration.json), (9101, true), "{line:?}");
            assert!(matches!(command, Some(Command::Balance(_))), "{line:?}");
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            &["--host", ""][..],
            &["--menu-port", "0"],
            &["--menu-port", "65536"],
            &["--timeout", "0"],
            &["--timeout", "86401"],
            &["--timeout", "soon"],
            &["--color", "pink"],
            &["--colour", "auto"],
            &["deposit"],
            &["rob", "1001"],
            &["--port", "0", "status"],
            &["--request-id", "", "status"],
        ] {
            let error =
                Arguments::try_parse_from(["bank-client"].iter().chain(line)).expect_err("a wrong command line");
            assert!(error.use_stderr(), "{line:?}");
        }
    }
}
