//! The command line.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::workload::{ACCOUNTS_MAX, Mix};

/// Puts load on a branch and measures it, beside what the same database does in one process.
///
/// Each connection keeps a fixed number of requests under way. Without --branch the branches are started
/// here, from the bank-server beside this program, on new databases in temporary folders. Without a command
/// one load is run; the commands run the measurements that README.md shows.
#[derive(Debug, Parser)]
#[command(name = "bank-bench", version, args_conflicts_with_subcommands = true, after_help = EXIT_STATUSES)]
pub struct Arguments {
    /// What to measure instead of one load.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// What all have in common.
    #[command(flatten)]
    pub common: CommonArguments,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The rates of a branch as shares of the in-process ceiling, with the goals: medians of interleaved
    /// rounds.
    Report {
        /// Rounds; the one in the middle is shown.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// Accounts at each branch.
        #[arg(long, default_value_t = 10_000, value_parser = accounts())]
        accounts: u64,
        /// Seconds of each measurement.
        #[arg(long, default_value = "3", value_name = "SECONDS", value_parser = seconds)]
        duration: Duration,
        /// Seconds of load before each measurement.
        #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
        warm_up: Duration,
    },
    /// Transfers between branches without and with open streams of a bridge's events, one of which is never read:
    /// their time at a lecture's pace, their rate when as many go as can, and who has the processors meanwhile.
    Streams {
        /// Streams.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(2..=512))]
        streams: u16,
        /// Rounds.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// Accounts at each branch.
        #[arg(long, default_value_t = 10_000, value_parser = accounts())]
        accounts: u64,
        /// Seconds of each measurement at a lecture's pace.
        #[arg(long, default_value = "12", value_name = "SECONDS", value_parser = seconds)]
        lecture: Duration,
        /// Seconds of each measurement of as many as go.
        #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
        duration: Duration,
        /// Seconds of load before each measurement.
        #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
        warm_up: Duration,
        /// The bridge's program. [default: bank-bridge beside this program]
        #[arg(long, value_name = "FILE")]
        bridge: Option<PathBuf>,
    },
    /// The same transfers at PostgreSQL, in a server that is started here, and at TigerBeetle where its program is
    /// named, with the goals: medians of interleaved rounds.
    #[cfg(feature = "peers")]
    Peers(PeersArguments),
    /// The rate with many accounts beside few, and how long a start takes after SIGKILL with many
    /// transactions.
    Scale {
        /// The many accounts.
        #[arg(long, default_value_t = 1_000_000, value_parser = accounts())]
        accounts: u64,
        /// The few accounts.
        #[arg(long, default_value_t = 10_000, value_parser = accounts())]
        few_accounts: u64,
        /// Transactions before the branch is killed.
        #[arg(long, default_value_t = 5_000_000)]
        transactions: u64,
        /// Seconds of each measurement.
        #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
        duration: Duration,
        /// Seconds of load before each measurement.
        #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
        warm_up: Duration,
    },
}

/// How the bank is measured beside its peers.
#[cfg(feature = "peers")]
#[derive(Args, Debug)]
pub struct PeersArguments {
    /// Rounds; the one in the middle is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Accounts at each branch and each peer.
    #[arg(long, default_value_t = 10_000, value_parser = accounts())]
    pub accounts: u64,
    /// Accounts of the branch with many.
    #[arg(long, default_value_t = 1_000_000, value_parser = accounts())]
    pub many_accounts: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    pub duration: Duration,
    /// Seconds of load before each measurement.
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = seconds)]
    pub warm_up: Duration,
    /// The folder with PostgreSQL's programs. [default: what pg_config says, or Debian's newest]
    #[arg(long, value_name = "FOLDER", env = "BANK_BENCH_POSTGRES")]
    pub postgres: Option<PathBuf>,
    /// TigerBeetle's program.
    #[arg(long, value_name = "FILE", env = "BANK_BENCH_TIGERBEETLE")]
    pub tigerbeetle: Option<PathBuf>,
}

/// What all measurements have in common.
#[derive(Args, Debug)]
pub struct CommonArguments {
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the temporary folders with the databases are made. [default: the system's]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// The branch's program. [default: bank-server beside this program]
    #[arg(long, global = true, value_name = "FILE")]
    pub server: Option<PathBuf>,
}

/// One load.
#[derive(Args, Debug)]
pub struct LoadArguments {
    /// Connections at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,
    /// Requests under way on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub depth: u16,
    /// Threads that carry the connections.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
    /// Operations: deposit, balance, transfer, inter-branch; several with weights, as transfer=7,balance=3.
    #[arg(long, default_value = "transfer")]
    pub mix: Mix,
    /// Requests in each frame; more than one go as a batch, in one commit.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub batch: u16,
    /// Give each write a request_id, so that the branch stores its answer with it.
    #[arg(long)]
    pub request_ids: bool,
    /// Accounts at each branch; those that are missing are opened.
    #[arg(long, default_value_t = 10_000, value_parser = accounts())]
    pub accounts: u64,
    /// Seconds of the measurement.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    pub duration: Duration,
    /// Seconds of load before it.
    #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    pub warm_up: Duration,
    /// What the accounts are drawn by; the same number draws the same accounts.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A running branch to load instead of one that is started here. Accounts from 1000000 on are opened in
    /// it and stay.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub branch: Option<SocketAddr>,
    /// Another running branch, which receives the transfers between branches.
    #[arg(long, value_name = "HOST:PORT", value_parser = address, requires = "branch")]
    pub other_branch: Option<SocketAddr>,
    /// The file with the branch key of the running branches. Without it they have to be open.
    #[arg(long, value_name = "FILE", requires = "branch")]
    pub key: Option<PathBuf>,
    /// Leave the in-process ceiling out.
    #[arg(long)]
    pub no_ceiling: bool,
}

/// Exit statuses, at the end of the help text.
const EXIT_STATUSES: &str = "\
Exit status: 0 when it was measured, whether or not a goal is met; 1 when it could not be, or a branch refused
a request; 64 for a wrong command line.";

fn accounts() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(2..=ACCOUNTS_MAX)
}

/// Reads seconds, with up to three decimals.
fn seconds(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is no number of seconds, such as 5 or 0.5");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(refused());
    }
    let seconds: u32 = whole.parse().map_err(|_| refused())?;
    let milliseconds: u32 = format!("{decimals:0<3}").parse().map_err(|_| refused())?;
    Ok(Duration::from_secs(seconds.into()) + Duration::from_millis(milliseconds.into()))
}

/// Resolves a host and port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "the name has no address".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["bank-bench", "report", "--json"]).unwrap().common.json);
        assert!(Arguments::try_parse_from(["bank-bench", "--key", "k"]).is_err());
    }

    #[test]
    fn seconds_have_up_to_three_decimals() {
        for (text, expected) in [("5", 5_000), ("0.5", 500), ("1.25", 1_250), ("0.001", 1)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for text in ["", "x", "-1", "1e3", "0.0001", ".5", "1.2.3"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
