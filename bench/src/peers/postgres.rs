//! PostgreSQL: a server of our own in a temporary folder, with two databases of the same accounts.
//!
//! Transfers within one database are made by pgbench. Those between two are made here, since pgbench speaks to one
//! database at a time: prepare at both, commit at both, as a program does that has no server for it.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use tempfile::TempDir;

use crate::branch::temporary_folder;
use crate::latency::Latencies;
use crate::measurement::Measurement;
use crate::random::Random;

/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Both databases, by the branches whose part they play.
const DATABASES: [&str; 2] = ["mumbai", "delhi"];
/// What the server is started with: durable as the bank is, and beyond that what helps it. `wal_level=minimal` writes
/// less than a replica or an archive would need.
const SETTINGS: [&str; 11] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "wal_level=minimal",
    "max_wal_senders=0",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=30min",
    "max_connections=300",
    "max_prepared_transactions=300",
    "listen_addresses=127.0.0.1",
];
/// The same accounts and rows as the bank's, with none of its indexes by account and no chain of hashes.
const SCHEMA: &str = "
CREATE TABLE accounts (number bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0)) WITH (fillfactor = 80);
CREATE TABLE transactions (
    transaction_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_account bigint NOT NULL, to_account bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0), date timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION transfer(payer bigint, receiver bigint, moved bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts SET balance = balance + CASE number WHEN payer THEN -moved ELSE moved END
        WHERE number = least(payer, receiver);
    UPDATE accounts SET balance = balance + CASE number WHEN payer THEN -moved ELSE moved END
        WHERE number = greatest(payer, receiver);
    INSERT INTO transactions (from_account, to_account, amount) VALUES (payer, receiver, moved);
END $$;";
/// Draws two different accounts for pgbench, and tells the smaller: locks that are taken in one order can't wait for
/// each other in a ring, so no transfer has to be tried again.
const DRAW: &str = "\\set payer random(1, :accounts)
\\set receiver 1 + (:payer + random(1, :accounts - 1) - 1) % :accounts
\\set low least(:payer, :receiver)
\\set high greatest(:payer, :receiver)
";

/// How a client makes a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statements {
    /// BEGIN, two UPDATEs, INSERT, COMMIT, each waited for, as a program does through a driver.
    OneByOne,
    /// One call of a function that is stored at the server.
    InOneCall,
}

impl Statements {
    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneByOne => "statements",
            Self::InOneCall => "a function",
        }
    }

    fn script(self) -> String {
        let statements = match self {
            Self::OneByOne => {
                "BEGIN;
UPDATE accounts SET balance = balance + CASE number WHEN :payer THEN -1 ELSE 1 END WHERE number = :low;
UPDATE accounts SET balance = balance + CASE number WHEN :payer THEN -1 ELSE 1 END WHERE number = :high;
INSERT INTO transactions (from_account, to_account, amount) VALUES (:payer, :receiver, 1);
COMMIT;
"
            }
            Self::InOneCall => "SELECT transfer(:payer, :receiver, 1);\n",
        };
        format!("{DRAW}{statements}")
    }
}

/// Finds the folder with PostgreSQL's programs: the one that is named, else what `pg_config` says, else Debian's newest.
///
/// # Errors
/// One sentence that says what to install or to name.
pub fn find_programs(named: Option<&Path>) -> Result<PathBuf, String> {
    let is_one = |folder: &PathBuf| ["initdb", "postgres", "pgbench"].iter().all(|name| folder.join(name).is_file());
    if let Some(named) = named {
        let named = named.to_path_buf();
        return if is_one(&named) {
            Ok(named)
        } else {
            Err(format!("{} holds no initdb, postgres and pgbench", named.display()))
        };
    }
    let told = output(Command::new("pg_config").arg("--bindir")).ok().map(|text| PathBuf::from(text.trim()));
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packaged: Vec<PathBuf> = packaged.map(|entry| entry.path().join("bin")).collect();
    packaged.sort();
    let mut found = told.into_iter().chain(packaged.into_iter().rev());
    found.find(is_one).ok_or_else(|| {
        "PostgreSQL's programs were not found: install it (Debian: apt-get install postgresql), or name their folder with \
         --postgres"
            .into()
    })
}

