//! Where a branch is: host and port, with or without its name. Two that mean the same place are written the same, because
//! the list of the branches that may be asked is a list of these.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use protocol::BranchName;

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

/// A branch and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAddress {
    /// Its name.
    pub name: BranchName,
    /// Where it takes requests.
    pub address: Address,
}

impl FromStr for NamedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) =
            text.split_once('=').ok_or("a branch is given as NAME=HOST:PORT, such as Delhi=127.0.0.1:9101")?;
        let name = name.parse().map_err(|error: protocol::IdError| error.to_string())?;
        Ok(Self { name, address: address.parse()? })
    }
}

impl fmt::Display for NamedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.address)
    }
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

    #[test]
    fn branches_are_named() {
        let check = |text: &str| text.parse::<NamedAddress>().map(|named| named.to_string());
        assert_eq!(check("Delhi=127.0.0.1:9101").unwrap(), "Delhi=127.0.0.1:9101");
        assert_eq!(check("Pune=[::1]:9102").unwrap(), "Pune=[::1]:9102");
        assert!(check("127.0.0.1:9101").unwrap_err().contains("NAME=HOST:PORT"));
        assert!(check("De lhi=127.0.0.1:9101").is_err());
        assert!(check("Delhi=127.0.0.1").is_err());
    }
}
