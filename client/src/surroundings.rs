//! What the program finds around itself, and what follows from it: who answers, and what a terminal may be sent.

use std::ffi::OsStr;

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
}
