//! A running branch.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::books::Books;
use crate::menu_connection::MenuConnection;
use crate::options::Options;
use crate::program_log::ProgramLog;
use crate::programs::server_command;
use crate::script::{Transcript, run_client};
use crate::wait::{DEADLINE, wait_until};

/// A real `bank-server`, killed and waited for when dropped.
#[derive(Debug)]
pub struct Branch {
    options: Options,
    /// Kept for as long as the branch, unless the database is elsewhere.
    _folder: Option<TempDir>,
    database: PathBuf,
    child: Child,
    menu_port: u16,
    lab_port: Option<u16>,
    log: ProgramLog,
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
    /// Starts a branch and waits until its doors are open.
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

    /// Starts a branch and waits until its doors are open, or until it has ended.
    ///
    /// # Errors
    /// What it said when it did not start.
    pub fn try_start(options: Options) -> Result<Self, StartFailure> {
        let (folder, database) = match &options.database {
            Some(path) => (None, path.clone()),
            None => {
                let folder = tempfile::Builder::new().prefix("bank-test-").tempdir().unwrap();
                let database = folder.path().join("bank.db");
                (Some(folder), database)
            }
        };
        let (child, menu_port, lab_port, log) = spawn(&options, &database)?;
        Ok(Self { options, _folder: folder, database, child, menu_port, lab_port, log })
    }

    /// The port of its menu.
    #[must_use]
    pub fn menu_port(&self) -> u16 {
        self.menu_port
    }

    /// The port of the older client's door.
    #[must_use]
    pub fn lab_port(&self) -> u16 {
        self.lab_port.expect("the branch was started without Options::lab")
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
        MenuConnection::open(self.menu_port).unwrap()
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
        run_client(&["--menu-port", &self.menu_port.to_string()], script.as_bytes())
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
        let mut ended = None;
        wait_until("the branch ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Starts it again, after its end, on the same database.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "the branch still runs");
        match spawn(&self.options, &self.database) {
            Ok((child, menu_port, lab_port, log)) => {
                self.child = child;
                self.menu_port = menu_port;
                self.lab_port = lab_port;
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

type Spawned = (Child, u16, Option<u16>, ProgramLog);

fn spawn(options: &Options, database: &Path) -> Result<Spawned, StartFailure> {
    let mut command = server_command();
    if let Some(program) = &options.program {
        command = Command::new(program);
    }
    if let Some(user) = options.user {
        command.uid(user).gid(user);
    }
    let is_given = |flag: &str| options.flags.iter().any(|given| given == flag);
    for port in ["--port", "--menu-port"] {
        if !is_given(port) {
            command.args([port, "0"]);
        }
    }
    command.args(&options.flags).arg("--db").arg(database);
    command.envs(options.variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let log = ProgramLog::collect(child.stderr.take().expect("standard error is piped"));
    let said = lines_of(&mut child);
    let mut ports = vec![("menu on ", None), ("lab on ", None)];
    let wanted = if options.has_lab { 2 } else { 1 };
    let deadline = Instant::now() + DEADLINE;
    while ports[..wanted].iter().any(|(_, port)| port.is_none()) {
        let Ok(line) = said.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
            // The output has ended, or the deadline has passed; in the latter case there is still a process.
            let _ = child.kill();
            let status = child.wait().unwrap().code();
            return Err(StartFailure { status, stderr: log.whole() });
        };
        for (label, port) in &mut ports {
            if let Some(address) = line.strip_prefix(*label) {
                *port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            }
        }
    }
    Ok((child, ports[0].1.expect("it was waited for"), ports[1].1, log))
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
