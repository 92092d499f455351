//! The parameters of each action, in the order of the actions; those that only branches and copies say to one another
//! are in `peer_params`.
//!
//! They are read and written by serde. An [`Amount`] keeps a wrong amount as what is wrong with it, so that the
//! answer can say so. Fields that may be missing are missing on the wire too, when they are written.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub use crate::peer_params::*;
use crate::{AccountNum, BranchName, Money, MoneyError, TxId};

/// The most requests in one `batch`.
pub const BATCH_REQUESTS_MAX: usize = 10_000;
/// The most receivers of one `split_transfer`.
pub const SPLIT_LEGS_MAX: usize = 100;
/// The most accounts of one `password_versions`.
pub const PASSWORD_VERSIONS_MAX: usize = 1_000;

/// An amount as it was given: a number or a string, read digit for digit, right or wrong.
///
/// Wrong amounts are kept, so that the answer can say what is wrong with the amount and not just that the
/// parameters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(Result<Money, MoneyError>);

impl Amount {
    /// The amount, which may be zero.
    ///
    /// # Errors
    /// What is wrong with it.
    pub const fn get(self) -> Result<Money, MoneyError> {
        self.0
    }

    /// The amount, which must be more than zero.
    ///
    /// # Errors
    /// What is wrong with it, or [`MoneyError::Zero`].
    pub fn to_move(self) -> Result<Money, MoneyError> {
        self.0.and_then(|amount| if amount.is_zero() { Err(MoneyError::Zero) } else { Ok(amount) })
    }
}

impl From<Money> for Amount {
    fn from(amount: Money) -> Self {
        Self(Ok(amount))
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(crate::money::parse_json_text(raw.get())))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// Reads a port from a number or a string.
fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(deserializer)?;
    let Some(raw) = raw else { return Ok(None) };
    let text = raw.get().trim_matches('"');
    if text == "null" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| D::Error::custom("a port is a number from 0 to 65535"))
}

/// Reads a list of at most `MAX` things, and stops at one more: a list costs its reader a good deal more memory than
/// its text, so its length is looked at while it is read.
fn at_most<'de, T: Deserialize<'de>, const MAX: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct List<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut found = Vec::new();
            while let Some(next) = list.next_element()? {
                if found.len() == MAX {
                    return Err(A::Error::custom(format_args!("a list of at most {MAX} is expected")));
                }
                found.push(next);
            }
            Ok(found)
        }
    }
    deserializer.deserialize_seq(List::<T, MAX>(PhantomData))
}

/// No parameters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct NoParams {}

/// Parameters of [`Action::Hello`](crate::request::Action::Hello).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Hello {
    /// 32 random bytes of the client's, in hexadecimal.
    pub nonce: String,
}

/// Parameters of [`Action::Authenticate`](crate::request::Action::Authenticate).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Authenticate {
    /// The client's proof, in hexadecimal.
    pub proof: String,
}

/// Who logs in: a customer by the account's number, or the administrator by 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginNum {
    /// Account 0.
    Administrator,
    /// A customer's account.
    Customer(AccountNum),
}

impl LoginNum {
    /// The number as SQLite stores integers.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        match self {
            Self::Administrator => 0,
            Self::Customer(account) => account.as_i64(),
        }
    }
}

impl<'de> Deserialize<'de> for LoginNum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().trim_matches('"') == "0" {
            return Ok(Self::Administrator);
        }
        serde_json::from_str(raw.get()).map(Self::Customer).map_err(D::Error::custom)
    }
}

impl Serialize for LoginNum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.as_i64())
    }
}

/// Parameters of [`Action::Login`](crate::request::Action::Login).
#[derive(Clone, Deserialize, Serialize)]
pub struct Login {
    /// The account.
    pub account_no: AccountNum,
    /// Its password.
    pub password: String,
}

/// Parameters of [`Action::CheckPassword`](crate::request::Action::CheckPassword).
#[derive(Clone, Deserialize, Serialize)]
pub struct CheckPassword {
    /// Who wants to log in.
    pub account_no: LoginNum,
    /// The password that they gave.
    pub password: String,
}

/// Parameters of [`Action::SetPassword`](crate::request::Action::SetPassword).
#[derive(Clone, Deserialize, Serialize)]
pub struct SetPassword {
    /// The account.
    pub account_no: AccountNum,
    /// Its new password.
    pub password: String,
    /// Its present one, which a customer has to know; operators need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present_password: Option<String>,
}

/// Parameters of [`Action::PasswordVersions`](crate::request::Action::PasswordVersions).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PasswordVersions {
    /// Whose: up to [`PASSWORD_VERSIONS_MAX`] accounts, 0 for the administrator.
    #[serde(deserialize_with = "at_most::<_, PASSWORD_VERSIONS_MAX, _>")]
    pub account_nos: Vec<LoginNum>,
}

/// Parameters of [`Action::CreateAccount`](crate::request::Action::CreateAccount).
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct CreateAccount {
    /// The number that the account is to have; the next free one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_no: Option<AccountNum>,
    /// The customer's name: the first word is the first name.
    pub name: String,
    /// What it starts with, from cash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Amount>,
    /// 12 digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aadhar_num: Option<String>,
    /// 10 digits, an optional +91 in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_num: Option<String>,
    /// Whether text messages are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<bool>,
    /// The password of the menu login; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Parameters of actions on one account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OneAccount {
    /// The account.
    pub account_no: AccountNum,
}

