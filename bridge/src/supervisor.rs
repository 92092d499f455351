//! Runs the branches of the demo: real `bank-server` processes, each with a database and a log in one folder.
//!
//! It owns the processes and their ports, and keeps true that none outlives this one: each reads a pipe whose other end
//! is held here, and stops when that is closed, however this process ends. A branch comes back on the ports that it
//! had. One that has crashed is *not* started again by itself, because a branch that is gone is what a lesson is about;
//! [`Restarter::restart`] does it when somebody asks.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;
use protocol::{Address, BranchName};

use crate::bridge::Restarter;
use crate::limits::{DEMO_LOG_BYTES_TOLD, DEMO_LOOK_EVERY, DEMO_OUTPUT_LINES, DEMO_START, DEMO_STOP};

/// Where every branch of the demo listens.
const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The program of a branch, beside our own.
const PROGRAM: &str = "bank-server";
/// Variables that would change what a branch does.
const VARIABLES: &str = "BANK_";

/// The ports of a branch; 0 for any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Of the branch protocol.
    pub branch: u16,
    /// Of the menu.
    pub menu: u16,
}

/// The branches and their processes.
#[derive(Debug)]
pub struct Supervisor {
    program: PathBuf,
    folder: PathBuf,
    branches: Vec<Supervised>,
    is_ending: AtomicBool,
}

#[derive(Debug)]
struct Supervised {
    name: BranchName,
    /// What it is given if nobody else has it.
    wanted: Ports,
    /// What it was given at its first start.
    ports: OnceLock<Ports>,
    /// Locked as long as the branch is being started. None when it has ended.
    child: Mutex<Option<Child>>,
}

impl Supervisor {
    /// Branches of these names in this folder, none of which runs yet.
    ///
    /// # Errors
    /// When there is no `bank-server` beside this program.
    pub fn new(folder: &Path, branches: impl IntoIterator<Item = (BranchName, Ports)>) -> Result<Self, String> {
        let own = env::current_exe().map_err(|error| format!("the own program cannot be found: {error}"))?;
        let program = own.with_file_name(PROGRAM);
        if !program.exists() {
            return Err(format!("{} is missing: build it with `cargo build -p {PROGRAM}`", program.display()));
        }
        let branches = branches
            .into_iter()
            .map(|(name, wanted)| Supervised { name, wanted, ports: OnceLock::new(), child: Mutex::new(None) })
            .collect();
        Ok(Self { program, folder: folder.to_path_buf(), branches, is_ending: AtomicBool::new(false) })
    }

    /// Starts every branch, one after the other, so that each is told where those before it are.
    ///
    /// # Errors
    /// One sentence about the first that did not start.
    pub fn start(&self) -> Result<(), String> {
        for branch in &self.branches {
            let _ = fs::remove_file(self.log_path(&branch.name));
            let mut child = branch.child.lock();
            *child = Some(self.start_one(branch)?);
        }
        Ok(())
    }

    /// The branches and where they are, as far as they have been started.
    pub fn started(&self) -> impl Iterator<Item = (&BranchName, Ports)> {
        self.branches.iter().filter_map(|branch| Some((&branch.name, *branch.ports.get()?)))
    }

    /// Where a branch takes requests.
    #[must_use]
    pub fn address(ports: Ports) -> Address {
        Address::from((HOST, ports.branch))
    }

    /// Tells in the log which branches have ended, and lets the system forget them. Returns at the end of all.
    pub fn watch(&self) {
        while !self.is_ending.load(Ordering::SeqCst) {
            for branch in &self.branches {
                // One that is just being started is looked at later.
                if let Some(mut child) = branch.child.try_lock()
                    && let Some(status) = ended(child.as_mut())
                {
                    *child = None;
                    log::warn!("branch {} has ended ({status}); the dashboard can start it again", branch.name);
                }
            }
            thread::sleep(DEMO_LOOK_EVERY);
        }
    }

