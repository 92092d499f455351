//! The forms of the menu: which question comes first, which next, and what each answer must be.
//!
//! A [`Question`] holds what has been answered so far, so it can't be asked without it. An answer is
//! checked as soon as it was given, by the parser of the type that it becomes; a refused one ends the
//! operation. What the bank alone can know (whether an account exists, whether there is money enough) is
//! not asked here.

use protocol::menu_line::ServerLine;
use protocol::{AccountNum, Money, TxId};
use two_phase_commit::Outcome;

use super::receiver::Receiver;
use super::request::{LogInAs, NewCustomer, Refusal, Request, TypedPassword};
use crate::bank::customer::{Aadhaar, NewPassword, PersonName, Phone};

/// A question that is being asked, with the answers before it.
#[derive(Debug)]
pub enum Question {
    /// Log in: which account.
    LogInAccount,
    /// Log in: the password.
    LogInPassword {
        /// Who.
        account: LogInAs,
    },
    /// Deposit: how much.
    DepositAmount {
        /// The customer.
        account: AccountNum,
    },
    /// Withdraw: how much.
    WithdrawAmount {
        /// The customer.
        account: AccountNum,
    },
    /// Transfer: to whom.
    TransferReceiver {
        /// The customer.
        account: AccountNum,
    },
    /// Transfer: how much.
    TransferAmount {
        /// The customer.
        account: AccountNum,
        /// To whom.
        to: Receiver,
    },
    /// Change password: the present one.
    PresentPassword {
        /// The customer.
        account: AccountNum,
    },
    /// Change password: the new one.
    NewPassword {
        /// The customer.
        account: AccountNum,
        /// The present password.
        present: TypedPassword,
    },
    /// Change password: the new one once more.
    NewPasswordAgain {
        /// The customer.
        account: AccountNum,
        /// The present password.
        present: TypedPassword,
        /// The new password.
        new: NewPassword,
    },
    /// Open an account: one of its six questions.
    Open(OpenQuestion),
    /// Close an account: which.
    CloseAccount,
    /// Close an account: the administrator's password.
    ClosePassword {
        /// Which account.
        account: AccountNum,
    },
    /// Settle a transfer in doubt: which.
    ResolveTransfer,
    /// Settle a transfer in doubt: how.
    ResolveOutcome {
        /// Which.
        txid: TxId,
    },
    /// Settle a transfer in doubt: why.
    ResolveReason {
        /// Which.
        txid: TxId,
        /// How.
        outcome: Outcome,
    },
}

/// The questions of an account's opening, in their order.
#[derive(Debug)]
pub enum OpenQuestion {
    /// The Aadhaar number.
    Aadhaar,
    /// The phone number.
    Phone(Aadhaar),
    /// The first name.
    FirstName(Aadhaar, Phone),
    /// The last name.
    LastName(Aadhaar, Phone, PersonName),
    /// Whether to send text messages.
    Sms(Aadhaar, Phone, PersonName, PersonName),
    /// The password.
    Password(Aadhaar, Phone, PersonName, PersonName, bool),
}

/// What follows an answer.
#[derive(Debug)]
#[must_use]
pub enum Answer {
    /// The next question of the same form.
    Ask(Question),
    /// The form is complete.
    Dispatch(Request),
}

