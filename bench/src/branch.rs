//! A branch that the benchmark starts: the program beside this one, on ports of its own choice. How a program is
//! found and started serves the bridge too.
//!
//! Branches that are to move money between them share a folder, and so the branch key in it.
//!
//! The process is killed when its value is dropped: by its handle, so never another's.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a branch may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running branch.
pub struct Branch {
    process: Process,
    /// From the start of the process to the line that says that it listens.
    start_up: Duration,
    program: PathBuf,
    name: String,
    folder: PathBuf,
    flags: Vec<String>,
}

impl Branch {
    /// Starts the branch `name` on its database in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// One sentence, with the end of the branch's log when there is one.
    pub fn start(program: &Path, name: &str, folder: &Path) -> Result<Self, String> {
        Self::start_with(program, name, folder, Vec::new())
    }

    /// The same, with more flags.
    ///
    /// # Errors
    /// As [`Branch::start`].
    pub fn start_with(program: &Path, name: &str, folder: &Path, flags: Vec<String>) -> Result<Self, String> {
        let (process, start_up) = spawn(program, name, folder, &flags)?;
        Ok(Self { process, start_up, program: program.into(), name: name.into(), folder: folder.into(), flags })
    }

    /// Starts a replica of this branch, in a folder of its own beside this one's.
    ///
    /// # Errors
    /// As [`Branch::start`].
    pub fn start_replica(&self) -> Result<Self, String> {
        let folder = self.folder.join("replica");
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        std::fs::copy(self.folder.join("bank.key"), folder.join("bank.key")).map_err(failed)?;
        Self::start_with(&self.program, &self.name, &folder, vec!["--replica-of".into(), self.address().to_string()])
    }

    /// Kills the branch with SIGKILL and starts it again on the same database.
    ///
    /// # Errors
    /// As [`Branch::start`].
    pub fn kill_and_restart(&mut self) -> Result<(), String> {
        self.process.child.kill();
        (self.process, self.start_up) = spawn(&self.program, &self.name, &self.folder, &self.flags)?;
        Ok(())
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it takes requests.
    pub fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// How long its last start took, until it listened.
    pub fn start_up(&self) -> Duration {
        self.start_up
    }
}

/// A new folder in `parent`, which goes when the value is dropped.
///
/// # Errors
/// One sentence when nothing can be made there.
pub fn temporary_folder(parent: &Path) -> Result<TempDir, String> {
    let folder = tempfile::Builder::new().prefix("bank-bench-").tempdir_in(parent);
    folder.map_err(|error| format!("no folder in {}: {error}", parent.display()))
}

/// A program of the bank, beside this one.
///
/// # Errors
/// One sentence that says how to build it.
pub fn program_beside(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let program = own.with_file_name(name);
    if program.is_file() {
        Ok(program)
    } else {
        Err(format!("there is no {}: build it with cargo build --release -p {name}", program.display()))
    }
}

fn spawn(program: &Path, name: &str, folder: &Path, flags: &[String]) -> Result<(Process, Duration), String> {
    let mut command = Command::new(program);
    command.args(["--name", name, "--host", "127.0.0.1", "--port", "0", "--menu-port", "0", "--open", "--db"]);
    command.arg(folder.join(format!("{name}.db"))).args(flags).current_dir(folder);
    let begun = Instant::now();
    let log_path = folder.join(format!("{name}.log"));
    let process = Process::start(command, &log_path, &format!("branch {name} listening on "))?;
    Ok((process, begun.elapsed()))
}

/// A program that listens.
pub struct Process {
    child: KilledOnDrop,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Process {
    /// Starts a program, which prints its address after `prefix` once it listens.
    ///
    /// # Errors
    /// One sentence, with the end of its log when there is one.
    pub fn start(mut command: Command, log_path: &Path, prefix: &str) -> Result<Self, String> {
        let log = File::create(log_path).map_err(|error| format!("{}: {error}", log_path.display()))?;
        // What the environment says about other branches of this machine must not reach this one.
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("BANK_"))
        {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = KilledOnDrop(command.spawn().map_err(|error| format!("{program}: {error}"))?);
        let stdout = child.0.stdout.take().expect("standard output is piped");
        let address = wait_for_address(stdout, prefix).map_err(|error| {
            let log = std::fs::read_to_string(log_path).unwrap_or_default();
            let last = log.lines().next_back().unwrap_or("its log is empty");
            format!("{program} {error}: {last}")
        })?;
        Ok(Self { child, address })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }
}

struct KilledOnDrop(Child);

impl KilledOnDrop {
    fn kill(&mut self) {
        // It may have ended by itself; either way it is gone after the wait.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the line that begins with `prefix`. Returns the address after it. The rest of the output is
/// read and dropped, so that the branch never finds its output closed.
fn wait_for_address(stdout: ChildStdout, prefix: &str) -> Result<SocketAddr, String> {
    let (found, address) = mpsc::channel();
    let prefix = prefix.to_string();
    let read = move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix(&prefix) {
                // Nobody waits any longer once the limit has passed.
                let _ = found.send(address.parse());
            }
        }
    };
    std::thread::Builder::new().name("output".into()).spawn(read).map_err(|error| error.to_string())?;
    match address.recv_timeout(START_LIMIT) {
        Ok(Ok(address)) => Ok(address),
        Ok(Err(error)) => Err(format!("printed an address that is none ({error})")),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("did not listen within {START_LIMIT:?}")),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("ended before it listened".into()),
    }
}
