//! What the menu asks of the bank, and what the bank answers: plain data, without behaviour.
//!
//! Every request names the account that it concerns, so whoever carries it out needs no state of the
//! session. The session emits a customer's requests for the account that logged in and no other, and an
//! administrator's requests only while the administrator is logged in. Passwords hide in `Debug`.

use std::fmt;
use std::str::FromStr;

use protocol::answer::{Audit, Branch, Delivery, HistoryLine, Pending};
use protocol::{AccountNum, IdError, Money, TxId};
use two_phase_commit::Outcome;

use super::receiver::Receiver;
use crate::bank::accounts::Account;
use crate::bank::customer::{Aadhaar, NewPassword, PersonName, Phone};
use crate::service::operations::OperationResult;
use crate::service::reports::Page;

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
    /// Answered by [`Reply::Done`].
    Deposit {
        /// The customer's account.
        account: AccountNum,
        /// More than zero.
        amount: Money,
    },
    /// Answered by [`Reply::Done`].
    Withdraw {
        /// The customer's account.
        account: AccountNum,
        /// More than zero.
        amount: Money,
    },
    /// Answered by [`Reply::Done`] at this branch, by [`Reply::Transferred`] at another.
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
    /// Answered by [`Reply::Done`].
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
        outcome: Outcome,
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
    /// The customer's own account.
    Account(Account),
    /// An operation on this branch's own ledger was carried out.
    Done(OperationResult),
    /// A transfer to another branch was made.
    Transferred {
        /// The payer's balance after it, where that could be looked at.
        balance: Option<Money>,
        /// The transfer's id.
        txid: TxId,
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
    /// One page of accounts, at most [`super::PAGE_ROWS`] of them, in ascending order.
    Accounts(Page<Account>),
    /// One page of transactions, at most [`super::PAGE_ROWS`] of them, newest first.
    Transactions(Page<HistoryLine>),
    /// What the audit found.
    Audit(Box<Audit>),
    /// The known branches, and at most [`super::PAGE_ROWS`] transfers in doubt.
    Branches {
        /// All known branches; empty on every page but the first.
        branches: Vec<Branch>,
        /// In ascending order of their ids.
        in_doubt: Page<Pending>,
    },
    /// A transfer was settled by hand.
    Resolved,
    /// The end of the session is noted.
    LoggedOut,
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
