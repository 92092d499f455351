//! Actions on this branch's own ledger: parse, run and answer of each, one after another.
//!
//! An [`Operation`] is a function of an open transaction and of what was read from the request; hashing and
//! the clock come before. It runs alone, in a pipeline's group, or inside a batch, and always with its
//! `request_id`, if it has one, in the same transaction.

use protocol::answer::{Balance, Closed, Created, LocalTransferred, NewBalance, TransferSide};
use protocol::request::{AccountAmount, Action, CreateAccount, LocalTransfer, OneAccount, RequestFrame, SetPassword};
use protocol::{AccountNum, Money};
use serde::Serialize;

use super::access::{Caller, check_account};
use crate::bank::Bank;
use crate::bank::accounts::{self, Opening};
use crate::bank::customer::{Aadhaar, NewPassword, PersonName, Phone};
use crate::bank::movements::{self, Booking};
use crate::bank::passwords::PasswordVersion;
use crate::dbs_exec::{Query, Tx};
use crate::error::{Error, Result};
use crate::idempotency::RequestKey;
use crate::lockout::Origin;

/// One action on the ledger, ready to run.
#[derive(Clone, Debug)]
pub struct Operation {
    kind: Kind,
    key: Option<RequestKey>,
}

#[derive(Clone, Debug)]
enum Kind {
    Create(Box<Opening>),
    Close(AccountNum),
    Balance(AccountNum),
    Deposit(AccountNum, Money),
    Withdraw(AccountNum, Money),
    Transfer { from: AccountNum, to: AccountNum, amount: Money },
    SetPassword { account: AccountNum, hash: String },
}

impl Operation {
    /// Reads the operation that a request asks for; `None` when its action is not one of these.
    ///
    /// A new password is hashed here, which takes tens of milliseconds; a customer's present one is checked here too.
    ///
    /// # Errors
    /// What is wrong with the parameters, or that the caller may not do this.
    pub fn parse(
        bank: &Bank,
        (caller, origin): (Caller, Origin),
        action: Action,
        frame: &RequestFrame<'_>,
        request_id: Option<&str>,
    ) -> Result<Option<Self>> {
        let kind = match action {
            Action::CreateAccount => Kind::Create(Box::new(opening(bank, frame.params()?)?)),
            Action::CloseAccount => Kind::Close(frame.params::<OneAccount>()?.account_no),
            Action::Balance => {
                let account = frame.params::<OneAccount>()?.account_no;
                check_account(caller, account)?;
                Kind::Balance(account)
            }
            Action::Deposit => {
                let params: AccountAmount = frame.params()?;
                check_account(caller, params.account_no)?;
                Kind::Deposit(params.account_no, params.amount.to_move()?)
            }
            Action::Withdraw => {
                let params: AccountAmount = frame.params()?;
                check_account(caller, params.account_no)?;
                Kind::Withdraw(params.account_no, params.amount.to_move()?)
            }
            Action::LocalTransfer => {
                let params: LocalTransfer = frame.params()?;
                check_account(caller, params.src_account_no)?;
                let amount = params.amount.to_move()?;
                Kind::Transfer { from: params.src_account_no, to: params.dest_account_no, amount }
            }
            Action::SetPassword => {
                let params: SetPassword = frame.params()?;
                check_account(caller, params.account_no)?;
                let password: NewPassword = params.password.parse().map_err(invalid)?;
                // A repeat of what was done gets its answer, though the present password is another one since.
                let key = request_id.map(|id| RequestKey::new(caller.id_owner(), id, action, frame.params_text()));
                let is_repeat = match &key {
                    Some(key) => bank.dbs().read(|reader| key.find(reader))?.is_some(),
                    None => false,
                };
                if is_repeat {
                    Kind::SetPassword { account: params.account_no, hash: String::new() }
                } else {
                    confirm_present(bank, (caller, origin), &params)?;
                    Kind::SetPassword { account: params.account_no, hash: bank.hash_password(password.as_str())? }
                }
            }
            Action::Hello
            | Action::Authenticate
            | Action::Login
            | Action::Link
            | Action::ListAccounts
            | Action::InterBranchTransfer
            | Action::SplitTransfer
            | Action::PrepareWithdraw
            | Action::PrepareDeposit
            | Action::CommitWithdraw
            | Action::CommitDeposit
            | Action::AbortWithdraw
            | Action::AbortDeposit
            | Action::TxStatus
            | Action::ListPending
            | Action::Resolve
            | Action::History
            | Action::GetLogs
            | Action::Batch
            | Action::Status
            | Action::Audit
            | Action::Branches
            | Action::Watch
            | Action::CheckPassword
            | Action::PasswordVersions
            | Action::Replicate
            | Action::Follow
            | Action::Promote
            | Action::Demote
            | Action::Resync
            | Action::Stage
            | Action::StepMode
            | Action::Step
            | Action::PassTime
            | Action::Fault
            | Action::Crash => return Ok(None),
        };
        let key = match &kind {
            // Looking twice does no harm, and should see what is there now.
            Kind::Balance(_) => None,
            Kind::Create(_)
            | Kind::Close(_)
            | Kind::Deposit(..)
            | Kind::Withdraw(..)
            | Kind::Transfer { .. }
            | Kind::SetPassword { .. } => {
                request_id.map(|id| RequestKey::new(caller.id_owner(), id, action, frame.params_text()))
            }
        };
        Ok(Some(Self { kind, key }))
    }

