//! A running branch.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use protocol::proof::BranchKey;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::books::Books;
use crate::branch_connection::BranchConnection;
use crate::held_port::HeldPort;
use crate::menu_connection::MenuConnection;
use crate::options::Options;
use crate::program_log::ProgramLog;
use crate::programs::server_command;
use crate::script::{Transcript, run_client};
use crate::wait::{DEADLINE, wait_for};

/// A real `bank-server`, killed and waited for when dropped.
#[derive(Debug)]
pub struct Branch {
    options: Options,
    /// Kept for as long as the branch, unless the database is elsewhere.
    _folder: Option<TempDir>,
    database: PathBuf,
    /// Kept from others also while the branch is down, so that it comes back where its peers look for it.
    held_port: HeldPort,
    child: Child,
    ports: Ports,
    log: ProgramLog,
}

/// Where it listens.
#[derive(Clone, Debug)]
struct Ports {
    branch: u16,
    menu: u16,
    lab: Option<u16>,
}

/// How a start failed.
#[derive(Debug)]
pub struct StartFailure {
    /// The exit status.
    pub status: Option<i32>,
    /// All that was written to standard error.
    pub stderr: String,
}

impl Branch {
    /// Starts a branch and waits until it listens.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    #[track_caller]
    pub fn start(options: Options) -> Self {
        match Self::try_start(options) {
            Ok(branch) => branch,
            Err(failure) => panic!("the branch did not start: {failure:?}"),
        }
    }

    /// Starts a branch and waits until it listens, or until it has ended.
    ///
    /// # Errors
    /// What it said when it did not start.
    pub fn try_start(mut options: Options) -> Result<Self, StartFailure> {
        let (folder, database) = match &options.database {
            Some(path) => (None, path.clone()),
            None => {
                let folder = tempfile::Builder::new().prefix("bank-test-").tempdir().unwrap();
                let database = folder.path().join("bank.db");
                (Some(folder), database)
            }
        };
        let held_port = HeldPort::pick();
        let (child, ports, log) = spawn(&options, &database, &held_port)?;
        options.crash_at = None;
        Ok(Self { options, _folder: folder, database, held_port, child, ports, log })
    }

    /// The port of the branch protocol, the same after each start.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.branch
    }

    /// A new connection to the branch protocol, with the key proved.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> BranchConnection {
        let mut connection = self.connect_anonymously();
        connection.prove(&self.key()).unwrap();
        connection
    }

    /// A new connection to the branch protocol, with nothing proved.
    #[must_use]
    #[track_caller]
    pub fn connect_anonymously(&self) -> BranchConnection {
        BranchConnection::connect(self.port()).unwrap()
    }

    /// Where the branch key is.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.database.with_file_name("bank.key")
    }

    /// The branch key.
    #[must_use]
    #[track_caller]
    pub fn key(&self) -> BranchKey {
        fs::read_to_string(self.key_path()).unwrap().parse().unwrap()
    }

    /// The port of its menu.
    #[must_use]
    pub fn menu_port(&self) -> u16 {
        self.ports.menu
    }

    /// The port of the older client's port.
    #[must_use]
    pub fn lab_port(&self) -> u16 {
        self.ports.lab.expect("the branch was started without Options::lab")
    }

    /// Its database file.
    #[must_use]
    pub fn database_path(&self) -> &Path {
        &self.database
    }

    /// A look into its database, whether it runs or not.
    #[must_use]
    pub fn database(&self) -> Books {
        Books::open(&self.database)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> &ProgramLog {
        &self.log
    }

    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// A new client at its menu, with the first menu read.
    #[must_use]
    #[track_caller]
    pub fn menu(&self) -> MenuConnection {
        MenuConnection::open(self.menu_port()).unwrap()
    }

    /// A new client at its menu, logged in.
    #[must_use]
    #[track_caller]
    pub fn log_in(&self, account: &str, password: &str) -> MenuConnection {
        let mut menu = self.menu();
        menu.log_in(account, password).unwrap();
        menu
    }

    /// Runs the real client with this script, each line an answer, and waits for its end.
    #[must_use]
    pub fn client_script(&self, script: &str) -> Transcript {
        run_client(&["--menu-port", &self.menu_port().to_string()], script.as_bytes())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).unwrap();
    }

    /// Kills it with SIGKILL and waits until it is gone.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        let status = self.wait();
        assert_eq!(status.signal(), Some(9), "it had ended before: {status}; the log:\n{}", self.log.text());
    }

    /// Stops it with SIGTERM and gives its exit status.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait().code()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the branch ends", || self.child.try_wait().unwrap())
    }

    /// Waits until it has killed itself, as a crash point has it do.
    #[track_caller]
    pub fn wait_for_crash(&mut self) {
        let status = self.wait();
        assert_eq!(status.signal(), Some(9), "it ended by itself: {status}; the log:\n{}", self.log.text());
    }

    /// Makes a backup of its database, whether it runs or not; the books have to be clean.
    #[track_caller]
    pub fn back_up(&self, to: &Path) {
        let output = server_command().arg("backup").arg(to).arg("--db").arg(&self.database).output().unwrap();
        assert!(output.status.success(), "no clean backup: {output:?}");
    }

    /// Puts a backup in the place of its database, after its end. What was there is kept beside it.
    #[track_caller]
    pub fn put_back(&self, copy: &Path) {
        let mut command = server_command();
        let output = command.arg("restore").arg(copy).args(["--force", "--db"]).arg(&self.database).output().unwrap();
        assert!(output.status.success(), "the backup was not restored: {output:?}");
    }

    /// Starts it again, after its end, on the same database and the same port of the branch protocol.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "the branch still runs");
        match spawn(&self.options, &self.database, &self.held_port) {
            Ok((child, ports, log)) => {
                self.child = child;
                self.ports = ports;
                self.log = log;
            }
            Err(failure) => panic!("the branch did not start again: {failure:?}"),
        }
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        // It has ended already, if the test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

