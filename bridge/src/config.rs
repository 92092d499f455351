//! What the bridge runs with, resolved and checked from the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use branch_client::{Credentials, Keys};
use command_line::resolve_host;
use protocol::NamedAddress;
use tls::Connector;

use crate::arguments::ServeArguments;

/// Where a branch is looked for when none is named.
pub const DEFAULT_BRANCH: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9100);
/// The variable that names a branch's database, beside which its key is.
const DB_VARIABLE: &str = "BANK_DB";

/// The resolved configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Names under which the bridge may be asked for, beside those of its own machine.
    pub host_names: Vec<String>,
    /// The proxies whose word on who asks, and how, is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// The branches that were named.
    pub branches: Vec<NamedAddress>,
    /// What may be proved to a branch, and TLS when branches speak it.
    pub credentials: Credentials,
    /// Whether nobody has to sign in.
    pub is_open: bool,
    /// What the page calls the bank.
    pub bank_name: String,
    /// Where the page's files are, if not those built in.
    pub assets: Option<PathBuf>,
}

impl Config {
    /// Resolves the arguments.
    ///
    /// # Errors
    /// One sentence for the command line's user.
    pub fn resolve(arguments: &ServeArguments) -> Result<Self, String> {
        let host = resolve_host(&arguments.host)?;
        if arguments.open && !host.is_loopback() {
            return Err(format!("--open is for a loopback address only, and --host is {host}"));
        }
        for (index, one) in arguments.branch.iter().enumerate() {
            if arguments.branch[..index].iter().any(|other| other.name == one.name) {
                return Err(format!("--branch names {} twice", one.name));
            }
        }
        let keys = match &arguments.key {
            Some(path) => Keys::named(path)?,
            None => {
                let database = std::env::var_os(DB_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
                Keys::in_usual_places(database.as_deref(), std::env::current_exe().ok().as_deref())
            }
        };
        let tls = match &arguments.tls_ca {
            Some(path) => Some(Connector::new(Some(path)).map_err(|error| error.to_string())?),
            None => None,
        };
        let mut host_names = arguments.allow_host.clone();
        host_names.push(arguments.host.clone());
        Ok(Self {
            listen: SocketAddr::new(host, arguments.port),
            host_names,
            trusted_proxies: arguments.trust_proxy.iter().map(IpAddr::to_canonical).collect(),
            branches: arguments.branch.clone(),
            credentials: Credentials { keys, tls },
            is_open: arguments.open,
            bank_name: arguments.bank_name.clone(),
            assets: arguments.assets.clone(),
        })
    }
}
