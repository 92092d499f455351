//! Three PostgreSQL servers under Patroni, over three members of etcd, all on loopback: the set-up that
//! `docs/high-availability.md` describes, with a folder for each machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bank_tests::{HeldPort, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{command, other_user};

/// The configuration of one Patroni, which stands word for word in the documents, but for names and addresses.
const PATRONI: &str = include_str!("../../../deploy/high-availability/patroni.yml");

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    machines: [Machine; 3],
    _folder: TempDir,
}

/// One of the three machines.
#[derive(Debug)]
struct Machine {
    folder: PathBuf,
    number: usize,
    /// PostgreSQL, Patroni, etcd for its clients, etcd for its members.
    ports: [HeldPort; 4],
    etcd: Child,
    patroni: Child,
}

impl Cluster {
    /// Whether the programs are there.
    #[must_use]
    pub fn is_possible() -> bool {
        ["patroni", "etcd"].iter().all(|name| Command::new(name).arg("--version").output().is_ok())
    }

    /// Starts all of it, with an empty database `bank`.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("bank-patroni-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let ports = [1, 2, 3].map(|_| [(); 4].map(|()| HeldPort::pick()));
        let list = |of: usize, form: &dyn Fn(usize, u16) -> String| {
            let each = ports.iter().enumerate().map(|(index, ports)| form(index + 1, ports[of].number()));
            each.collect::<Vec<_>>()
        };
        let members = list(3, &|number, port| format!("etcd{number}=http://127.0.0.1:{port}")).join(",");
        let clients = list(2, &|_, port| format!("\"127.0.0.1:{port}\"")).join(", ");
        let mut number = 0;
        let machines = ports.map(|ports| {
            number += 1;
            let machine = folder.path().join(format!("machine{number}"));
            make_folder(&machine);
            let configuration = PATRONI
                .replace("{number}", &number.to_string())
                .replace("{postgres}", &format!("127.0.0.1:{}", ports[0].number()))
                .replace("{rest}", &format!("127.0.0.1:{}", ports[1].number()))
                .replace("{etcd}", &clients)
                .replace("{folder}", machine.to_str().unwrap())
                .replace(
                    "{programs}",
                    command("postgres").get_program().to_str().unwrap().trim_end_matches("/postgres"),
                );
            fs::write(machine.join("patroni.yml"), configuration).unwrap();
            fs::write(machine.join("members"), &members).unwrap();
            let etcd = spawn_etcd(&machine, number, &ports);
            let patroni = spawn_patroni(&machine);
            Machine { folder: machine, number, ports, etcd, patroni }
        });
        let cluster = Self { machines, _folder: folder };
        wait_until("the cluster has a leader and a synchronous standby", || cluster.has_synchronous_standby());
        cluster.sql("CREATE ROLE bank LOGIN").unwrap();
        cluster.sql("CREATE DATABASE bank OWNER bank").unwrap();
        cluster
    }

    /// What `--commit-log` is given.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self.machines.each_ref().map(|machine| format!("127.0.0.1:{}", machine.ports[0].number()));
        format!("postgres://bank@{}/bank?target_session_attrs=read-write", hosts.join(","))
    }

    /// The machine whose server takes writes.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        (0..3).find(|index| self.sql_at(*index, "SELECT pg_is_in_recovery()").as_deref() == Some("f"))
    }

    /// Whether a commit is on two machines when it is answered.
    #[must_use]
    pub fn has_synchronous_standby(&self) -> bool {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')";
        self.sql(sql).is_some_and(|count| count != "0")
    }

    fn sql(&self, sql: &str) -> Option<String> {
        self.sql_at(self.leader()?, sql)
    }

    fn sql_at(&self, index: usize, sql: &str) -> Option<String> {
        let port = self.machines[index].ports[0].number().to_string();
        let mut psql = command("psql");
        psql.env("PGCONNECT_TIMEOUT", "2").args(["-h", "127.0.0.1", "-U", "postgres", "-AtX", "-d", "postgres", "-p"]);
        let output = psql.arg(port).args(["-c", sql]).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    }

    /// Kills a machine's PostgreSQL; its Patroni sees to it.
    pub fn kill_postgres(&self, index: usize) {
        self.machines[index].signal_postgres(Signal::KILL);
    }

    /// Kills all of a machine but etcd, and starts it again after `meanwhile`.
    pub fn lose_machine(&mut self, index: usize, meanwhile: impl FnOnce()) {
        let machine = &mut self.machines[index];
        machine.patroni.kill().unwrap();
        machine.patroni.wait().unwrap();
        machine.signal_postgres(Signal::KILL);
        meanwhile();
        machine.patroni = spawn_patroni(&machine.folder);
    }

    /// Has a machine's Patroni stand still for `meanwhile`.
    pub fn stop_patroni(&self, index: usize, meanwhile: impl FnOnce()) {
        let patroni = Pid::from_child(&self.machines[index].patroni);
        kill_process(patroni, Signal::STOP).unwrap();
        meanwhile();
        kill_process(patroni, Signal::CONT).unwrap();
    }

    /// Kills a member of etcd, and starts it again after `meanwhile`.
    pub fn kill_etcd(&mut self, index: usize, meanwhile: impl FnOnce()) {
        let machine = &mut self.machines[index];
        machine.etcd.kill().unwrap();
        machine.etcd.wait().unwrap();
        meanwhile();
        machine.etcd = spawn_etcd(&machine.folder, machine.number, &machine.ports);
    }
}

impl Machine {
    fn signal_postgres(&self, signal: Signal) {
        let Ok(text) = fs::read_to_string(self.folder.join("data/postmaster.pid")) else { return };
        let number = text.lines().next().and_then(|line| line.parse().ok());
        if let Some(leader) = number.and_then(Pid::from_raw) {
            // It may have ended.
            let _ = kill_process(leader, signal);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in [&mut self.patroni, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.signal_postgres(Signal::QUIT);
    }
}

fn make_folder(folder: &Path) {
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    if let Some((user, group)) = other_user() {
        chown(folder, Some(user), Some(group)).unwrap();
    }
}

fn log(folder: &Path, name: &str) -> fs::File {
    fs::OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap()
}

fn spawn_etcd(folder: &Path, number: usize, ports: &[HeldPort; 4]) -> Child {
    let url = |port: &HeldPort| format!("http://127.0.0.1:{}", port.number());
    let members = fs::read_to_string(folder.join("members")).unwrap();
    let mut etcd = Command::new("etcd");
    etcd.arg("--name").arg(format!("etcd{number}")).arg("--data-dir").arg(folder.join("etcd"));
    for flag in ["--listen-client-urls", "--advertise-client-urls"] {
        etcd.arg(flag).arg(url(&ports[2]));
    }
    for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
        etcd.arg(flag).arg(url(&ports[3]));
    }
    etcd.arg("--initial-cluster").arg(members).stdin(Stdio::null()).stdout(Stdio::null());
    etcd.stderr(log(folder, "etcd.log")).spawn().unwrap()
}

fn spawn_patroni(folder: &Path) -> Child {
    let mut patroni = Command::new("patroni");
    if let Some((user, group)) = other_user() {
        patroni.uid(user).gid(group);
    }
    patroni.arg(folder.join("patroni.yml")).current_dir(folder).process_group(0).env("HOME", folder);
    patroni.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(folder, "patroni.log")).spawn().unwrap()
}
