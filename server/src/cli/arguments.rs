//! The command line as it is typed. What comes of it is in `config`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand};
use protocol::{Address, BranchName, Money, NamedAddress};

use crate::dbs_exec::ChainHead;
use crate::limits;
use crate::shared_log::settings::LogUrl;
use crate::sms::SmsSetting;
use crate::teaching::crash_points::CrashPoint;

/// What a restore means for the transfers with other branches.
pub const AFTER_A_RESTORE: &str = "\
A branch that is put back to an older state has forgotten what it did and promised since then, and the other branches \
have not. A transfer that it decided to commit after the backup counts as aborted for whoever asks it now; a \
deposit that it prepared or booked after the backup is gone here, while the payer's branch has it in its books. \
Nothing settles that by itself. After the start: (1) run `bank-client audit --all` with every branch up: it names each \
payment that one of two branches has not booked; (2) run `bank-client list_pending` at each branch, and settle by \
`bank-client resolve`, with a reason, what asks this branch in vain and what another can't follow any more; (3) end each \
payment that is still named by `bank-client clear_suspense … --not-booked-by BRANCH` at the branch that has booked it. Movements at this branch alone \
since the backup are lost, and its replicas need a new snapshot.";

/// One branch of the bank: a menu for its customers and its administrator, the branch protocol for direct
/// commands and other branches, over one SQLite database.
///
/// Without a command it serves until Ctrl-C (SIGINT) or SIGTERM. Every option can also be given as the
/// environment variable that is named beside it. The log goes to standard error; RUST_LOG=debug shows more.
#[derive(Debug, Parser)]
#[command(name = "bank-server", version, after_help = EXIT_STATUSES)]
pub struct Arguments {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// The address to listen on. Other addresses than loopback ones need the default passwords changed.
    #[arg(long, env = "BANK_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: String,
    /// The port of the branch protocol, for direct commands, the bridge and other branches; 0 picks a free
    /// one and prints it.
    #[arg(long, env = "BANK_PORT", default_value_t = 9100, value_name = "PORT")]
    pub port: u16,
    /// The port of the menu; 0 picks a free one and prints it.
    #[arg(long, env = "BANK_MENU_PORT", default_value_t = 1069, value_name = "PORT")]
    pub menu_port: u16,
    /// A second port that speaks the older menu client's wire format. Off unless given. Its XOR with a key
    /// that the client sends in the clear hides nothing: use it on a machine of your own.
    #[arg(long, env = "BANK_LAB_PORT", value_name = "PORT")]
    pub lab_port: Option<u16>,
    /// The folder with login.txt, customer.txt and admin.txt. Without it the folder menus beside the
    /// program is used, or else built-in copies.
    #[arg(long, env = "BANK_MENUS", value_name = "FOLDER")]
    pub menus: Option<PathBuf>,
    /// Speak TLS at the branch port and at the menu, with the certificate in this PEM file, which must name this host
    /// as its clients and other branches know it (addresses too). Certificates between it and its authority follow it.
    /// All these files are read again on SIGHUP.
    #[arg(long, env = "BANK_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[arg(long, env = "BANK_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Make links to other branches by TLS, and trust the certificates in this PEM file and those that they have
    /// signed.
    #[arg(long, env = "BANK_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Make the sample accounts 1001 and 1002 with Rs 1000.00 each, if the branch has no account yet.
    #[arg(long, env = "BANK_PRELOAD")]
    pub preload: bool,
    /// Other branches, as Delhi=host:port, separated by commas. A branch that was linked once is remembered.
    #[arg(long, env = "BANK_PEERS", value_delimiter = ',', value_name = "NAME=HOST:PORT")]
    pub peers: Vec<NamedAddress>,
    /// The replicas of this branch, as host:port of their branch protocol, separated by commas. Each is started with
    /// --replica-of and the same --name, on a database of its own; it follows this branch and can take its place.
    #[arg(long, env = "BANK_REPLICAS", value_name = "HOST:PORT")]
    pub replicas: Vec<ReplicaList>,
    /// Be a replica of the branch at this address: follow it, answer what only looks, and take its place when
    /// bank-client promote says so. A new database begins with a copy of the primary's. The file bank.key beside the
    /// database must be the primary's.
    #[arg(long, env = "BANK_REPLICA_OF", value_name = "HOST:PORT")]
    pub replica_of: Option<Address>,
    /// Answer a write only when so many replicas have it on disk. With fewer, writes wait a few seconds and are
    /// refused.
    #[arg(long, env = "BANK_SYNC_REPLICAS", default_value_t = 0, value_name = "NUMBER",
          value_parser = clap::value_parser!(u8).range(0..=16).map(usize::from))]
    pub sync_replicas: usize,
    /// How much log is kept for replicas that are away, in MiB. A replica that was away for longer takes a whole copy.
    #[arg(long, env = "BANK_LOG_MIB", default_value_t = limits::LOG_MIB, value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub log_mib: u64,
    /// Keep the commit log in PostgreSQL, at postgres://user@host,host/database, and share it with other processes of
    /// this branch that are started alike: one owns the branch, the others take over when it is gone. Passwords come
    /// from PGPASSFILE. Needs a program that was built for it: cargo build -p bank-server --features postgres.
    #[arg(long, env = "BANK_COMMIT_LOG", value_name = "POSTGRES", hide_env_values = true,
          value_parser = clap::builder::OsStringValueParser::new().map(LogUrl::from))]
    pub commit_log: Option<LogUrl>,
    /// The file with the bank's key, which all its branches share; made at the first start of the first one.
    /// [default: bank.key beside the database]
    #[arg(long, env = "BANK_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Announce this branch on the local network by mDNS, and meet the branches of its bank that do the same. Needs a
    /// program that was built for it: cargo build -p bank-server --features mdns.
    #[arg(long, env = "BANK_MDNS")]
    pub mdns: bool,
    /// Let anyone do anything on the branch port, for older clients that know no key. On loopback only.
    #[arg(long, env = "BANK_OPEN")]
    pub open: bool,
    /// Let whoever holds the key step through transfers message by message, cut and slow links and crash this process,
    /// for lessons and tests. On loopback only.
    #[arg(long, env = "BANK_TEACHING")]
    pub teaching: bool,
    /// Kill this process when a transfer passes this point, as a power failure would. Needs --teaching.
    #[arg(long, env = "BANK_CRASH_AT", requires = "teaching", value_name = "POINT")]
    pub crash_at: Option<CrashPoint>,
    /// Stop when standard input ends, as on a signal: for a program that starts branches and holds the other end of
    /// the pipe, so that they end with it, however it ends.
    #[arg(long)]
    pub until_input_ends: bool,
    /// Clients at once, at all ports together; one more is told that the bank is busy.
    #[arg(long, env = "BANK_MAX_CLIENTS", default_value_t = limits::CLIENTS, value_name = "NUMBER")]
    pub max_clients: usize,
    /// Seconds that a client may be silent before it is logged out.
    #[arg(long, env = "BANK_IDLE_TIMEOUT", default_value_t = limits::IDLE_TIMEOUT.as_secs(), value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_timeout: u64,
    /// What an account opened at the menu is credited, in rupees.
    #[arg(long, env = "BANK_OPENING_BALANCE", default_value = "100000.00", value_name = "AMOUNT",
          value_parser = Money::parse_typed)]
    pub opening_balance: Money,
    /// Where text messages about movements go: off, file:PATH (a JSON line each), or twilio (if built in;
    /// it reads TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_FROM).
    #[arg(long, env = "BANK_SMS", default_value = "off", value_name = "WHERE")]
    pub sms: SmsSetting,
}