impl Question {
    /// The line that asks this question. Its text ends in a blank, for the cursor.
    #[must_use]
    pub fn prompt(&self) -> ServerLine {
        let prompt = |text: &str| ServerLine::Prompt(text.to_string());
        let pass = |text: &str| ServerLine::Pass(text.to_string());
        match self {
            Self::LogInAccount | Self::CloseAccount => prompt("Account number: "),
            Self::LogInPassword { .. } => pass("Password: "),
            Self::DepositAmount { .. } | Self::WithdrawAmount { .. } | Self::TransferAmount { .. } => {
                prompt("Amount in Rs: ")
            }
            Self::TransferReceiver { .. } => prompt("Receiver (1002, Delhi/1002 or host:port/1002): "),
            Self::PresentPassword { .. } => pass("Present password: "),
            Self::NewPassword { .. } => pass("New password: "),
            Self::NewPasswordAgain { .. } => pass("New password again: "),
            Self::ClosePassword { .. } => pass("Administrator's password: "),
            Self::ResolveTransfer => prompt("Id of the transfer: "),
            Self::ResolveOutcome { .. } => prompt("Commit it here, or abort it here (commit/abort): "),
            Self::ResolveReason { .. } => prompt("Reason, for the record: "),
            Self::Open(OpenQuestion::Aadhaar) => prompt("Aadhaar number: "),
            Self::Open(OpenQuestion::Phone(..)) => prompt("Phone number: "),
            Self::Open(OpenQuestion::FirstName(..)) => prompt("First name: "),
            Self::Open(OpenQuestion::LastName(..)) => prompt("Last name: "),
            Self::Open(OpenQuestion::Sms(..)) => prompt("SMS for each movement (yes/no): "),
            Self::Open(OpenQuestion::Password(..)) => pass("Password: "),
        }
    }

    /// Takes the answer to this question.
    ///
    /// # Errors
    /// The sentence that says why the answer is refused.
    pub fn answer(self, line: &str) -> Result<Answer, Refusal> {
        Ok(match self {
            Self::LogInAccount => Answer::Ask(Self::LogInPassword { account: parse(line)? }),
            Self::LogInPassword { account } => {
                Answer::Dispatch(Request::LogIn { account, password: typed_password(line)? })
            }
            Self::DepositAmount { account } => Answer::Dispatch(Request::Deposit { account, amount: amount(line)? }),
            Self::WithdrawAmount { account } => Answer::Dispatch(Request::Withdraw { account, amount: amount(line)? }),
            Self::TransferReceiver { account } => Answer::Ask(Self::TransferAmount { account, to: parse(line)? }),
            Self::TransferAmount { account, to } => {
                Answer::Dispatch(Request::Transfer { account, to, amount: amount(line)? })
            }
            Self::PresentPassword { account } => {
                Answer::Ask(Self::NewPassword { account, present: typed_password(line)? })
            }
            Self::NewPassword { account, present } => {
                Answer::Ask(Self::NewPasswordAgain { account, present, new: parse(line)? })
            }
            Self::NewPasswordAgain { account, present, new } => {
                if line != new.as_str() {
                    return Err(Refusal::new("the two new passwords are not the same"));
                }
                Answer::Dispatch(Request::ChangePassword { account, present, new })
            }
            Self::Open(question) => question.answer(line)?,
            Self::CloseAccount => Answer::Ask(Self::ClosePassword { account: parse(line)? }),
            Self::ClosePassword { account } => {
                Answer::Dispatch(Request::CloseAccount { account, administrator_password: typed_password(line)? })
            }
            Self::ResolveTransfer => Answer::Ask(Self::ResolveOutcome { txid: parse(line.trim())? }),
            Self::ResolveOutcome { txid } => Answer::Ask(Self::ResolveReason { txid, outcome: outcome(line)? }),
            Self::ResolveReason { .. } if line.trim().is_empty() => return Err(Refusal::new("a reason is needed")),
            Self::ResolveReason { txid, outcome } => {
                Answer::Dispatch(Request::Resolve { txid, outcome, reason: line.trim().to_string() })
            }
        })
    }
}

