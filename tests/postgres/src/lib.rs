//! A real PostgreSQL for tests: in a temporary folder, on a port of its own, ended when it is dropped.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a helper of a test fails as the test does")]

mod clerks;
mod cluster;
mod proxy;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bank_tests::{Branch, HeldPort, Options, wait_until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

pub use clerks::Clerks;
pub use cluster::Cluster;
pub use proxy::{Cut, Proxy};

/// A server. Root can't run one, so root runs it as another user.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    /// Deleted with it.
    temporary: Option<TempDir>,
    port: HeldPort,
    child: Child,
}

impl Server {
    /// Starts a server with an empty database `bank`.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let temporary = tempfile::Builder::new().prefix("bank-postgres-").tempdir().unwrap();
        let folder = temporary.path().to_path_buf();
        let mut server = Self::start_in(&folder);
        server.temporary = Some(temporary);
        server
    }

    /// As [`Server::start`], in an empty folder.
    #[must_use]
    #[track_caller]
    pub fn start_in(folder: &Path) -> Self {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((user, group)) = other_user() {
            chown(folder, Some(user), Some(group)).unwrap();
        }
        let mut initdb = command("initdb");
        let data = folder.join("data");
        let output = initdb.args(["-A", "trust", "-U", "bank", "-D"]).arg(&data).output().unwrap();
        assert!(output.status.success(), "no database cluster: {output:?}");
        let port = HeldPort::pick();
        let child = spawn(folder, &port);
        let server = Self { folder: folder.into(), temporary: None, port, child };
        server.wait_until_ready();
        server.sql("postgres", "CREATE DATABASE bank");
        server
    }

    /// What `--commit-log` is given.
    #[must_use]
    pub fn url(&self) -> String {
        Self::url_at(self.port())
    }

    /// As [`Server::url`], by way of another port.
    #[must_use]
    pub fn url_at(port: u16) -> String {
        format!("postgres://bank@127.0.0.1:{port}/bank")
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Executes statements, and gives what they print.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.try_sql(database, sql);
        output.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = command("psql");
        psql.args(["-h", "127.0.0.1", "-U", "bank", "-AtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        let output = psql.arg("-p").arg(self.port().to_string()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_string();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        wait_until("PostgreSQL takes connections", || self.try_sql("postgres", "SELECT 1").is_ok());
    }

    /// Kills it, as a power failure would, with all that it has started.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Sends a signal to the server and to each of its processes.
    pub fn signal(&self, signal: Signal) {
        let leader = Pid::from_child(&self.child);
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", leader.as_raw_nonzero())).unwrap();
        for child in children.split_whitespace() {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), signal);
        }
        let _ = kill_process(leader, signal);
        let _ = kill_process_group(leader, signal);
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Starts it again on what it had, and waits until it answers.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder, &self.port);
        self.wait_until_ready();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        // At once and without a trace: the folder goes as well.
        let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, port: &HeldPort) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut postgres = command("postgres");
    postgres.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).arg("-p").arg(port.number().to_string());
    postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=60"]);
    postgres.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// One of PostgreSQL's programs, run as a user that may run it, in a folder that it may be in.
fn command(name: &str) -> Command {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin").join(name)).collect())
        .unwrap_or_default();
    found.retain(|path| path.exists());
    found.sort();
    let mut command = Command::new(found.pop().unwrap_or_else(|| name.into()));
    command.current_dir("/").env("LC_ALL", "C").env_remove("PGPASSFILE");
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command
}

/// Root's other user: nobody.
fn other_user() -> Option<(u32, u32)> {
    rustix::process::getuid().is_root().then_some((65_534, 65_534))
}

/// The flags of one of a branch's processes.
#[must_use]
pub fn process(name: &str, url: &str) -> Options {
    Options::named(name).value("--commit-log", url)
}

/// Whether a process owns its branch.
#[must_use]
pub fn is_owner(branch: &Branch) -> bool {
    branch.replication().is_some_and(|status| status["role"] == "primary")
}

/// Waits until one of these processes owns the branch, and says which.
#[track_caller]
pub fn wait_for_owner(processes: &[&Branch]) -> usize {
    let mut owner = None;
    wait_until("a process owns the branch", || {
        owner = processes.iter().position(|process| is_owner(process));
        owner.is_some()
    });
    owner.unwrap()
}
