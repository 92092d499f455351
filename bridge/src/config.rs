//! What the bridge runs with, resolved and checked from the command line.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use tls::Connector;

use crate::arguments::{NamedAddress, ServeArguments};
use crate::key::Keys;

/// Where a branch is looked for when none is named.
pub const DEFAULT_BRANCH: (&str, u16) = ("127.0.0.1", 9100);
/// The variable that names a branch's database, beside which its key is.
const DB_VARIABLE: &str = "BANK_DB";

/// The resolved configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Names under which the bridge may be asked for, beside those of its own machine.
    pub host_names: Vec<String>,
    /// The branches that were named.
    pub branches: Vec<NamedAddress>,
    /// The keys that may be proved to a branch.
    pub keys: Keys,
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
        let mut keys = match &arguments.key {
            Some(path) => Keys::named(path)?,
            None => {
                let database = std::env::var_os(DB_VARIABLE).map(PathBuf::from);
                Keys::in_usual_places(database.as_deref(), std::env::current_exe().ok().as_deref())
            }
        };
        keys.tls = match &arguments.tls_ca {
            Some(path) => Some(Connector::new(Some(path)).map_err(|error| error.to_string())?),
            None => None,
        };
        let mut host_names = arguments.allow_host.clone();
        host_names.push(arguments.host.clone());
        Ok(Self {
            listen: SocketAddr::new(host, arguments.port),
            host_names,
            branches: arguments.branch.clone(),
            keys,
            is_open: arguments.open,
            bank_name: arguments.bank_name.clone(),
            assets: arguments.assets.clone(),
        })
    }
}

/// Host and port of a branch. Two that mean the same machine's loopback are written the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port of the branch protocol.
    pub port: u16,
}

impl Address {
    /// An address; `localhost` is taken as 127.0.0.1, as people write either.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Self { host: if host == "localhost" { "127.0.0.1".into() } else { host }, port }
    }

    /// Where this address leads when `told_by` is the address of the branch that told it: what a branch on another
    /// machine calls its loopback is that machine to us.
    #[must_use]
    pub fn seen_from_here(self, told_by: &Self) -> Self {
        let is_loopback = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if is_loopback(&self.host) && !is_loopback(&told_by.host) {
            Self { host: told_by.host.clone(), port: self.port }
        } else {
            self
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address: HOST:PORT is wanted, such as 127.0.0.1:9100");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || (host.contains(':') && !is_bracketed) || port == 0 {
            return Err(wrong());
        }
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An address, or the first address of a name such as `localhost`.
fn resolve_host(host: &str) -> Result<IpAddr, String> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let resolved = (host, 0).to_socket_addrs().map_err(|error| format!("--host {host}: {error}"))?;
    let mut addresses: Vec<_> = resolved.map(|address| address.ip()).collect();
    // A name such as localhost may have both kinds of address; IPv4 is what people type.
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| format!("--host {host}: the name has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        let check = |text: &str, expected: &str| assert_eq!(text.parse::<Address>().unwrap().to_string(), expected);
        check("localhost:9100", "127.0.0.1:9100");
        check("LOCALHOST:9100", "127.0.0.1:9100");
        check("[::1]:9100", "[::1]:9100");
        check("bank.example:1", "bank.example:1");
        for wrong in ["", ":9100", "host", "host:", "host:x", "::1:9100", "host:70000", "host:0"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_loopback_address_means_the_machine_that_told_it() {
        let check = |host: &str, told_by: &str, expected: &str| {
            let address = Address::new(host, 9101).seen_from_here(&Address::new(told_by, 9100));
            assert_eq!(address, Address::new(expected, 9101));
        };
        check("127.0.0.1", "localhost", "127.0.0.1");
        check("127.0.0.1", "10.0.0.5", "10.0.0.5");
        check("10.0.0.6", "10.0.0.5", "10.0.0.6");
    }
}