/// Parameters of [`Action::Deposit`](crate::request::Action::Deposit) and
/// [`Action::Withdraw`](crate::request::Action::Withdraw).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AccountAmount {
    /// The account.
    pub account_no: AccountNum,
    /// How much.
    pub amount: Amount,
}

/// Parameters of [`Action::ListAccounts`](crate::request::Action::ListAccounts). Like every filter, it is refused when it
/// has a field that is not known: who asks for less must not get more.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListAccounts {
    /// Only numbers above this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<AccountNum>,
    /// At most so many; without it, as many as one answer carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Parameters of [`Action::LocalTransfer`](crate::request::Action::LocalTransfer).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LocalTransfer {
    /// Who pays.
    pub src_account_no: AccountNum,
    /// Who is paid.
    pub dest_account_no: AccountNum,
    /// How much.
    pub amount: Amount,
}

/// Where the receiver of money is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Destination {
    /// The branch's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_branch: Option<BranchName>,
    /// Or its host,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_host: Option<String>,
    /// and its port.
    #[serde(default, deserialize_with = "port", skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
}

/// Parameters of [`Action::InterBranchTransfer`](crate::request::Action::InterBranchTransfer).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InterBranchTransfer {
    /// Who pays, here.
    pub src_account_no: AccountNum,
    /// Who is paid, there.
    pub dest_account_no: AccountNum,
    /// How much.
    pub amount: Amount,
    /// The receiver's branch by name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_branch: Option<BranchName>,
    /// or by host
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_host: Option<String>,
    /// and port.
    #[serde(default, deserialize_with = "port", skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
}

impl InterBranchTransfer {
    /// Where the receiver is.
    #[must_use]
    pub fn destination(&self) -> Destination {
        Destination {
            dest_branch: self.dest_branch.clone(),
            dest_host: self.dest_host.clone(),
            dest_port: self.dest_port,
        }
    }
}

/// One receiver of a [`SplitTransfer`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SplitLeg {
    /// Who is paid.
    pub account_no: AccountNum,
    /// How much.
    pub amount: Amount,
    /// The receiver's branch by name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_branch: Option<BranchName>,
    /// or by host
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_host: Option<String>,
    /// and port; none of the three for this branch.
    #[serde(default, deserialize_with = "port", skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
}

impl SplitLeg {
    /// Where the receiver is.
    #[must_use]
    pub fn destination(&self) -> Destination {
        Destination {
            dest_branch: self.dest_branch.clone(),
            dest_host: self.dest_host.clone(),
            dest_port: self.dest_port,
        }
    }
}

/// Parameters of [`Action::SplitTransfer`](crate::request::Action::SplitTransfer).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SplitTransfer {
    /// Who pays, here.
    pub src_account_no: AccountNum,
    /// Who is paid: 1 to [`SPLIT_LEGS_MAX`].
    #[serde(deserialize_with = "at_most::<_, SPLIT_LEGS_MAX, _>")]
    pub legs: Vec<SplitLeg>,
}

/// Parameters of the prepares.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Prepare {
    /// The transaction.
    pub txid: TxId,
    /// The account here.
    pub account_no: AccountNum,
    /// How much.
    pub amount: Amount,
    /// Who decides: a branch's name or `host:port`. Without one it waits for the outside program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
}

/// Parameters of actions on one transaction.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OneTx {
    /// The transaction.
    pub txid: TxId,
}

/// Parameters of [`Action::Resolve`](crate::request::Action::Resolve).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Resolve {
    /// The transaction.
    pub txid: TxId,
    /// `commit`, `committed`, `abort` or `aborted`.
    pub outcome: String,
    /// Why; recorded.
    #[serde(default)]
    pub reason: String,
}

/// Parameters of [`Action::ClearSuspense`](crate::request::Action::ClearSuspense).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClearSuspense {
    /// The transfer whose difference it is.
    pub txid: TxId,
    /// To this customer, or from them where money is lacking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_no: Option<AccountNum>,
    /// Out of or into cash. Either this or an account is named.
    #[serde(default)]
    pub cash: bool,
    /// How much of it; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// The branch that has not booked its side of the payment, and never will: then it is no longer owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_booked_by: Option<BranchName>,
    /// Why; recorded with the transaction.
    #[serde(default)]
    pub reason: String,
}

/// Parameters of [`Action::History`](crate::request::Action::History) and of its older name `get_logs`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Of this account; of the whole branch without it. Older programs call it `account`; both at once are refused.
    #[serde(default, alias = "account", skip_serializing_if = "Option::is_none")]
    pub account_no: Option<AccountNum>,
    /// Only transactions older than this one: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Parameters of [`Action::Batch`](crate::request::Action::Batch).
#[derive(Debug, Deserialize, Serialize)]
pub struct Batch<'a> {
    /// Up to [`BATCH_REQUESTS_MAX`] requests.
    #[serde(borrow, deserialize_with = "at_most::<_, BATCH_REQUESTS_MAX, _>")]
    pub requests: Vec<&'a RawValue>,
    /// Whether all of them happen or none.
    #[serde(default)]
    pub atomic: bool,
}

/// Parameters of [`Action::Watch`](crate::request::Action::Watch).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Only events with numbers above this one; without it, those still in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only events of this transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txid: Option<TxId>,
    /// Whether to go on with events as they happen; `false` ends after those in memory.
    #[serde(default = "yes")]
    pub follow: bool,
}

fn yes() -> bool {
    true
}