    /// Which password the operation sets, if it sets one.
    #[must_use]
    pub fn new_password(&self) -> Option<PasswordVersion> {
        match &self.kind {
            Kind::SetPassword { hash, .. } => Some(PasswordVersion::of(hash)),
            Kind::Create(_)
            | Kind::Close(_)
            | Kind::Balance(_)
            | Kind::Deposit(..)
            | Kind::Withdraw(..)
            | Kind::Transfer { .. } => None,
        }
    }

    /// Whether this only looks.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Balance(_))
    }

    /// Carries the operation out, once: a repeat gets the first one's answer. Gives the result as JSON.
    ///
    /// # Errors
    /// The ledger's refusal, or [`Error::RequestIdReused`].
    pub fn run(&self, tx: &mut Tx<'_>, booking: &Booking) -> Result<String> {
        let Some(key) = &self.key else { return self.run_once(tx, booking) };
        if let Some(stored) = key.find(tx)? {
            return Ok(stored.answer);
        }
        let answer = self.run_once(tx, booking)?;
        key.store(tx, &answer, None, booking.date_unix_ms)?;
        Ok(answer)
    }

    fn run_once(&self, tx: &mut Tx<'_>, booking: &Booking) -> Result<String> {
        match &self.kind {
            Kind::Create(opening) => {
                accounts::open(tx, opening, booking).map(|account_no| to_json(&Created { account_no }))
            }
            Kind::Close(account_no) => {
                let paid_out = accounts::close(tx, *account_no, booking)?;
                Ok(to_json(&Closed { account_no: *account_no, paid_out }))
            }
            Kind::Balance(_) => self.look(tx),
            Kind::Deposit(account, amount) => {
                movements::deposit(tx, *account, *amount, booking).map(|balance| to_json(&NewBalance { balance }))
            }
            Kind::Withdraw(account, amount) => {
                movements::withdraw(tx, *account, *amount, booking).map(|balance| to_json(&NewBalance { balance }))
            }
            Kind::Transfer { from, to, amount } => {
                let after = movements::transfer(tx, *from, *to, *amount, booking)?;
                Ok(to_json(&LocalTransferred {
                    from: TransferSide { account: *from, balance: after.from_balance },
                    to: TransferSide { account: *to, balance: after.to_balance },
                    amount: *amount,
                }))
            }
            Kind::SetPassword { account, hash } => {
                accounts::find_open(tx, *account)?;
                if hash.is_empty() {
                    // The answer that was found when the request was read has been pruned since.
                    return Err(Error::RequestRepeated);
                }
                accounts::set_password_hash(tx, account.as_i64(), hash)?;
                Ok("true".into())
            }
        }
    }

    /// Carries out an operation that only looks.
    ///
    /// # Errors
    /// [`Error::NoSuchAccount`], [`Error::AccountClosed`].
    ///
    /// # Panics
    /// When the operation writes: the caller's mistake.
    pub fn look(&self, query: &impl Query) -> Result<String> {
        let Kind::Balance(number) = self.kind else { unreachable!("only a balance is looked at") };
        let account = accounts::find_open(query, number)?;
        Ok(to_json(&Balance { balance: account.balance, available: account.available(), name: account.name() }))
    }
}

/// What an account made over the branch protocol is opened with.
fn opening(bank: &Bank, params: CreateAccount) -> Result<Opening> {
    let name: PersonName = params.name.parse().map_err(invalid)?;
    // The tables have two names; a single word is the first one.
    let (first_name, last_name) = name.as_str().split_once(' ').unwrap_or((name.as_str(), ""));
    let aadhaar = params.aadhar_num.map(|text| text.parse::<Aadhaar>().map_err(invalid)).transpose()?;
    let phone = params.phone_num.map(|text| text.parse::<Phone>().map_err(invalid)).transpose()?;
    let password = params.password.map(|text| text.parse::<NewPassword>().map_err(invalid)).transpose()?;
    Ok(Opening {
        number: params.account_no,
        first_name: first_name.to_string(),
        last_name: last_name.trim_start().to_string(),
        aadhaar: aadhaar.map(|aadhaar| aadhaar.as_str().to_string()),
        phone: phone.map(|phone| phone.as_str().to_string()),
        sms: params.sms.unwrap_or(false),
        password_hash: password.map(|password| bank.hash_password(password.as_str())).transpose()?,
        opening_balance: params.balance.map_or(Ok(Money::ZERO), protocol::request::Amount::get)?,
    })
}

/// A customer sets the own password by the present one: a session alone is no proof of who sits there.
fn confirm_present(bank: &Bank, (caller, origin): (Caller, Origin), params: &SetPassword) -> Result<()> {
    match (caller, &params.present_password) {
        (Caller::KeyHolder | Caller::Open, _) => Ok(()),
        (Caller::Customer(account), Some(present)) => bank.confirm(account.as_i64(), present, origin),
        (Caller::Customer(_) | Caller::Anonymous, _) => {
            Err(Error::Invalid("give the present password too, as present_password".into()))
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::Invalid(error.to_string())
}

/// A result as JSON.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a result is always JSON")
}