type Spawned = (Child, Ports, ProgramLog);

fn spawn(options: &Options, database: &Path, held_port: &HeldPort) -> Result<Spawned, StartFailure> {
    let mut child = command(options, database, held_port).spawn().unwrap();
    let log = ProgramLog::collect(child.stderr.take().expect("standard error is piped"));
    let said = lines_of(&mut child);
    // `branch NAME listening on 127.0.0.1:9100`, `menu on …`, `lab on …`.
    let mut ports = [("branch ", None), ("menu on ", None), ("lab on ", None)];
    let wanted = if options.has_lab { 3 } else { 2 };
    let deadline = Instant::now() + DEADLINE;
    while ports[..wanted].iter().any(|(_, port)| port.is_none()) {
        let Ok(line) = said.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
            // The output has ended, or the deadline has passed; in the latter case there is still a process.
            let _ = child.kill();
            let status = child.wait().unwrap().code();
            return Err(StartFailure { status, stderr: log.whole() });
        };
        for (label, port) in &mut ports {
            if line.starts_with(*label) {
                *port = line.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            }
        }
    }
    let [(_, branch), (_, menu), (_, lab)] = ports;
    let ports = Ports { branch: branch.expect("it was waited for"), menu: menu.expect("it was waited for"), lab };
    Ok((child, ports, log))
}

fn command(options: &Options, database: &Path, held_port: &HeldPort) -> Command {
    let mut command = server_command();
    if let Some(program) = &options.program {
        command = Command::new(program);
    }
    if let Some(user) = options.user {
        command.uid(user).gid(user);
    }
    let is_given = |flag: &str| options.flags.iter().any(|given| given == flag);
    for (flag, port) in [("--port", held_port.number()), ("--menu-port", 0)] {
        if !is_given(flag) {
            command.args([flag, &port.to_string()]);
        }
    }
    command.args(&options.flags).arg("--db").arg(database);
    if let Some(point) = &options.crash_at {
        command.args(["--teaching", "--crash-at", point]);
    }
    command.envs(options.variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The lines of standard output, which is read to its end so that the program is never held up.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let output = child.stdout.take().expect("standard output is piped");
    let (lines, said) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody listens once the ports are known.
            let _ = lines.send(line);
        }
    });
    said
}