impl OpenQuestion {
    fn answer(self, line: &str) -> Result<Answer, Refusal> {
        let next = match self {
            Self::Aadhaar => Self::Phone(parse(line)?),
            Self::Phone(aadhaar) => Self::FirstName(aadhaar, parse(line)?),
            Self::FirstName(aadhaar, phone) => Self::LastName(aadhaar, phone, parse(line)?),
            Self::LastName(aadhaar, phone, first_name) => Self::Sms(aadhaar, phone, first_name, parse(line)?),
            Self::Sms(aadhaar, phone, first_name, last_name) => {
                Self::Password(aadhaar, phone, first_name, last_name, yes_or_no(line)?)
            }
            Self::Password(aadhaar, phone, first_name, last_name, sms) => {
                let password = parse(line)?;
                let customer = NewCustomer { aadhaar, phone, first_name, last_name, sms, password };
                return Ok(Answer::Dispatch(Request::OpenAccount(customer)));
            }
        };
        Ok(Answer::Ask(Question::Open(next)))
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(line: &str) -> Result<T, Refusal> {
    line.parse().map_err(Refusal::new)
}

fn amount(line: &str) -> Result<Money, Refusal> {
    Money::parse_typed_movement(line).map_err(Refusal::new)
}

fn typed_password(line: &str) -> Result<TypedPassword, Refusal> {
    if line.is_empty() {
        return Err(Refusal::new("a password is needed"));
    }
    Ok(TypedPassword::new(line.to_string()))
}

fn outcome(line: &str) -> Result<Outcome, Refusal> {
    match line.trim().to_ascii_lowercase().as_str() {
        "commit" => Ok(Outcome::Committed),
        "abort" => Ok(Outcome::Aborted),
        _ => Err(Refusal::new("please answer commit or abort")),
    }
}

fn yes_or_no(line: &str) -> Result<bool, Refusal> {
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err(Refusal::new("please answer yes or no")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountNum {
        AccountNum::new(1001).unwrap()
    }

    fn fill(mut question: Question, lines: &[&str]) -> Result<Request, Refusal> {
        for line in lines {
            match question.answer(line)? {
                Answer::Ask(next) => question = next,
                Answer::Dispatch(request) => return Ok(request),
            }
        }
        panic!("the form asks on: {question:?}");
    }

    #[test]
    fn passwords_reach_the_bank_as_typed() {
        let Ok(Request::LogIn { password, .. }) = fill(Question::LogInAccount, &["1001", "  pass word "]) else {
            panic!("no log-in");
        };
        assert_eq!(password.as_str(), "  pass word ");
        let lines = ["old", " new one ", " new one "];
        let Ok(Request::ChangePassword { present, new, .. }) =
            fill(Question::PresentPassword { account: account() }, &lines)
        else {
            panic!("no change");
        };
        assert_eq!((present.as_str(), new.as_str()), ("old", " new one "));
    }

    #[test]
    fn an_opening_takes_its_six_answers_in_order() {
        let lines = ["123456789012", "+919876543210", "आशा", "'; DROP TABLE customers; --", "YES", "s3cret"];
        let Ok(Request::OpenAccount(customer)) = fill(Question::Open(OpenQuestion::Aadhaar), &lines) else {
            panic!("no opening");
        };
        assert_eq!(customer.aadhaar.as_str(), lines[0]);
        assert_eq!(customer.phone.as_str(), "9876543210");
        assert_eq!((customer.first_name.as_str(), customer.last_name.as_str()), (lines[2], lines[3]));
        assert!(customer.sms);
        assert_eq!(customer.password.as_str(), lines[5]);
    }

    #[test]
    fn yes_and_no_in_any_case() {
        for (line, expected) in [("y", true), ("Yes", true), ("N", false), ("no", false)] {
            assert_eq!(yes_or_no(line), Ok(expected), "line {line:?}");
        }
        for line in ["", "maybe", "yess", "1"] {
            assert!(yes_or_no(line).is_err(), "line {line:?}");
        }
    }

    #[test]
    fn every_prompt_ends_in_a_blank_and_is_ascii() {
        let mut question = Question::Open(OpenQuestion::Aadhaar);
        for line in ["123456789012", "9876543210", "A", "B", "n", "pass"] {
            let (ServerLine::Prompt(text) | ServerLine::Pass(text)) = question.prompt() else {
                panic!("not a prompt: {question:?}");
            };
            assert!(text.is_ascii() && text.ends_with(": "), "{text:?}");
            match question.answer(line).unwrap() {
                Answer::Ask(next) => question = next,
                Answer::Dispatch(_) => return,
            }
        }
        panic!("the form did not end");
    }
}
