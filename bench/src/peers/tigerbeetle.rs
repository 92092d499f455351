//! TigerBeetle, by the load generator of its own program: `tigerbeetle benchmark` formats a data file for one replica,
//! starts it, and measures it, in a folder that goes afterwards.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::branch::temporary_folder;
use crate::latency::Latencies;
use crate::measurement::Measurement;

/// About how many transfers a second it makes, by the transfers in a batch: its load is a number of transfers, not a
/// time, and this makes the measurement last about as long as the others. It is no part of what is measured.
const EXPECTED: [(usize, u64); 3] = [(1, 1_500), (64, 30_000), (usize::MAX, 75_000)];

/// Clients of one replica at most, as it is built: it drops the connections of more, and its load generator then waits
/// for ever.
pub const CLIENTS_MAX: usize = 32;
/// How much longer than expected a measurement may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program.
pub struct TigerBeetle {
    program: PathBuf,
    version: String,
}

impl TigerBeetle {
    /// Asks the program for its version.
    ///
    /// # Errors
    /// One sentence when it doesn't run.
    pub fn look(program: &Path) -> Result<Self, String> {
        let version = run(Command::new(program).arg("version"), program)?;
        // It is started in another folder later, so a relative path has to be told from here.
        let program = program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Self { program, version: version.lines().next().unwrap_or("TigerBeetle").to_string() })
    }

    /// Its version and how it is loaded.
    pub fn describe(&self) -> String {
        format!("{}: one replica, tigerbeetle benchmark, its settings as they are", self.version)
    }

    /// Makes transfers in batches of `batch` by `clients` clients, for about `duration`.
    ///
    /// # Errors
    /// One sentence when it can't be measured.
    pub fn measure(
        &self,
        folder: &Path,
        accounts: u64,
        clients: usize,
        batch: usize,
        duration: Duration,
    ) -> Result<Measurement, String> {
        let folder = temporary_folder(folder)?;
        let expected = EXPECTED.iter().find(|(most, _)| batch <= *most).map_or(1, |(_, rate)| *rate);
        let transfers = (expected * duration.as_secs().max(1)).next_multiple_of(batch as u64);
        let mut command = Command::new(&self.program);
        command.arg("benchmark").args([
            format!("--account-count={accounts}"),
            format!("--transfer-count={transfers}"),
            format!("--transfer-batch-count={batch}"),
            format!("--clients={clients}"),
            "--query-count=0".to_string(),
        ]);
        let text = run_within(command.current_dir(folder.path()), folder.path(), duration * 4 + PATIENCE)?;
        let rate = rate(&text).ok_or_else(|| format!("tigerbeetle benchmark printed no rate: {text:?}"))?;
        // It prints the rate alone, so the time is what the transfers took at that rate.
        let lasted = Duration::from_millis(transfers * 1_000 / rate.max(1));
        Ok(Measurement::new(transfers, 0, None, lasted, &Latencies::new()))
    }
}

/// The rate in `load accepted = 31650 tx/s`.
fn rate(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("load accepted"))?;
    line.split_once('=')?.1.split_whitespace().next()?.parse().ok()
}

fn run(command: &mut Command, program: &Path) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{} failed: {}", program.display(), text.trim())) }
}

/// Runs the load generator, which starts a replica, and ends both when it takes too long. Returns what it printed, to
/// either output, by its version.
fn run_within(command: &mut Command, folder: &Path, limit: Duration) -> Result<String, String> {
    let path = folder.join("output");
    let failed = |error: std::io::Error| format!("tigerbeetle benchmark: {error}");
    let file = File::create(&path).map_err(failed)?;
    command.stdin(Stdio::null()).stdout(file.try_clone().map_err(failed)?).stderr(file);
    // A group of its own, so that the replica ends with it.
    let mut child = command.process_group(0).spawn().map_err(failed)?;
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if status.is_none() {
        // That the group is gone already would be no failure.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
        let _ = child.wait();
    }
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let last = text.lines().next_back().unwrap_or("it printed nothing");
    match status {
        Some(status) if status.success() => Ok(text),
        Some(status) => Err(format!("tigerbeetle benchmark failed ({status}): {last}")),
        None => Err(format!("tigerbeetle benchmark took more than {limit:?}: {last}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_among_the_rest() {
        assert_eq!(rate("1 batches in 0.3 s\nload accepted = 31650 tx/s\nbatch latency p50 = 8 ms\n"), Some(31_650));
        assert_eq!(rate("error: no space left"), None);
    }
    #[test]
    fn what_never_ends_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        // The child of the child holds the output open as a replica does.
        shell.args(["-c", "echo $$; sleep 600 & wait"]);
        let begun = Instant::now();
        let error = run_within(&mut shell, folder.path(), Duration::from_millis(300)).unwrap_err();
        assert!(error.contains("took more than") && begun.elapsed() < Duration::from_secs(60), "{error}");
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo load accepted = 7 tx/s >&2"]);
        assert_eq!(rate(&run_within(&mut shell, folder.path(), PATIENCE).unwrap()), Some(7));
    }
}