    /// Stops every branch, and kills those that are not gone within [`DEMO_STOP`].
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        let mut children: Vec<(&BranchName, Child)> =
            self.branches.iter().filter_map(|branch| Some((&branch.name, branch.child.lock().take()?))).collect();
        for (_, child) in &mut children {
            drop(child.stdin.take());
        }
        let deadline = Instant::now() + DEMO_STOP;
        while Instant::now() < deadline && children.iter_mut().any(|(_, child)| ended(Some(child)).is_none()) {
            thread::sleep(DEMO_LOOK_EVERY);
        }
        for (name, child) in &mut children {
            if ended(Some(child)).is_none() {
                log::warn!("branch {name} did not stop in time and is killed");
                // An error means that it has just ended.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    fn log_path(&self, name: &BranchName) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts a branch and waits until it listens. One whose database is still closed by the branch of an earlier demo,
    /// which has lost its supervisor, is tried again for a while.
    fn start_one(&self, branch: &Supervised) -> Result<Child, String> {
        let give_up_at = Instant::now() + DEMO_STOP;
        loop {
            match self.try_start(branch) {
                Ok(child) => return Ok(child),
                Err(_) if Instant::now() < give_up_at && !self.is_ending.load(Ordering::SeqCst) => {
                    thread::sleep(DEMO_LOOK_EVERY);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn try_start(&self, branch: &Supervised) -> Result<Child, String> {
        let failed = |why: &str| format!("branch {} did not start: {why}", branch.name);
        let mut child = self.command(branch)?.spawn().map_err(|error| failed(&error.to_string()))?;
        let said = child.stdout.take().map(lines_of);
        let ports = said.and_then(|said| wait_for_ports(&said, &branch.name));
        let Some(ports) = ports else {
            // It has ended, or hangs: in either case there is nothing to be had from it.
            let _ = child.kill();
            let _ = child.wait();
            let log = self.log_path(&branch.name);
            return Err(failed(&format!("{} (see {})", last_line(&log).unwrap_or_default(), log.display())));
        };
        // Only the first start decides.
        let _ = branch.ports.set(ports);
        Ok(child)
    }

    fn command(&self, branch: &Supervised) -> Result<Command, String> {
        let log_path = self.log_path(&branch.name);
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(|error| format!("{}: {error}", log_path.display()))?;
        let mut command = Command::new(&self.program);
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with(VARIABLES) {
                command.env_remove(variable);
            }
        }
        let ports = branch.ports.get().copied().unwrap_or_else(|| branch.wanted.if_free());
        command.arg("--name").arg(branch.name.as_str());
        command.arg("--db").arg(self.folder.join(format!("{}.db", branch.name)));
        command.arg("--port").arg(ports.branch.to_string()).arg("--menu-port").arg(ports.menu.to_string());
        command.args(["--host", &HOST.to_string(), "--preload", "--teaching", "--until-input-ends"]);
        let others = self.started().filter(|(name, _)| **name != branch.name);
        let peers: Vec<String> = others.map(|(name, ports)| format!("{name}={}", Self::address(ports))).collect();
        if !peers.is_empty() {
            command.arg("--peers").arg(peers.join(","));
        }
        // A group of its own: Ctrl-C is for the bridge, which then stops the branches.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0);
        Ok(command)
    }
}

impl Restarter for Supervisor {
    fn runs(&self, branch: &BranchName) -> bool {
        self.branches.iter().any(|supervised| supervised.name == *branch)
    }

    fn restart(&self, branch: &BranchName) -> Result<(), String> {
        let supervised = self.branches.iter().find(|supervised| supervised.name == *branch);
        let supervised = supervised.ok_or_else(|| format!("branch {branch} is not run from here"))?;
        let mut child = supervised.child.lock();
        if self.is_ending.load(Ordering::SeqCst) {
            return Err("the demo is ending".into());
        }
        if child.is_some() && ended(child.as_mut()).is_none() {
            return Ok(());
        }
        *child = Some(self.start_one(supervised)?);
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.end();
    }
}

impl Ports {
    /// Those of these that nobody listens on, and any for the others.
    #[must_use]
    fn if_free(self) -> Self {
        let or_any = |port: u16| if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() { port } else { 0 };
        Self { branch: or_any(self.branch), menu: or_any(self.menu) }
    }
}

/// How a process has ended; `None` as long as it runs.
fn ended(child: Option<&mut Child>) -> Option<ExitStatus> {
    child?.try_wait().ok().flatten()
}

/// The lines of a branch's standard output. It is read to its end, so that the branch is never held up.
fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (lines, said) = mpsc::sync_channel(DEMO_OUTPUT_LINES);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody may listen any more.
            let _ = lines.try_send(line);
        }
    });
    said
}

/// Waits for `branch NAME listening on 127.0.0.1:9100` and `menu on 127.0.0.1:1069`. `None` when they don't come.
fn wait_for_ports(said: &Receiver<String>, name: &BranchName) -> Option<Ports> {
    let (branch_says, menu_says) = (format!("branch {name} listening on "), "menu on ");
    let (mut branch, mut menu) = (None, None);
    let deadline = Instant::now() + DEMO_START;
    loop {
        let line = said.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
        let port = |label: &str| line.strip_prefix(label)?.rsplit_once(':')?.1.parse::<u16>().ok();
        branch = port(&branch_says).or(branch);
        menu = port(menu_says).or(menu);
        if let (Some(branch), Some(menu)) = (branch, menu) {
            return Some(Ports { branch, menu });
        }
    }
}

/// What a branch said last in its log.
fn last_line(path: &Path) -> Option<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(DEMO_LOG_BYTES_TOLD)))?;
        let mut bytes = Vec::new();
        file.take(DEMO_LOG_BYTES_TOLD).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().ok()?.lines().rfind(|line| !line.is_empty()).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_what_a_branch_says() {
        let delhi: BranchName = "Delhi".parse().unwrap();
        let check = |lines: &[&str]| {
            let (sender, said) = mpsc::sync_channel(DEMO_OUTPUT_LINES);
            lines.iter().for_each(|line| sender.send((*line).to_string()).unwrap());
            drop(sender);
            wait_for_ports(&said, &delhi)
        };
        let ports = Some(Ports { branch: 9101, menu: 1070 });
        assert_eq!(check(&["branch Delhi listening on 127.0.0.1:9101", "menu on 127.0.0.1:1070"]), ports);
        assert_eq!(check(&["x", "menu on 127.0.0.1:1070", "branch Delhi listening on 127.0.0.1:9101"]), ports);
        assert_eq!(check(&["branch Pune listening on 127.0.0.1:9101", "menu on 127.0.0.1:1070"]), None);
        assert_eq!(check(&[]), None);
    }

    #[test]
    fn a_port_that_is_taken_is_left_to_whoever_has_it() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(Ports { branch: port, menu: port }.if_free(), Ports::default());
    }
}
