//! The command line as it is typed. What comes of it is in `config`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use protocol::NamedAddress;

/// Where the demo is unless another folder is named.
pub const DEMO_FOLDER: &str = "demo-bank";

/// The bank's HTTP bridge: REST for scripts, the dashboard for people, one stream of events for both.
///
/// It serves until Ctrl-C (SIGINT) or SIGTERM. Every option can also be given as the environment variable that is
/// named beside it. The log goes to standard error; RUST_LOG=debug shows more.
#[derive(Debug, Parser)]
#[command(name = "bank-bridge", version, after_help = EXIT_STATUSES, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do instead of serving branches that run already.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArguments,
}

/// How to serve.
#[derive(Args, Clone, Debug)]
pub struct ServeArguments {
    /// The address to listen on. HTTP is not encrypted: beyond this machine put a proxy with TLS in front.
    #[arg(long, env = "BANK_BRIDGE_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: String,
    /// The port to listen on; 0 picks a free one and prints it.
    #[arg(long, env = "BANK_BRIDGE_PORT", default_value_t = 5000, value_name = "PORT")]
    pub port: u16,
    /// A branch, as Mumbai=127.0.0.1:9100; repeatable, and commas between several. The branches that it knows are
    /// found by themselves. Without any, 127.0.0.1:9100 is asked for its name.
    #[arg(long, env = "BANK_BRANCH", value_delimiter = ',', value_name = "NAME=HOST:PORT")]
    pub branch: Vec<NamedAddress>,
    /// The file with the branch key. Without it, bank.key is looked for in the current folder, beside BANK_DB and
    /// beside the program.
    #[arg(long, env = "BANK_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Meet the branches by TLS, and trust the certificates that this file's (PEM) have signed.
    #[arg(long, env = "BANK_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Let anyone on this machine do anything without signing in, for older programs. On loopback only.
    #[arg(long, env = "BANK_BRIDGE_OPEN")]
    pub open: bool,
    /// Another name under which browsers may ask for the bridge, such as that of a proxy; repeatable.
    #[arg(long, env = "BANK_BRIDGE_ALLOW_HOST", value_delimiter = ',', value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// The address of a proxy in front, whose headers X-Forwarded-For and X-Forwarded-Proto are believed: wrong
    /// passwords are counted by the browser's address, and over HTTPS the cookie is Secure; repeatable.
    #[arg(long, env = "BANK_BRIDGE_TRUST_PROXY", value_delimiter = ',', value_name = "ADDRESS")]
    pub trust_proxy: Vec<IpAddr>,
    /// What the page calls the bank.
    #[arg(long, env = "BANK_BRIDGE_BANK_NAME", default_value = "The Bank", value_name = "NAME")]
    pub bank_name: String,
    /// Serve the page's files from this folder instead of those built in, for working on the page.
    #[arg(long, hide = true, value_name = "FOLDER")]
    pub assets: Option<PathBuf>,
}

/// What else the bridge can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// A whole bank on this machine, for a lecture: the branches Mumbai, Delhi and Pune with sample accounts, in
    /// teaching mode, and this bridge. Ctrl-C ends everything; a second start finds it as it was.
    Demo(DemoArguments),
}

/// Where and how the demo runs.
#[derive(Args, Clone, Debug)]
pub struct DemoArguments {
    /// The folder for everything: databases, key and logs.
    #[arg(long, default_value = DEMO_FOLDER, value_name = "FOLDER")]
    pub dir: PathBuf,
    /// The port of the bridge; 0 picks a free one and prints it.
    #[arg(long, env = "BANK_BRIDGE_PORT", default_value_t = 5000, value_name = "PORT")]
    pub port: u16,
    /// Take any free ports, for the bridge and for the branches. Without it a branch takes another port only when
    /// its usual one is in use.
    #[arg(long)]
    pub any_ports: bool,
    /// Delete the folder of a demo that does not run, and do nothing else.
    #[arg(long)]
    pub forget: bool,
    /// Serve the page's files from this folder instead of those built in, for working on the page.
    #[arg(long, hide = true, value_name = "FOLDER")]
    pub assets: Option<PathBuf>,
}

/// Exit statuses, at the end of the help text.
const EXIT_STATUSES: &str = "\
Exit status: 0 after a clean stop; 1 when the bridge could not start; 64 for a wrong command line.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
