//! What the menu asks of the bank, and what the bank answers: plain data, without behaviour.
//!
//! Every request names the account that it concerns, so whoever carries it out needs no state of the
//! session. The session emits a customer's requests for the account that logged in and no other, and an
//! administrator's requests only while the administrator is logged in. Passwords hide in `Debug`.

use std::fmt;
use std::str::FromStr;

use protocol::{AccountNum, IdError, Money, Total, TxId};

use super::receiver::Receiver;
use crate::bank::customer::{Aadhaar, NewPassword, PersonName, Phone};

/// Something that the bank is to do for whoever sits at the menu.
#[derive(Clone, Debug)]
pub enum Request {
    /// Check a password. Answered by [`Reply::LoggedIn`], or refused with [`Refusal::log_in`].
    LogIn {
        /// Who wants to log in.
        account: LogInAs,
        /// The password as typed.
        password: TypedPassword,
    },
    /// The customer's own name and money, read before every display of the customer's menu. Answered by
    /// [`Reply::Account`]; a refusal logs the customer out.
    Account {
        /// The customer's account.
        account: AccountNum,
    },
    /// Answered by [`Reply::Deposited`].
    Deposit {
        /// The customer's account.
        account: AccountNum,
        /// More than zero.
        amount: Money,
    },
    /// Answered by [`Reply::Withdrawn`].
    Withdraw {
        /// The customer's account.
        account: AccountNum,
        /// More than zero.
        amount: Money,
    },
    /// Answered by [`Reply::Transferred`].
    Transfer {
        /// The customer's account, which pays.
        account: AccountNum,
        /// Who is paid. Nobody has checked yet whether the receiver is the payer.
        to: Receiver,
        /// More than zero.
        amount: Money,
    },
    /// One page of the customer's own transactions, newest first. Answered by [`Reply::Transactions`].
    History {
        /// The customer's account.
        account: AccountNum,
        /// Only transactions with a smaller id; `None` for the newest.
        before: Option<i64>,
    },
    /// Answered by [`Reply::PasswordChanged`].
    ChangePassword {
        /// The customer's account.
        account: AccountNum,
        /// The password so far, to be checked.
        present: TypedPassword,
        /// The password from now on.
        new: NewPassword,
    },
    /// Answered by [`Reply::Opened`].
    OpenAccount(NewCustomer),
    /// Answered by [`Reply::Closed`].
    CloseAccount {
        /// The account to close.
        account: AccountNum,
        /// The administrator's password, to be checked.
        administrator_password: TypedPassword,
    },
    /// One page of all accounts by ascending number. Answered by [`Reply::Accounts`].
    Accounts {
        /// Only accounts with a larger number; `None` for the first page.
        after: Option<AccountNum>,
    },
    /// One page of all transactions, newest first. Answered by [`Reply::Transactions`].
    Transactions {
        /// Only transactions with a smaller id; `None` for the newest.
        before: Option<i64>,
    },
    /// Answered by [`Reply::Audit`].
    Audit,
    /// The known branches and one page of the transfers in doubt. Answered by [`Reply::Branches`].
    Branches {
        /// Only transfers with a larger id; `None` for the first page, which alone shows the branches.
        after: Option<TxId>,
    },
    /// Settle a transfer in doubt by hand. Answered by [`Reply::Resolved`].
    Resolve {
        /// Which.
        txid: TxId,
        /// How.
        outcome: SettledAs,
        /// Why; it is recorded.
        reason: String,
    },
    /// A notification that a session is over. Answered by [`Reply::LoggedOut`]; a refusal is ignored.
    LogOut {
        /// Who was logged in.
        who: LogInAs,
    },
}

