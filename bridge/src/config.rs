//! What the bridge runs with, resolved and checked from the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use branch_client::{Credentials, Keys};
use protocol::io_words::IoWords;
use protocol::{NamedAddress, bare_host};
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

/// An address, or the first address of a name such as `localhost`.
fn resolve_host(host: &str) -> Result<IpAddr, String> {
    let host = bare_host(host);
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let resolved = (host, 0).to_socket_addrs().map_err(|error| format!("--host {host}: {}", IoWords(&error)))?;
    let mut addresses: Vec<_> = resolved.map(|address| address.ip()).collect();
    // A name such as localhost may have both kinds of address; IPv4 is what people type.
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| format!("--host {host}: the name has no address"))
}
