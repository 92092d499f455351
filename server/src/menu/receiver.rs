//! Who is paid by a transfer, as typed at the menu.
//!
//! A receiver is read and written here, not looked up: whether there is such a branch or account is the
//! bank's to say.

use std::fmt;
use std::str::FromStr;

use protocol::{AccountNum, Address, AddressError, BranchName, IdError};

/// Who is paid by a transfer: `1002` here, `Delhi/1002` or `host:port/1002` at another branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// An account of this branch.
    Here(AccountNum),
    /// An account of a branch that is known by name.
    Branch(BranchName, AccountNum),
    /// An account of the branch at an address.
    Address(Address, AccountNum),
}

impl FromStr for Receiver {
    type Err = ReceiverError;

    fn from_str(text: &str) -> Result<Self, ReceiverError> {
        let Some((branch, account)) = text.rsplit_once('/') else {
            return text.parse().map(Self::Here).map_err(|_| ReceiverError::Form);
        };
        let account = account.parse().map_err(ReceiverError::Id)?;
        if !branch.contains(':') {
            return Ok(Self::Branch(branch.parse().map_err(ReceiverError::Id)?, account));
        }
        Ok(Self::Address(branch.parse().map_err(ReceiverError::Address)?, account))
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(account) => write!(f, "{account}"),
            Self::Branch(branch, account) => write!(f, "{branch}/{account}"),
            Self::Address(address, account) => write!(f, "{address}/{account}"),
        }
    }
}

/// Why a text names no receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverError {
    /// None of the three forms.
    Form,
    /// One of the names in it is wrong.
    Id(IdError),
    /// The `host:port` before the slash is none.
    Address(AddressError),
}

impl fmt::Display for ReceiverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str(
                "a receiver is an account number here, such as 1002, or Delhi/1002 or host:port/1002 at another branch",
            ),
            Self::Id(error) => error.fmt(f),
            Self::Address(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReceiverError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_receiver_has_three_forms() {
        let account = AccountNum::new(1002).unwrap();
        let address = |host: &str, port| Receiver::Address(Address::new(host, port).unwrap(), account);
        for (text, expected) in [
            ("1002", Receiver::Here(account)),
            ("Delhi/1002", Receiver::Branch("Delhi".parse().unwrap(), account)),
            ("localhost:9101/1002", address("localhost", 9101)),
            ("127.0.0.1:9101/1002", address("127.0.0.1", 9101)),
            ("[::1]:9101/1002", address("::1", 9101)),
        ] {
            assert_eq!(text.parse::<Receiver>().as_ref(), Ok(&expected), "text {text:?}");
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn other_receivers_are_refused_with_the_reason() {
        for (text, expected) in [
            ("", ReceiverError::Form),
            ("Delhi", ReceiverError::Form),
            ("0", ReceiverError::Form),
            (" 1002", ReceiverError::Form),
            ("Delhi/", ReceiverError::Id(IdError::AccountNum)),
            ("Delhi/0", ReceiverError::Id(IdError::AccountNum)),
            ("/1002", ReceiverError::Id(IdError::BranchName)),
            ("New Delhi/1002", ReceiverError::Id(IdError::BranchName)),
            ("a/b/1002", ReceiverError::Id(IdError::BranchName)),
            (":9101/1002", ReceiverError::Address(AddressError::Address)),
            ("host:/1002", ReceiverError::Address(AddressError::Address)),
            ("host:0/1002", ReceiverError::Address(AddressError::Address)),
            ("host:65536/1002", ReceiverError::Address(AddressError::Address)),
            ("host:+80/1002", ReceiverError::Address(AddressError::Address)),
            ("::1:9101/1002", ReceiverError::Address(AddressError::Address)),
            ("[host]:9101/1002", ReceiverError::Address(AddressError::Address)),
            ("ho st:9101/1002", ReceiverError::Address(AddressError::Address)),
        ] {
            assert_eq!(text.parse::<Receiver>(), Err(expected), "text {text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_receiver_that_parses_reads_back_the_same(text in "\\PC{0,12}(:[0-9]{1,5})?(/[0-9]{1,6})?") {
            if let Ok(receiver) = text.parse::<Receiver>() {
                prop_assert_eq!(receiver.to_string().parse::<Receiver>(), Ok(receiver));
            }
        }
    }
}