/// What the bank did or found.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The password is right.
    LoggedIn,
    /// The customer's own view.
    Account(AccountView),
    /// A deposit was made.
    Deposited {
        /// The balance after it.
        balance: Money,
    },
    /// A withdrawal was made.
    Withdrawn {
        /// The balance after it.
        balance: Money,
    },
    /// A transfer was made.
    Transferred {
        /// The payer's balance after it, where that could be looked at.
        balance: Option<Money>,
        /// The transfer's id, if it went to another branch.
        txid: Option<TxId>,
        /// Whether the other branch has said that the money is there.
        delivery: Delivery,
    },
    /// The new password counts from now on.
    PasswordChanged,
    /// An account was opened.
    Opened {
        /// The new account's number.
        account: AccountNum,
        /// What it was credited at once.
        opening_balance: Money,
    },
    /// An account was closed.
    Closed {
        /// The account's number.
        account: AccountNum,
        /// The balance that was paid out.
        paid_out: Money,
    },
    /// One page of accounts, at most [`super::PAGE_ROWS`] of them.
    Accounts {
        /// In ascending order.
        rows: Vec<AccountRow>,
        /// The last row's number, if there is more.
        next: Option<AccountNum>,
    },
    /// One page of transactions, at most [`super::PAGE_ROWS`] of them.
    Transactions {
        /// Newest first.
        rows: Vec<TransactionRow>,
        /// The last row's id, if there is more.
        next: Option<i64>,
    },
    /// What the audit found.
    Audit(AuditReport),
    /// The known branches, and at most [`super::PAGE_ROWS`] transfers in doubt.
    Branches {
        /// All known branches; empty on every page but the first.
        branches: Vec<BranchRow>,
        /// In ascending order of their ids.
        in_doubt: Vec<InDoubtRow>,
        /// The last transfer's id, if there is more.
        next: Option<TxId>,
    },
    /// A transfer was settled by hand.
    Resolved,
    /// The end of the session is noted.
    LoggedOut,
}

/// How a person settles a transfer in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettledAs {
    /// It is carried out here.
    Committed,
    /// It is given up here.
    Aborted,
}

impl FromStr for SettledAs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "commit" => Ok(Self::Committed),
            "abort" => Ok(Self::Aborted),
            _ => Err("please answer commit or abort"),
        }
    }
}

impl fmt::Display for SettledAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
        })
    }
}

/// Who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogInAs {
    /// Account 0.
    Administrator,
    /// The customer of an account.
    Customer(AccountNum),
}

impl FromStr for LogInAs {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text == "0" { Ok(Self::Administrator) } else { text.parse().map(Self::Customer) }
    }
}

impl fmt::Display for LogInAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrator => f.write_str("administrator"),
            Self::Customer(account) => write!(f, "account {account}"),
        }
    }
}

/// A password that was typed to be checked. It has no text form but [`TypedPassword::as_str`].
#[derive(Clone)]
pub struct TypedPassword(String);

impl TypedPassword {
    /// A password, exactly as typed.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(password)
    }

    /// The password, to be checked.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TypedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedPassword(********)")
    }
}

/// What is asked when an account is opened, each part checked by itself.
#[derive(Clone, Debug)]
pub struct NewCustomer {
    /// Must not be another customer's.
    pub aadhaar: Aadhaar,
    /// Must not be another customer's.
    pub phone: Phone,
    /// The first name.
    pub first_name: PersonName,
    /// The last name.
    pub last_name: PersonName,
    /// Whether movements are told by text message.
    pub sms: bool,
    /// For the log-in.
    pub password: NewPassword,
}

/// What a customer sees of the own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// First and last name.
    pub name: String,
    /// All money in the account.
    pub balance: Money,
    /// The part of it that is reserved.
    pub held: Money,
    /// The rest, which can be spent.
    pub available: Money,
}

/// Whether the receiver's branch has acknowledged a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The money is there.
    Done,
    /// The transfer is decided and will arrive; the acknowledgement has not.
    Pending,
}

/// One account in the administrator's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// The account's number.
    pub account: AccountNum,
    /// First and last name.
    pub name: String,
    /// As `XXXX XXXX 1234`; empty if none is known.
    pub aadhaar_masked: String,
    /// Empty if none is known.
    pub phone: String,
    /// Whether movements are told by text message.
    pub sms: bool,
    /// All money in the account.
    pub balance: Money,
    /// The part of it that is reserved.
    pub held: Money,
    /// Such as `open` or `closed`.
    pub status: String,
}

