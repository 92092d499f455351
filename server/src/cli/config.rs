//! What the server runs with, resolved and checked from the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use command_line::resolve_host;
use protocol::{Address, BranchName, Money, NamedAddress};

use crate::cli::arguments::{Arguments, DatabaseArguments};
use crate::key::key_path;
use crate::shared_log::settings::LogUrl;
use crate::sms::SmsSetting;
use crate::teaching::crash_points::CrashPoint;

/// The branch's name when none is given.
const DEFAULT_NAME: &str = "Main";
/// The database when no name is given.
const DEFAULT_DB: &str = "bank.db";

/// The resolved configuration of a serving branch.
#[derive(Clone, Debug)]
pub struct Config {
    /// The branch's name.
    pub name: BranchName,
    /// The database file.
    pub db: PathBuf,
    /// The file with the bank's key.
    pub key: PathBuf,
    /// Where the branch protocol listens.
    pub branch: SocketAddr,
    /// Other branches that were named.
    pub peers: Vec<NamedAddress>,
    /// Whether to announce the branch and find others by mDNS.
    pub mdns: bool,
    /// Whether anyone may do anything on the branch port.
    pub open: bool,
    /// Whether a class may step, break and crash it.
    pub teaching: bool,
    /// Where to crash, in a lesson or a test.
    pub crash_at: Option<CrashPoint>,
    /// What the branch has or is by way of replicas.
    pub replication: ReplicationSettings,
    /// The commit log elsewhere.
    pub commit_log: Option<LogUrl>,
    /// Where the menu listens.
    pub menu: SocketAddr,
    /// Where the older client's port is, if open.
    pub lab: Option<SocketAddr>,
    /// The folder of the menu texts, if given.
    pub menus: Option<PathBuf>,
    /// The certificate and its key, when the listeners speak TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whose certificates are trusted at other branches, when links are made by TLS.
    pub tls_ca: Option<PathBuf>,
    /// Whether to stop when standard input ends.
    pub until_input_ends: bool,
    /// Whether to make the sample accounts.
    pub preload: bool,
    /// Clients at once.
    pub max_clients: usize,
    /// How long a client may be silent.
    pub idle_timeout: Duration,
    /// What a new account is credited.
    pub opening_balance: Money,
    /// Where text messages go.
    pub sms: SmsSetting,
}

/// Replicas, as the command line has them.
#[derive(Clone, Debug)]
pub struct ReplicationSettings {
    /// The replicas of this branch.
    pub replicas: Vec<Address>,
    /// The primary of which this is a replica.
    pub replica_of: Option<Address>,
    /// How many replicas must have a write before it is answered.
    pub sync_replicas: usize,
    /// How much of the log is kept, in MiB.
    pub log_mib: u64,
}

impl Config {
    /// Resolves the arguments.
    ///
    /// # Errors
    /// One sentence for the command line's user.
    pub fn resolve(arguments: &Arguments) -> Result<Self, String> {
        let host = resolve_host(&arguments.host)?;
        for (flag, is_given) in [("--open", arguments.open), ("--teaching", arguments.teaching)] {
            if is_given && !host.is_loopback() {
                return Err(format!("{flag} is for a loopback address only, and --host is {host}"));
            }
        }
        if arguments.tls_cert.is_some() && arguments.lab_port.is_some() {
            return Err(
                "--lab-port speaks the older clients' wire format, which has no TLS: leave it or --tls-cert out".into(),
            );
        }
        if arguments.mdns && cfg!(not(feature = "mdns")) {
            return Err("this program was built without mDNS: name the other branches with --peers, or build it with \
                 cargo build -p bank-server --features mdns"
                .into());
        }
        if arguments.commit_log.is_some() {
            check_commit_log(arguments, host)?;
        }
        Ok(Self {
            branch: SocketAddr::new(host, arguments.port),
            peers: arguments.peers.clone(),
            mdns: arguments.mdns,
            open: arguments.open,
            teaching: arguments.teaching,
            crash_at: arguments.crash_at,
            name: arguments.database.name(),
            key: arguments.key.clone().unwrap_or_else(|| key_path(&arguments.database.path())),
            db: arguments.database.path(),
            replication: ReplicationSettings {
                replicas: arguments.replicas.iter().flat_map(|list| list.0.clone()).collect(),
                replica_of: arguments.replica_of.clone(),
                sync_replicas: arguments.sync_replicas,
                log_mib: arguments.log_mib,
            },
            commit_log: arguments.commit_log.clone(),
            menu: SocketAddr::new(host, arguments.menu_port),
            lab: arguments.lab_port.map(|port| SocketAddr::new(host, port)),
            menus: arguments.menus.clone(),
            tls: arguments.tls_cert.clone().zip(arguments.tls_key.clone()),
            tls_ca: arguments.tls_ca.clone(),
            until_input_ends: arguments.until_input_ends,
            preload: arguments.preload,
            max_clients: arguments.max_clients,
            idle_timeout: Duration::from_secs(arguments.idle_timeout),
            opening_balance: arguments.opening_balance,
            sms: arguments.sms.clone(),
        })
    }

    /// Whether every listener is on loopback, where the well-known first passwords do no harm.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.menu.ip().is_loopback()
    }
}

impl DatabaseArguments {
    /// The branch's name.
    #[must_use]
    pub fn name(&self) -> BranchName {
        self.name.clone().unwrap_or_else(|| DEFAULT_NAME.parse().expect("the default is a name"))
    }

    /// The database file: as given, or after the name, or the default.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match (&self.db, &self.name) {
            (Some(path), _) => path.clone(),
            (None, Some(name)) => PathBuf::from(format!("{name}.db")),
            (None, None) => PathBuf::from(DEFAULT_DB),
        }
    }
}

/// What goes with a commit log elsewhere, and what doesn't.
fn check_commit_log(arguments: &Arguments, host: std::net::IpAddr) -> Result<(), String> {
    if cfg!(not(feature = "postgres")) {
        return Err("this program was built without PostgreSQL: leave --commit-log out, or build it with \
             cargo build -p bank-server --features postgres"
            .into());
    }
    if !arguments.replicas.is_empty() || arguments.replica_of.is_some() || arguments.sync_replicas > 0 {
        return Err(
            "--commit-log takes the place of --replicas, --replica-of and --sync-replicas: leave them out".into()
        );
    }
    if host.is_unspecified() {
        return Err(format!("--commit-log tells others where this process is: name that with --host, which is {host}"));
    }
    Ok(())
}