/// Replicas as they are listed on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaList(pub Vec<Address>);

impl FromStr for ReplicaList {
    type Err = String;

    /// Reads `host:port,host:port`, or as the older system wrote it: `[["127.0.0.1", 9200]]`, `[]`.
    fn from_str(text: &str) -> Result<Self, String> {
        // An IPv6 address has a bracket of its own, and never two.
        let squeezed: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        if squeezed.starts_with("[[") || squeezed == "[]" {
            let pairs: Vec<(String, u16)> = serde_json::from_str(text).map_err(|error| {
                format!("replicas are host:port,host:port, or as older programs write them [[\"127.0.0.1\", 9200]] ({error})")
            })?;
            let addresses: Result<_, _> = pairs.iter().map(|(host, port)| Address::new(host, *port)).collect();
            return addresses.map(Self).map_err(|error| error.to_string());
        }
        let addresses: Result<_, _> = text.split(',').map(|part| part.trim().parse::<Address>()).collect();
        addresses.map(Self).map_err(|error| error.to_string())
    }
}

/// Which database, and so which branch.
#[derive(Args, Debug)]
pub struct DatabaseArguments {
    /// The branch's name, written into the database at the first start. [default: Main]
    #[arg(long, env = "BANK_NAME", global = true)]
    pub name: Option<BranchName>,
    /// The database file. [default: bank.db, or NAME.db when a name is given]
    #[arg(long, env = "BANK_DB", global = true, value_name = "FILE")]
    pub db: Option<PathBuf>,
}

