//! What stands on a command line: accounts, here and at other branches, amounts, parts of a split.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use protocol::request::SplitLeg;
use protocol::{AccountNum, Address, AddressError, BranchName, IdError, Money, MoneyError};

use crate::error::ClientError;

/// One account, as `1001` or as `--account_no 1001`.
#[derive(Args, Debug)]
pub struct OneAccountArguments {
    /// The account
    #[arg(value_name = "ACCOUNT", required_unless_present = "account_no", conflicts_with = "account_no")]
    account: Option<AccountNum>,
    /// The account, by the older flag
    #[arg(long = "account_no", alias = "account-no", value_name = "ACCOUNT")]
    account_no: Option<AccountNum>,
}

impl OneAccountArguments {
    pub(super) fn account(&self) -> Result<AccountNum, ClientError> {
        required(self.account.or(self.account_no), "an account")
    }
}

/// The reader of the command line has made sure that it is there.
pub(super) fn required<T>(value: Option<T>, what: &str) -> Result<T, ClientError> {
    value.ok_or_else(|| ClientError::Usage(format!("{what} is missing")))
}

/// A count of at least one.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "a number above 0 is needed".into())
}

/// Who is paid: `1002` here, `Delhi/1002` or `host:port/1002` at another branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Which branch.
    pub place: Place,
    /// Which account there.
    pub account: AccountNum,
}

/// Where an account is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the branch that is asked.
    Here,
    /// At the branch of this name.
    Named(BranchName),
    /// At the branch with this address.
    At(Address),
}

impl FromStr for Receiver {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some((place, account)) = text.rsplit_once('/') else {
            let account = text.parse().map_err(|_| ValueError::Receiver)?;
            return Ok(Self { place: Place::Here, account });
        };
        let place = if place.contains(':') {
            Place::At(place.parse().map_err(ValueError::Address)?)
        } else {
            Place::Named(place.parse().map_err(ValueError::Id)?)
        };
        Ok(Self { place, account: account.parse().map_err(ValueError::Id)? })
    }
}

/// One receiver of a split and what it gets: `Delhi/1002=50`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitPart {
    /// Who.
    pub receiver: Receiver,
    /// How much.
    pub amount: Money,
}

impl FromStr for SplitPart {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (receiver, amount) = text.split_once('=').ok_or(ValueError::SplitPart)?;
        Ok(Self {
            receiver: receiver.parse()?,
            amount: Money::parse_typed_movement(amount).map_err(ValueError::Amount)?,
        })
    }
}

impl From<&SplitPart> for SplitLeg {
    fn from(part: &SplitPart) -> Self {
        let (dest_branch, address) = match &part.receiver.place {
            Place::Here => (None, None),
            Place::Named(name) => (Some(name.clone()), None),
            Place::At(address) => (None, Some(address)),
        };
        Self {
            account_no: part.receiver.account,
            amount: part.amount.into(),
            dest_branch,
            dest_host: address.map(|address| address.host.clone()),
            dest_port: address.map(|address| address.port),
        }
    }
}

/// Why a text on the command line is not what is asked for there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// No form of a receiver.
    Receiver,
    /// No `host:port`.
    Address(AddressError),
    /// Not `RECEIVER=AMOUNT`.
    SplitPart,
    /// A wrong name or number in it.
    Id(IdError),
    /// A wrong amount in it.
    Amount(MoneyError),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receiver => f.write_str("a receiver is 1002, Delhi/1002 or 127.0.0.1:9101/1002"),
            Self::Address(error) => error.fmt(f),
            Self::SplitPart => f.write_str("a part is RECEIVER=AMOUNT, such as Delhi/1002=50"),
            Self::Id(error) => error.fmt(f),
            Self::Amount(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ValueError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_here_by_name_or_by_address() {
        let check = |text: &str, place: Place| {
            assert_eq!(text.parse(), Ok(Receiver { place, account: AccountNum::new(1002).unwrap() }), "{text}");
        };
        check("1002", Place::Here);
        check("Delhi/1002", Place::Named("Delhi".parse().unwrap()));
        check("127.0.0.1:9101/1002", Place::At(Address::new("127.0.0.1", 9101).unwrap()));
        check("[::1]:9101/1002", Place::At(Address::new("::1", 9101).unwrap()));
        for wrong in ["", "Delhi", "Delhi/", "/1002", "Delhi/x", "host:/1002", "host:0/1002", "host:99999/1002", ":1/1"]
        {
            assert!(wrong.parse::<Receiver>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn parts_carry_what_goes_where() {
        let part: SplitPart = "Pune/1001=25.50".parse().unwrap();
        let leg = SplitLeg::from(&part);
        let json = serde_json::to_string(&leg).unwrap();
        assert_eq!(json, r#"{"account_no":"1001","amount":25.50,"dest_branch":"Pune"}"#);
        let leg = SplitLeg::from(&"10.0.0.2:9101/7=1".parse::<SplitPart>().unwrap());
        let json = serde_json::to_string(&leg).unwrap();
        assert_eq!(json, r#"{"account_no":"7","amount":1.00,"dest_host":"10.0.0.2","dest_port":9101}"#);
        let check = |text: &str, expected| assert_eq!(text.parse::<SplitPart>(), Err(expected), "{text}");
        check("1002", ValueError::SplitPart);
        check("1002=0", ValueError::Amount(MoneyError::Zero));
        check("1002=-1", ValueError::Amount(MoneyError::Sign));
        check("1002=1=2", ValueError::Amount(MoneyError::NotANumber));
    }
}