/// Its version and the settings it is measured with.
///
/// # Errors
/// One sentence when it doesn't run.
pub fn describe(programs: &Path) -> Result<String, String> {
    let version = output(Command::new(programs.join("postgres")).arg("--version"))?;
    Ok(format!("{}: {}", version.trim(), SETTINGS.join(", ")))
}

/// A running server.
pub struct Postgres {
    child: Child,
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    accounts: u64,
}

impl Postgres {
    /// Starts a server on new databases in a folder of its own in `parent`.
    ///
    /// # Errors
    /// One sentence, with the end of the server's log when there is one.
    pub fn start(programs: &Path, parent: &Path, accounts: u64) -> Result<Self, String> {
        let folder = temporary_folder(parent)?;
        let owner = Owner::look(folder.path())?;
        let data = folder.path().join("data");
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=bank", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data);
        output(owner.own(&mut initdb).current_dir(folder.path()))?;
        // The server can't choose a port by itself. One that was free a moment ago nearly always still is, and when it
        // is not, the start fails and says so.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| format!("no port for PostgreSQL: {error}"))?.port();
        let log = File::create(folder.path().join("log")).map_err(|error| format!("PostgreSQL's log: {error}"))?;
        let mut server = Command::new(programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k", ""]);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir(folder.path());
        let child = owner.own(&mut server).spawn().map_err(|error| format!("postgres: {error}"))?;
        let mut started = Self { child, programs: programs.into(), folder, port, accounts };
        started.fill()?;
        Ok(started)
    }

    /// Makes both databases with their accounts.
    fn fill(&mut self) -> Result<(), String> {
        let mut first = self.wait_until_it_answers()?;
        for database in DATABASES {
            first.batch_execute(&format!("CREATE DATABASE {database}")).map_err(failed)?;
            let mut client = self.connect(database)?;
            client.batch_execute(SCHEMA).map_err(failed)?;
            let fill = "INSERT INTO accounts SELECT number, 1000000000 FROM generate_series(1, $1::bigint) AS number";
            let accounts = i64::try_from(self.accounts).unwrap_or(i64::MAX);
            client.execute(fill, &[&accounts]).map_err(failed)?;
            client.batch_execute("VACUUM ANALYZE").map_err(failed)?;
        }
        first.batch_execute("CHECKPOINT").map_err(failed)
    }

    fn wait_until_it_answers(&mut self) -> Result<Client, String> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.connect("postgres") {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > deadline || matches!(self.child.try_wait(), Ok(Some(_))) => {
                    let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                    return Err(format!("{error}: {}", log.lines().next_back().unwrap_or("its log is empty")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn connect(&self, database: &str) -> Result<Client, String> {
        // A transfer that failed between its halves leaves a lock behind; who waits for it is to say so, not to wait on.
        let address =
            format!("host=127.0.0.1 port={} user=bank dbname={database} options='-c lock_timeout=20s'", self.port);
        Client::connect(&address, NoTls).map_err(failed)
    }

    /// Transfers in one database by pgbench, with prepared statements.
    ///
    /// # Errors
    /// One sentence when pgbench fails or a transfer did.
    pub fn local(
        &self,
        clients: usize,
        statements: Statements,
        warm_up: Duration,
        duration: Duration,
    ) -> Result<Measurement, String> {
        // What the first run measured is dropped with its folder.
        self.pgbench(clients, statements, warm_up)?;
        let logs = self.pgbench(clients, statements, duration)?;
        measured(logs.path(), whole_seconds(duration))
    }

    /// Runs pgbench. Returns the folder with its logs.
    fn pgbench(&self, clients: usize, statements: Statements, duration: Duration) -> Result<TempDir, String> {
        let logs = temporary_folder(self.folder.path())?;
        let script = logs.path().join("transfer.sql");
        std::fs::write(&script, statements.script()).map_err(|error| format!("{}: {error}", script.display()))?;
        let mut pgbench = Command::new(self.programs.join("pgbench"));
        pgbench.args(["-n", "-l", "-M", "prepared", "-h", "127.0.0.1", "-U", "bank", "-p", &self.port.to_string()]);
        pgbench.args(["-c", &clients.to_string(), "-j", &clients.min(2).to_string()]);
        pgbench.args(["-T", &whole_seconds(duration).as_secs().to_string()]);
        pgbench.arg("-D").arg(format!("accounts={}", self.accounts)).arg("-f").arg(&script).arg(DATABASES[0]);
        output(pgbench.current_dir(logs.path()))?;
        Ok(logs)
    }

    /// Transfers between both databases: each client prepares at the payer's, then at the receiver's, and then commits
    /// at both.
    ///
    /// # Errors
    /// One sentence when a statement fails.
    pub fn between(&self, clients: usize, warm_up: Duration, duration: Duration) -> Result<Measurement, String> {
        let transfer = |databases: &mut [Client], draw: &mut Random, id: &str| {
            let (payer, receiver) = draw.pair(self.accounts);
            let [mumbai, delhi] = databases else { unreachable!("a client has a connection to each database") };
            // The names of prepared transactions are the server's, not the database's.
            let (here, there) = (format!("{id}-payer"), format!("{id}-receiver"));
            prepare(mumbai, payer, receiver, -1, &here)?;
            prepare(delhi, receiver, payer, 1, &there)?;
            commit_prepared(mumbai, &here)?;
            commit_prepared(delhi, &there)
        };
        self.run(&DATABASES, clients, warm_up, duration, &transfer)
    }

    /// Halves of such transfers: at each database, at once, clients prepare and commit what a payer or a receiver
    /// would, and wait for nobody. The rate is that of the slower database: no program that has both halves of each
    /// transfer made can be faster.
    ///
    /// # Errors
    /// One sentence when a statement fails.
    pub fn halves(&self, clients: usize, warm_up: Duration, duration: Duration) -> Result<Measurement, String> {
        std::thread::scope(|scope| {
            let run = |database: &'static str| {
                let half = move |databases: &mut [Client], draw: &mut Random, id: &str| {
                    let (account, other) = draw.pair(self.accounts);
                    let id = format!("{id}-{database}");
                    prepare(&mut databases[0], account, other, 1, &id)?;
                    commit_prepared(&mut databases[0], &id)
                };
                scope.spawn(move || self.run(&[database], clients, warm_up, duration, &half))
            };
            let running = DATABASES.map(run);
            let mut slowest: Option<Measurement> = None;
            for database in running {
                let rate = database.join().map_err(|_| "a thread of the load panicked")??;
                if slowest.as_ref().is_none_or(|slowest| rate.per_second < slowest.per_second) {
                    slowest = Some(rate);
                }
            }
            slowest.ok_or_else(|| "there is no database".into())
        })
    }

    /// Has each client, in a thread of its own with a connection to each of `databases`, do `work` again and again.
    fn run(
        &self,
        databases: &[&str],
        clients: usize,
        warm_up: Duration,
        duration: Duration,
        work: &(impl Fn(&mut [Client], &mut Random, &str) -> Result<(), String> + Sync),
    ) -> Result<Measurement, String> {
        let barrier = Barrier::new(clients);
        let client = |number: usize| -> Result<Latencies, String> {
            let connected: Result<Vec<Client>, String> = databases.iter().map(|name| self.connect(name)).collect();
            // Also who has no connection comes here: the others would wait for it.
            barrier.wait();
            let mut connected = connected?;
            let mut draw = Random::new(number as u64 + 1);
            let start = Instant::now() + warm_up;
            let mut latencies = Latencies::new();
            for turn in 0_u64.. {
                let sent = Instant::now();
                work(&mut connected, &mut draw, &format!("{number}-{turn}"))?;
                let now = Instant::now();
                if now >= start + duration {
                    break;
                }
                if now >= start {
                    latencies.record(now - sent, 1);
                }
            }
            Ok(latencies)
        };
        let mut sum = Latencies::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients)
                .map(|number| {
                    scope.spawn({
                        let client = &client;
                        move || client(number)
                    })
                })
                .collect();
            for thread in threads {
                sum.merge(&thread.join().map_err(|_| "a thread of the load panicked")??);
            }
            Ok::<(), String>(())
        })?;
        Ok(Measurement::new(sum.count(), 0, None, duration, &sum))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The server ends with its children at SIGQUIT. That it is gone already would be no failure.
        let stop = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        if !stop.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Does one side of a transfer, and promises it.
fn prepare(client: &mut Client, account: u64, other: u64, amount: i64, id: &str) -> Result<(), String> {
    let (account, other) = (account + 1, other + 1);
    let (payer, receiver) = if amount < 0 { (account, other) } else { (other, account) };
    let statements = format!(
        "BEGIN; UPDATE accounts SET balance = balance + {amount} WHERE number = {account}; \
         INSERT INTO transactions (from_account, to_account, amount) VALUES ({payer}, {receiver}, {}); \
         PREPARE TRANSACTION '{id}'",
        amount.abs()
    );
    client.batch_execute(&statements).map_err(failed)
}

fn commit_prepared(client: &mut Client, id: &str) -> Result<(), String> {
    client.batch_execute(&format!("COMMIT PREPARED '{id}'")).map_err(failed)
}

/// The user and group whom the server's processes belong to: root may not start one.
struct Owner(Option<(u32, u32)>);

impl Owner {
    /// Looks who runs this, and gives `folder` to whom the server will belong.
    fn look(folder: &Path) -> Result<Self, String> {
        let number = |arguments: &[&str]| -> Result<u32, String> {
            let text = output(Command::new("id").args(arguments))?;
            text.trim().parse().map_err(|_| format!("id printed no number: {text:?}"))
        };
        if number(&["-u"])? != 0 {
            return Ok(Self(None));
        }
        let of = |user: &str| Ok::<_, String>((number(&["-u", user])?, number(&["-g", user])?));
        let (user, group) = of("postgres").or_else(|_| of("nobody"))?;
        let chown = std::os::unix::fs::chown(folder, Some(user), Some(group));
        chown.map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(Some((user, group))))
    }

    fn own<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}

/// pgbench counts whole seconds.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}

/// Reads pgbench's logs: a line for each transfer, whose third word is how long it took, in microseconds.
fn measured(folder: &Path, duration: Duration) -> Result<Measurement, String> {
    let mut latencies = Latencies::new();
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("pgbench_log") {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).map_err(|error| format!("pgbench's log: {error}"))?;
        for line in text.lines() {
            let microseconds = line.split(' ').nth(2).and_then(|word| word.parse().ok());
            let microseconds = microseconds.ok_or_else(|| format!("pgbench logged a transfer that failed: {line}"))?;
            latencies.record(Duration::from_micros(microseconds), 1);
        }
    }
    Ok(Measurement::new(latencies.count(), 0, None, duration, &latencies))
}

/// Runs a program to its end. Returns what it printed.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        let error = text(&output.stderr);
        Err(format!("{program} failed: {}", error.lines().next_back().unwrap_or("it printed nothing")))
    }
}