/// What can be done besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set a password: the administrator's, or an account's. Asks for it on a terminal, twice; else reads
    /// one line from standard input.
    Passwd {
        /// The account; 0 is the administrator.
        #[arg(default_value_t = 0)]
        account: u64,
    },
    /// Recompute the books from their transactions, check the hash chain and the file.
    Audit {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// An end of the chain that an earlier audit printed: the books must still begin with those transactions.
        #[arg(long, value_name = "NUMBER:HASH")]
        expect: Option<ChainHead>,
    },
    /// Copy the database to a new file, also while the branch is running.
    ///
    /// The copy is one moment's state. It gets its name only when it is whole, on disk, and its books were audited;
    /// a copy with findings is called TO.unclean. The branch key is not in it: keep a copy of bank.key apart.
    #[command(after_help = RESTORE_HINT)]
    Backup {
        /// The new file; or a folder, for a file named after the database and the time.
        to: PathBuf,
    },
    /// Put a backup in the place of the database --db, which no server may have open.
    #[command(after_help = AFTER_A_RESTORE)]
    Restore {
        /// The backup.
        from: PathBuf,
        /// Replace a database that exists, which is kept aside; and take a backup whose books are not clean.
        #[arg(long)]
        force: bool,
    },
}

/// At the end of the help text of `backup`.
const RESTORE_HINT: &str = "\
A branch that is put back to an older state has forgotten what it promised to other branches since then: \
`bank-server restore --help` tells what to do about it.";

/// Exit statuses, at the end of the help text.
const EXIT_STATUSES: &str = "\
Exit status: 0 after a clean stop, or when an audit finds nothing; 1 when the server could not start or an \
audit finds something; 64 for a wrong command line; 70 when the program found \
itself wrong and stopped before it could do harm; 74 when the disk failed under the database or its files \
were lost, or when a command's report could not be written (what it did then stands on standard error).";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_read_in_the_older_form_too() {
        let check = |text: &str, expected: Option<&str>| {
            let read = text.parse::<ReplicaList>().ok();
            let read = read.map(|list| list.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(read.as_deref(), expected, "{text}");
        };
        check("a:1,b:2", Some("a:1 b:2"));
        check("[::1]:9200", Some("[::1]:9200"));
        check(r#"[["127.0.0.1",9200]]"#, Some("127.0.0.1:9200"));
        check(r#" [["127.0.0.1", 9200], ["::1", 9201]]"#, Some("127.0.0.1:9200 [::1]:9201"));
        check("[]", Some(""));
        for wrong in ["", "a", "a:1,", "[[1]]", r#"[["a",0]]"#, r#"[["a",70000]]"#, r#"{"a":1}"#] {
            check(wrong, None);
        }
    }
}
