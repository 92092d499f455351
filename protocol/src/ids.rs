//! Identifiers: account numbers, transaction ids and branch names.
//!
//! Each is a newtype with one text form, checked once where it enters. A [`TxId`] and a [`BranchName`] are
//! short and printable, so they can stand in a log line, a table or a diagram without escaping.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest branch name, in bytes.
pub const BRANCH_NAME_BYTES_MAX: usize = 32;
/// The longest transaction id, in bytes.
pub const TX_ID_BYTES_MAX: usize = 64;

/// The number of a customer's account, from 1 to 999,999,999,999,999.
///
/// The bound keeps every number exact in programs that read JSON numbers as doubles. Number 0, the
/// administrator's, is no account and has no value of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountNum(u64);

impl AccountNum {
    /// The largest account number.
    pub const MAX: u64 = 999_999_999_999_999;

    /// An account number from an integer; `None` outside `1..=MAX`.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 || number > Self::MAX { None } else { Some(Self(number)) }
    }

    /// The number as an integer.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as SQLite stores integers.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        // MAX is below i64::MAX, so the cast keeps the value.
        self.0 as i64
    }
}

impl fmt::Display for AccountNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for AccountNum {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(IdError::AccountNum);
        }
        text.parse().ok().and_then(Self::new).ok_or(IdError::AccountNum)
    }
}

impl Serialize for AccountNum {
    /// Writes a string, as the branch protocol wants it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AccountNum {
    /// Reads a string or a number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AccountNumVisitor;
        impl Visitor<'_> for AccountNumVisitor {
            type Value = AccountNum;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an account number, such as 1001 or \"1001\"")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<AccountNum, E> {
                AccountNum::new(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AccountNum, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(AccountNumVisitor)
    }
}

/// The id of one transfer between branches, the same at each of them.
///
/// 1 to 64 ASCII letters, digits, `-`, `_`, `.` and `:`. A coordinator's own ids begin with its name;
/// an outside program that drives the raw actions may bring any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(Arc<str>);

impl TxId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TxId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_token(text, TX_ID_BYTES_MAX, "-_.:") { Ok(Self(text.into())) } else { Err(IdError::TxId) }
    }
}

/// The name of a branch, such as `Mumbai`.
///
/// 1 to 32 ASCII letters, digits, `-`, `_` and `.`, so a name can be told from `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchName(Arc<str>);

impl BranchName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BranchName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if starts_well && is_token(text, BRANCH_NAME_BYTES_MAX, "-_.") {
            Ok(Self(text.into()))
        } else {
            Err(IdError::BranchName)
        }
    }
}

fn is_token(text: &str, bytes_max: usize, punctuation: &str) -> bool {
    !text.is_empty()
        && text.len() <= bytes_max
        && text.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c))
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
serde_as_text!(TxId, BranchName);

/// Why a text is not an identifier. Each message says what a right one looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// Not an account number.
    AccountNum,
    /// Not a transaction id.
    TxId,
    /// Not a branch name.
    BranchName,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccountNum => "an account number has 1 to 15 digits, such as 1001",
            Self::TxId => "a transaction id has 1 to 64 letters, digits, '-', '_', '.' or ':'",
            Self::BranchName => "a branch name has 1 to 32 letters, digits, '-', '_' or '.', such as Mumbai",
        })
    }
}

impl std::error::Error for IdError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn account_numbers_are_plain_digits_above_zero() {
        for (text, expected) in [("1", Some(1)), ("1001", Some(1001)), ("0001001", Some(1001))] {
            assert_eq!(text.parse::<AccountNum>().ok().map(AccountNum::get), expected, "text {text:?}");
        }
        for text in ["", "0", "-1", "+1", " 1", "1.0", "1e3", "9999999999999999", "99999999999999999999999", "x"] {
            assert_eq!(text.parse::<AccountNum>(), Err(IdError::AccountNum), "text {text:?}");
        }
    }

    #[test]
    fn an_account_number_is_read_from_string_or_number_and_written_as_string() {
        for json in ["1001", "\"1001\""] {
            let account: AccountNum = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&account).unwrap(), "\"1001\"");
        }
        for json in ["0", "-1", "1.5", "null", "\"\"", "\"abc\"", "[1]", "1e3", "99999999999999999999"] {
            assert!(serde_json::from_str::<AccountNum>(json).is_err(), "json {json}");
        }
    }

    #[test]
    fn names_and_ids_are_short_and_printable() {
        for text in ["Mumbai", "new-delhi", "a.b_c", "7"] {
            assert!(text.parse::<BranchName>().is_ok(), "text {text:?}");
        }
        for text in ["", "-x", "a b", "a/b", "a:1", "x".repeat(33).as_str(), "Delhi\n", "दिल्ली"] {
            assert_eq!(text.parse::<BranchName>(), Err(IdError::BranchName), "text {text:?}");
        }
        assert!("Mumbai-00ff:1".parse::<TxId>().is_ok());
        for text in ["", "a b", "x".repeat(65).as_str(), "a\u{0}"] {
            assert_eq!(text.parse::<TxId>(), Err(IdError::TxId), "text {text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in "\\PC{0,80}") {
            if let Ok(id) = text.parse::<TxId>() {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Ok(name) = text.parse::<BranchName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            let _ = text.parse::<AccountNum>();
        }
    }
}
