//! Running the real client with a script on its standard input.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::programs::clean_command;

/// What a run of `bank-client` gave.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// The transcript.
    pub stdout: String,
    /// What went wrong.
    pub stderr: String,
    /// The exit status.
    pub status: Option<i32>,
}

/// A command of `bank-client`, without the variables of the shell that would change it.
#[must_use]
pub fn client_command() -> Command {
    clean_command("bank-client")
}

/// Runs the client with these arguments and this input, to its end.
#[must_use]
pub fn run_client(arguments: &[&str], input: &[u8]) -> Transcript {
    let mut command = client_command();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A client that has no use for its input may have ended before it was written.
    let _ = child.stdin.take().expect("standard input is piped").write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Transcript { stdout: text(&output.stdout), stderr: text(&output.stderr), status: output.status.code() }
}