/// One transaction in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRow {
    /// Its number; a newer transaction has a larger one.
    pub transaction_id: i64,
    /// When, as ISO 8601 text.
    pub date: String,
    /// Such as `deposit` or `transfer`.
    pub kind: String,
    /// Who paid.
    pub from: String,
    /// Who was paid.
    pub to: String,
    /// How much.
    pub amount: Money,
    /// The id of the transfer between branches that it belongs to.
    pub txid: Option<String>,
}

/// What an audit found. The books are clean when there are no findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// One sentence for each thing that is wrong.
    pub findings: Vec<String>,
    /// The sum of all balances.
    pub balances: Total,
    /// Money on its way to or from other branches.
    pub in_transit: Total,
    /// All money that ever came in.
    pub paid_in: Total,
    /// All money that ever went out.
    pub paid_out: Total,
}

/// One known branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRow {
    /// Its name.
    pub name: String,
    /// Its `host:port`.
    pub address: String,
    /// Such as `up` or `down`.
    pub state: String,
}

/// One transfer that is under way: prepared here and in doubt, or begun here and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubtRow {
    /// The transfer's id.
    pub txid: TxId,
    /// What it does here.
    pub legs: String,
    /// Such as `prepared`.
    pub state: String,
    /// The branch that decides.
    pub coordinator: String,
    /// Whether the coordinator answers at present.
    pub answers: bool,
    /// How long it has been in doubt, in seconds.
    pub age_seconds: u64,
}

/// Why something was not done: one clear sentence for whoever sits at the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    sentence: String,
    ends_session: bool,
}

impl Refusal {
    /// A refusal from a reason. A capital letter in front and a full stop at the end are added if missing.
    #[must_use]
    pub fn new(reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        let mut characters = reason.trim().chars();
        let mut sentence: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
        sentence.push_str(characters.as_str());
        if !sentence.ends_with(['.', '!', '?']) {
            sentence.push('.');
        }
        Self { sentence, ends_session: false }
    }

    /// The one sentence for an unknown account and for a wrong password, which must look the same.
    #[must_use]
    pub fn log_in() -> Self {
        Self::new("the account number or the password is wrong")
    }

    /// The same refusal, after which nobody is logged in any more.
    #[must_use]
    pub fn ending_the_session(self) -> Self {
        Self { ends_session: true, ..self }
    }

    /// Whether nobody is logged in any more.
    #[must_use]
    pub const fn ends_session(&self) -> bool {
        self.ends_session
    }

    /// The sentence.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.sentence
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_zero_is_the_administrator() {
        assert_eq!("0".parse(), Ok(LogInAs::Administrator));
        assert_eq!("1001".parse(), Ok(LogInAs::Customer(AccountNum::new(1001).unwrap())));
        for text in ["", "00", "-1", "root", "1001 "] {
            assert_eq!(text.parse::<LogInAs>(), Err(IdError::AccountNum), "text {text:?}");
        }
    }

    #[test]
    fn a_refusal_is_a_sentence() {
        for (reason, expected) in [
            ("insufficient funds", "Insufficient funds."),
            ("Already said.", "Already said."),
            ("really?", "Really?"),
            ("", "."),
        ] {
            assert_eq!(Refusal::new(reason).as_str(), expected);
        }
    }

    #[test]
    fn passwords_and_aadhaar_numbers_stay_out_of_debug() {
        let account = AccountNum::new(1001).unwrap();
        let secret = || TypedPassword::new("swordfish".into());
        let requests = [
            Request::LogIn { account: LogInAs::Administrator, password: secret() },
            Request::ChangePassword { account, present: secret(), new: "swordfish".parse().unwrap() },
            Request::CloseAccount { account, administrator_password: secret() },
            Request::OpenAccount(NewCustomer {
                aadhaar: "123456789012".parse().unwrap(),
                phone: "9876543210".parse().unwrap(),
                first_name: "Asha".parse().unwrap(),
                last_name: "Rao".parse().unwrap(),
                sms: true,
                password: "swordfish".parse().unwrap(),
            }),
        ];
        for request in requests {
            let shown = format!("{request:?}");
            assert!(!shown.contains("swordfish") && !shown.contains("12345678"), "{shown}");
            assert!(shown.contains("********"), "{shown}");
        }
    }
}
