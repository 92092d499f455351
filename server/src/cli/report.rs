//! What a command prints: written at the end, at once, so that a lost output can't be mistaken for a lost deed.
//!
//! `println!` panics where the output is closed or full, half-way through a restore if need be. Here everything is
//! collected while the command works, and where it can't be written the deed is told on standard error, with an exit
//! status of its own.

use protocol::io_words::IoWords;
use std::fmt::{Display, Write as _};
use std::io;
use std::process::ExitCode;

use command_line::streams::{self, EXIT_IO, write_patiently};

/// What a command has to say.
#[derive(Debug, Default)]
pub struct Report {
    text: String,
}

impl Report {
    /// Adds a line.
    pub fn line(&mut self, line: impl Display) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// Writes it to standard output. `done` says in a clause what the command did, for who doesn't get to read it.
    #[must_use]
    pub fn print(self, done: &str, status: ExitCode) -> ExitCode {
        match write_patiently(&mut io::stdout().lock(), self.text.as_bytes()) {
            Ok(()) => status,
            Err(error) => {
                complain(&format!(
                    "{done}; only its report could not be written to standard output ({})",
                    IoWords(&error)
                ));
                ExitCode::from(EXIT_IO)
            }
        }
    }
}

/// Says a sentence on standard error.
pub fn complain(text: &str) {
    streams::complain("bank-server", text);
}
