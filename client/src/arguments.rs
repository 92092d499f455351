//! The command line, and the configuration that it resolves to.
//!
//! [`Arguments`] is what was typed or set in the environment; [`Configuration`] is what the program then does,
//! with standard input, standard output and the terminal's habits taken into account. Nothing here opens a
//! connection or writes a byte.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, ValueEnum, value_parser};

/// Where a branch's menu listens unless it is told otherwise.
const MENU_PORT_DEFAULT: u16 = 1069;
/// Long enough for a transfer to a branch that is slow, short enough that a person does not give up first.
const TIMEOUT_SECONDS_DEFAULT: u64 = 30;
/// A day: a longer wait is a slip of the finger.
const TIMEOUT_SECONDS_MAX: u64 = 86_400;

const AFTER_HELP: &str = "\
On a terminal this is the bank's menu. With standard input from a pipe or a file each line of it is one answer, \
and the transcript goes to standard output:

  printf 'a\\n1001\\n1001\\nb\\n250.00\\nf\\nb\\n' | bank-client

Exit status:
  0    all was done
  1    the bank refused something
  2    the connection failed or broke
  64   the command line was wrong
  74   standard input could not be read, or standard output not written
  130  ended by Ctrl-C (128 + the signal's number; 141 when standard output was closed)";

/// A line client for the bank: the menu on a terminal, a script on standard input.
#[derive(Debug, Parser)]
#[command(name = "bank-client", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// The branch's host: a name or an address
    #[arg(long, env = "BANK_HOST", default_value = "127.0.0.1", value_parser = NonEmptyStringValueParser::new())]
    host: String,

    /// The branch's menu port
    #[arg(long, env = "BANK_MENU_PORT", value_name = "PORT", default_value_t = MENU_PORT_DEFAULT,
          value_parser = value_parser!(u16).range(1..))]
    menu_port: u16,

    /// How long to wait for the connection, and then each time it is the bank's turn to speak
    #[arg(long, env = "BANK_TIMEOUT", value_name = "SECONDS", default_value_t = TIMEOUT_SECONDS_DEFAULT,
          value_parser = value_parser!(u64).range(1..=TIMEOUT_SECONDS_MAX))]
    timeout: u64,

    /// Whether to use colour; `auto` does on a terminal, unless NO_COLOR is set
    #[arg(long, env = "BANK_COLOR", value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
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

impl Arguments {
    /// What the program does, given what surrounds it.
    #[must_use]
    pub fn resolve(self, surroundings: &Surroundings) -> Configuration {
        let person = surroundings.input_is_terminal;
        let screen = person && surroundings.output_is_terminal && !surroundings.terminal_is_dumb;
        let color = match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => screen && !surroundings.no_color,
        };
        Configuration {
            host: self.host,
            menu_port: self.menu_port,
            timeout: Duration::from_secs(self.timeout),
            input: if person { Input::Person } else { Input::Script },
            style: Style { color, clear: screen },
        }
    }
}

/// What the program finds around itself.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// Standard input is a terminal.
    pub input_is_terminal: bool,
    /// Standard output is a terminal.
    pub output_is_terminal: bool,
    /// `TERM` says that the terminal understands no escape sequence.
    pub terminal_is_dumb: bool,
    /// `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub no_color: bool,
}

impl Surroundings {
    /// Reads the two variables as they are found in the environment.
    #[must_use]
    pub fn new(
        input_is_terminal: bool,
        output_is_terminal: bool,
        term: Option<&OsStr>,
        no_color: Option<&OsStr>,
    ) -> Self {
        Self {
            input_is_terminal,
            output_is_terminal,
            terminal_is_dumb: term.is_none_or(|term| term.is_empty() || term == "dumb"),
            no_color: no_color.is_some_and(|value| !value.is_empty()),
        }
    }
}

/// What the program does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The branch's host, a name or an address.
    pub host: String,
    /// The branch's menu port.
    pub menu_port: u16,
    /// The longest wait for the connection, and for each line that the server owes.
    pub timeout: Duration,
    /// Who answers.
    pub input: Input,
    /// How things are shown.
    pub style: Style,
}

/// Who answers the server's questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A person at a terminal.
    Person,
    /// Lines from a pipe or a file.
    Script,
}

/// Which escape sequences may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Colour and bold.
    pub color: bool,
    /// Clearing the screen.
    pub clear: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL: Surroundings =
        Surroundings { input_is_terminal: true, output_is_terminal: true, terminal_is_dumb: false, no_color: false };

    /// A test looks only at what it gave itself: the rest may come from the environment of the test run.
    fn resolve(arguments: &[&str], surroundings: Surroundings) -> Configuration {
        let line = ["bank-client"].iter().chain(arguments);
        Arguments::try_parse_from(line).expect("a right command line").resolve(&surroundings)
    }

    #[test]
    fn flags_reach_the_configuration() {
        let line = ["--host", "bank.example", "--menu-port", "1070", "--timeout", "5", "--color", "never"];
        let expected = Configuration {
            host: "bank.example".into(),
            menu_port: 1070,
            timeout: Duration::from_secs(5),
            input: Input::Person,
            style: Style { color: false, clear: true },
        };
        assert_eq!(resolve(&line, TERMINAL), expected);
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
    fn the_environment_is_read_as_no_color_and_term_define_it() {
        let read = |term: Option<&str>, no_color: Option<&str>| {
            let found = Surroundings::new(true, true, term.map(OsStr::new), no_color.map(OsStr::new));
            (found.terminal_is_dumb, found.no_color)
        };
        assert_eq!(read(Some("xterm"), None), (false, false));
        assert_eq!(read(Some("dumb"), Some("")), (true, false));
        assert_eq!(read(None, Some("1")), (true, true));
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
        ] {
            let error =
                Arguments::try_parse_from(["bank-client"].iter().chain(line)).expect_err("a wrong command line");
            assert!(error.use_stderr(), "{line:?}");
        }
    }
}
