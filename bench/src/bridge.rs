//! A bridge that the benchmark starts: the program beside this one, open, on a port of its own choice.

use std::path::Path;
use std::process::Command;

use crate::branch::{Branch, Process};

/// Starts a bridge before these branches, with the branch key of `folder`.
///
/// # Errors
/// One sentence, with the end of the bridge's log when there is one.
pub fn start(program: &Path, folder: &Path, branches: &[&Branch]) -> Result<Process, String> {
    let mut command = Command::new(program);
    command.args(["--open", "--port", "0"]).current_dir(folder);
    for branch in branches {
        command.args(["--branch", &format!("{}={}", branch.name(), branch.address())]);
    }
    Process::start(command, &folder.join("bridge.log"), "bridge on http://")
}
