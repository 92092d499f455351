//! Where a branch is: a host and a port, with or without the branch's name. One text form, checked where it enters.
//!
//! Only the form is looked at. Whether there is such a host shows when it is dialled, and whether two addresses
//! mean the same place is not this module's to say.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::ids::{BranchName, IdError};

/// The longest host name, in bytes (RFC 1035, section 2.3.4, without the length of its root).
const HOST_BYTES_MAX: usize = 253;

/// A host and the port of the branch protocol there. Its text is `host:port`, or `[::1]:port` for IPv6.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an IP address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A branch and where it is. Its text is `Delhi=127.0.0.1:9101`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAddress {
    /// Its name.
    pub name: BranchName,
    /// Where it takes requests.
    pub address: Address,
}

/// Why a text says nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It is not `host:port`.
    Address,
    /// It is not `NAME=host:port`.
    Named,
    /// The name in it is none.
    Name(IdError),
}

impl Address {
    /// An address of which host and port were given apart; an IPv6 address with or without its brackets.
    ///
    /// # Errors
    /// [`AddressError::Address`].
    pub fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        let bare = bare_host(host);
        if !(is_host_name(bare) || is_ipv6(bare)) || port == 0 {
            return Err(AddressError::Address);
        }
        Ok(Self { host: bare.to_string(), port })
    }

    /// Whether it is an address of the machine itself.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }

    /// Where this address leads when the branch at `teller` told it: what a branch on another machine calls its
    /// loopback is that machine to us.
    #[must_use]
    pub fn told_by(self, teller: &Self) -> Self {
        if self.is_loopback() && !teller.is_loopback() {
            Self { host: teller.host.clone(), port: self.port }
        } else {
            self
        }
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from((ip, port): (I, u16)) -> Self {
        Self { host: ip.into().to_string(), port }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::Address)?;
        // A number may have a sign, a port may not; and without brackets nobody could say where an IPv6 address ends.
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || (host.contains(':') && !host.starts_with('[')) {
            return Err(AddressError::Address);
        }
        Self::new(host, port.parse().map_err(|_| AddressError::Address)?)
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

impl FromStr for NamedAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (name, address) = text.split_once('=').ok_or(AddressError::Named)?;
        Ok(Self { name: name.parse().map_err(AddressError::Name)?, address: address.parse()? })
    }
}

impl fmt::Display for NamedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.address)
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("a branch's address is host:port, such as 127.0.0.1:9101"),
            Self::Named => f.write_str("a branch is given as NAME=HOST:PORT, such as Delhi=127.0.0.1:9101"),
            Self::Name(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AddressError {}

/// A host as it is dialled: an IPv6 address may be given in the brackets in which it is written before a port.
#[must_use]
pub fn bare_host(text: &str) -> &str {
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|bare| is_ipv6(bare)).unwrap_or(text)
}

fn is_host_name(text: &str) -> bool {
    (1..=HOST_BYTES_MAX).contains(&text.len())
        && text.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
}

/// An IPv6 address, with the zone of a link-local one if it has one (RFC 4007, section 11).
fn is_ipv6(text: &str) -> bool {
    match text.split_once('%') {
        Some((address, zone)) => address.parse::<Ipv6Addr>().is_ok() && is_host_name(zone),
        None => text.parse::<Ipv6Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_an_ipv6_address_loses_its_brackets() {
        for (text, expected) in [("[::1]", "::1"), ("::1", "::1"), ("[x]", "[x]"), ("[::1", "[::1"), ("", "")] {
            assert_eq!(bare_host(text), expected);
        }
    }

    #[test]
    fn an_address_reads_back() {
        let check = |text: &str, host: &str, port| {
            assert_eq!(text.parse(), Ok(Address { host: host.into(), port }), "{text}");
            assert_eq!(Address { host: host.into(), port }.to_string(), text);
        };
        check("127.0.0.1:9101", "127.0.0.1", 9101);
        check("bank-2.example.org:1", "bank-2.example.org", 1);
        check("localhost:65535", "localhost", 65535);
        check("[::1]:9101", "::1", 9101);
        check("[fe80::1%eth0]:9101", "fe80::1%eth0", 9101);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "host",
            "host:",
            ":9101",
            "host:x",
            "host:+80",
            "host:0",
            "host:65536",
            "::1:9101",
            "[::1:9101",
            "[host]:9101",
            "[]:9101",
            "ho st:9101",
            "host/x:9101",
            "host\n:9101",
            "Delhi=127.0.0.1:9101",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Address), "{text:?}");
        }
        assert!(Address::new(&"a".repeat(HOST_BYTES_MAX), 1).is_ok());
        assert!(Address::new(&"a".repeat(HOST_BYTES_MAX + 1), 1).is_err());
    }

    #[test]
    fn host_and_port_may_come_apart() {
        let check = |host: &str, expected: &str| assert_eq!(Address::new(host, 9101).unwrap().to_string(), expected);
        check("::1", "[::1]:9101");
        check("[::1]", "[::1]:9101");
        check("localhost", "localhost:9101");
        assert!(Address::new("localhost", 0).is_err());
        assert_eq!(Address::from((Ipv6Addr::LOCALHOST, 9101)).to_string(), "[::1]:9101");
    }

    #[test]
    fn a_loopback_address_means_the_machine_that_told_it() {
        let check = |host: &str, teller: &str, expected: &str| {
            let address = |host: &str| Address::new(host, 9101).unwrap();
            assert_eq!(address(host).told_by(&address(teller)), address(expected), "{host} told by {teller}");
        };
        check("127.0.0.1", "localhost", "127.0.0.1");
        check("127.0.0.1", "10.0.0.5", "10.0.0.5");
        check("LocalHost", "bank.example", "bank.example");
        check("::1", "10.0.0.5", "10.0.0.5");
        check("10.0.0.6", "10.0.0.5", "10.0.0.6");
    }

    #[test]
    fn a_branch_stands_before_its_address() {
        let check = |text: &str| assert_eq!(text.parse::<NamedAddress>().unwrap().to_string(), text);
        check("Delhi=127.0.0.1:9101");
        check("Pune=[::1]:9102");
        let refused = |text: &str, expected| assert_eq!(text.parse::<NamedAddress>(), Err(expected), "{text}");
        refused("127.0.0.1:9101", AddressError::Named);
        refused("De lhi=127.0.0.1:9101", AddressError::Name(IdError::BranchName));
        refused("Delhi=127.0.0.1", AddressError::Address);
    }

    proptest! {
        #[test]
        fn an_address_that_parses_reads_back_the_same(text in "\\PC{0,12}(:[0-9]{1,5})?") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