fn failed(error: postgres::Error) -> String {
    // Its own text is only the kind; the server's words are behind it.
    std::error::Error::source(&error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_made_in_one_database_and_between_two() {
        let Ok(programs) = find_programs(None) else {
            eprintln!("skipped: PostgreSQL's programs are not here");
            return;
        };
        let server = Postgres::start(&programs, &std::env::temp_dir(), 10).unwrap();
        let (warm_up, duration) = (Duration::from_millis(10), Duration::from_millis(300));
        for statements in [Statements::OneByOne, Statements::InOneCall] {
            assert!(server.local(2, statements, warm_up, duration).unwrap().operations > 0);
        }
        assert!(server.between(2, warm_up, duration).unwrap().operations > 0);
        assert!(server.halves(2, warm_up, duration).unwrap().operations > 0);
        let sum = |database| -> i64 {
            let row = server.connect(database).unwrap().query_one("SELECT sum(balance)::bigint FROM accounts", &[]);
            row.unwrap().get(0)
        };
        // Halves pay in at both, transfers take from the one what they pay at the other.
        assert!(sum("mumbai") + sum("delhi") >= 20_000_000_000, "{} and {}", sum("mumbai"), sum("delhi"));
        let left: i64 = {
            let mut client = server.connect("mumbai").unwrap();
            client.query_one("SELECT count(*) FROM pg_prepared_xacts", &[]).unwrap().get(0)
        };
        assert_eq!(left, 0, "whatever was promised was kept");
    }
}
