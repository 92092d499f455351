//! Where the built programs are, and a surrounding in which nothing of the developer's own shell leaks in.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Variables that would change what the programs do.
const FOREIGN_PREFIXES: [&str; 6] = ["BANK_", "TWILIO_", "RUST_LOG", "LD_PRELOAD", "NO_COLOR", "TERM"];

/// The path of a built program: the folder above the test's own program.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.parent().and_then(|deps| deps.parent()).expect("a test's program is in target/*/deps");
    let program = folder.join(name);
    assert!(program.exists(), "{} is missing: run make test, which builds the programs first", program.display());
    program
}

/// A command of `bank-server`, without the variables of the shell that would change it.
#[must_use]
pub fn server_command() -> Command {
    clean_command("bank-server")
}

/// A command of any of the programs, without the variables that they heed.
#[must_use]
pub fn clean_command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for (variable, _) in env::vars_os() {
        let is_foreign = |prefix: &&str| variable.to_string_lossy().starts_with(prefix);
        if FOREIGN_PREFIXES.iter().any(is_foreign) {
            command.env_remove(variable);
        }
    }
    command
}
