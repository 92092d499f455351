//! Actions on this branch's own ledger: parse, run and answer of each, one after another.
//!
//! An [`Operation`] is a function of an open transaction and of what was read from the request; hashing and
//! the clock come before. It runs alone, in a pipeline's group, or inside a batch, and always with its
//! `request_id`, if it has one, in the same transaction. It is read, then made ready ([`Operation::make_ready`]: a
//! password is hashed, or held against what a first request under the same id has set), then run.

use protocol::answer::{Balance, Closed, Created, LocalTransferred, NewBalance, TransferSide};
use protocol::request::{AccountAmount, Action, CreateAccount, LocalTransfer, OneAccount, RequestFrame, SetPassword};
use protocol::{AccountNum, Money};
use serde::Serialize;
use serde_json::{Value, json};

use super::access::{Caller, check_account};
use super::by_hand;
use crate::bank::Bank;
use crate::bank::accounts::{self, Opening};
use crate::bank::customer::{Aadhaar, NewPassword, PersonName, Phone};
use crate::bank::hashing::Orderer;
use crate::bank::movements::{self, Booking};
use crate::bank::passwords::PasswordVersion;
use crate::bank::suspense::Clearing;
use crate::dbs_exec::{Query, Tx};
use crate::error::{Error, Result};
use crate::idempotency::{RequestKey, Stored};
use crate::lockout::Origin;

/// One action on the ledger.
#[derive(Clone)]
pub struct Operation {
    kind: Kind,
    key: Option<RequestKey>,
    password: Option<Password>,
    meaning: Value,
}

/// The password that an operation sets. Its hash is in the operation once it is ready.
#[derive(Clone)]
struct Password {
    new: NewPassword,
    /// The account's present password, where it has to be given.
    confirmation: Option<String>,
    /// Whether the operation was carried out before, with this very password: only its answer is wanted.
    is_known: bool,
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
    ClearSuspense(Box<Clearing>),
}

impl Kind {
    /// The parameters as they were understood, in one form and without the password; the action's name is not of it.
    fn meaning(&self, has_password: bool) -> Value {
        match self {
            Self::Create(opening) => json!([
                opening.number,
                opening.first_name,
                opening.last_name,
                opening.aadhaar,
                opening.phone,
                opening.sms,
                has_password,
                opening.opening_balance
            ]),
            Self::Close(account) | Self::Balance(account) => json!([account]),
            Self::Deposit(account, amount) | Self::Withdraw(account, amount) => json!([account, amount]),
            Self::Transfer { from, to, amount } => json!([from, to, amount]),
            Self::SetPassword { account, hash: _ } => json!([account]),
            Self::ClearSuspense(clearing) => {
                let Clearing { txid, account, amount, not_booked_by, reason } = &**clearing;
                json!([txid, account, amount, not_booked_by, reason])
            }
        }
    }
}

impl Operation {
    /// Reads the operation that a request asks for: one that may stand in a batch.
    ///
    /// # Errors
    /// What is wrong with the parameters, that the caller may not do this, or that this is no such operation.
    pub fn parse(caller: Caller, action: Action, frame: &RequestFrame<'_>, request_id: Option<&str>) -> Result<Self> {
        let mut password = None;
        let kind = match action {
            Action::CreateAccount => {
                let params: CreateAccount = frame.params()?;
                if let Some(text) = &params.password {
                    let new = text.parse().map_err(invalid)?;
                    password = Some(Password { new, confirmation: None, is_known: false });
                }
                Kind::Create(Box::new(opening(params)?))
            }
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
                let new = params.password.parse().map_err(invalid)?;
                let confirmation = confirmation(caller, &params)?;
                password = Some(Password { new, confirmation, is_known: false });
                Kind::SetPassword { account: params.account_no, hash: String::new() }
            }
            Action::ClearSuspense => Kind::ClearSuspense(Box::new(by_hand::clearing(frame.params()?)?)),
            _ => return Err(Error::Invalid(format!("{action} cannot be part of a batch"))),
        };
        let meaning = kind.meaning(password.is_some());
        let key = match &kind {
            // Looking twice does no harm, and should see what is there now.
            Kind::Balance(_) => None,
            Kind::Create(_)
            | Kind::Close(_)
            | Kind::Deposit(..)
            | Kind::Withdraw(..)
            | Kind::Transfer { .. }
            | Kind::SetPassword { .. }
            | Kind::ClearSuspense(_) => {
                request_id.map(|id| RequestKey::new(caller.id_owner(), id, action, &meaning, frame.params_text()))
            }
        };
        Ok(Self { kind, key, password, meaning })
    }

    /// What it means, in one form, for the meaning of a batch that it is in.
    #[must_use]
    pub fn meaning(&self) -> &Value {
        &self.meaning
    }

    /// Checks the present password and hashes a new one, which takes tens of milliseconds each. Where the request was
    /// carried out before, its password is held against the one that was set then; the present one is another since.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`] for another password under the id, as [`Bank::confirm`], or trouble of the database.
    pub fn make_ready(&mut self, bank: &Bank, origin: Origin, orderer: Orderer<'_>) -> Result<()> {
        let Some(password) = &mut self.password else { return Ok(()) };
        let stored = match &self.key {
            Some(key) => bank.dbs().read(|reader| key.find(reader))?,
            None => None,
        };
        let ready_hash = if let Some(stored) = stored {
            check_passwords(bank, orderer, &stored, &[password.new.as_str()])?;
            password.is_known = true;
            stored.password_hashes.into_iter().next().unwrap_or_default()
        } else {
            if let (Kind::SetPassword { account, .. }, Some(present)) = (&self.kind, &password.confirmation) {
                bank.confirm(account.as_i64(), present, origin)?;
            }
            bank.hash_password(password.new.as_str(), orderer)?
        };
        match &mut self.kind {
            Kind::Create(opening) => opening.password_hash = Some(ready_hash),
            Kind::SetPassword { hash, .. } => *hash = ready_hash,
            Kind::Close(_)
            | Kind::Balance(_)
            | Kind::Deposit(..)
            | Kind::Withdraw(..)
            | Kind::Transfer { .. }
            | Kind::ClearSuspense(_) => {
                unreachable!("these set no password")
            }
        }
        Ok(())
    }

    /// The answer of an earlier request with this id, for an operation that can't be carried out here and now.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`], [`Error::Unconfirmed`], or trouble of the database.
    pub fn answer_before(&self, bank: &Bank, orderer: Orderer<'_>) -> Result<Option<String>> {
        let Some(key) = &self.key else { return Ok(None) };
        let Some(stored) = key.look_up(bank.dbs())? else { return Ok(None) };
        if let Some(password) = self.given_password() {
            check_passwords(bank, orderer, &stored, &[password])?;
        }
        Ok(Some(stored.answer))
    }

    /// The password that it sets, as it came.
    #[must_use]
    pub fn given_password(&self) -> Option<&str> {
        self.password.as_ref().map(|password| password.new.as_str())
    }

    /// The hash of the password that it sets, once that is made.
    #[must_use]
    pub fn password_hash(&self) -> Option<&str> {
        match &self.kind {
            Kind::Create(opening) => opening.password_hash.as_deref(),
            Kind::SetPassword { hash, .. } => Some(hash),
            Kind::Close(_)
            | Kind::Balance(_)
            | Kind::Deposit(..)
            | Kind::Withdraw(..)
            | Kind::Transfer { .. }
            | Kind::ClearSuspense(_) => None,
        }
    }

    /// Which password the operation sets, if it sets one.
    #[must_use]
    pub fn new_password(&self) -> Option<PasswordVersion> {
        match &self.kind {
            Kind::SetPassword { .. } if self.is_known() => None,
            Kind::SetPassword { hash, .. } => Some(PasswordVersion::of(hash)),
            Kind::Create(_)
            | Kind::Close(_)
            | Kind::Balance(_)
            | Kind::Deposit(..)
            | Kind::Withdraw(..)
            | Kind::Transfer { .. }
            | Kind::ClearSuspense(_) => None,
        }
    }

    fn is_known(&self) -> bool {
        self.password.as_ref().is_some_and(|password| password.is_known)
    }

    /// Whether this only looks.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Balance(_))
    }

    /// Carries the operation out, once: a repeat gets the first one's answer. Gives the result as JSON.
    ///
    /// # Errors
    /// The ledger's refusal, [`Error::RequestIdReused`], or [`Error::RequestRepeated`] where a first request under the
    /// id came in between and has set a password: that is looked at outside of a transaction.
    pub fn run(&self, tx: &mut Tx<'_>, booking: &Booking) -> Result<String> {
        let Some(key) = &self.key else { return self.run_once(tx, booking) };
        match key.find(tx)? {
            Some(stored) if self.is_known() || stored.password_hashes.is_empty() => return Ok(stored.answer),
            None if !self.is_known() => {}
            Some(_) | None => return Err(Error::RequestRepeated),
        }
        let answer = self.run_once(tx, booking)?;
        let password_hashes = self.password_hash().map(str::to_string).into_iter().collect();
        key.store(tx, &Stored { password_hashes, ..Stored::answer(answer.clone()) })?;
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
            Kind::ClearSuspense(clearing) => by_hand::clear_suspense(tx, clearing, booking),
            Kind::SetPassword { account, hash } => {
                accounts::find_open(tx, *account)?;
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

/// Whether a repeated request sets the passwords that the first one has set.
///
/// # Errors
/// [`Error::RequestIdReused`] when it does not; as [`Bank::is_hash_of`].
pub fn check_passwords(bank: &Bank, orderer: Orderer<'_>, stored: &Stored, passwords: &[&str]) -> Result<()> {
    if stored.password_hashes.len() != passwords.len() {
        return Err(Error::RequestIdReused);
    }
    for (password, hash) in passwords.iter().zip(&stored.password_hashes) {
        if !bank.is_hash_of(password, hash, orderer)? {
            return Err(Error::RequestIdReused);
        }
    }
    Ok(())
}

/// What an account made over the branch protocol is opened with; its password is hashed later.
fn opening(params: CreateAccount) -> Result<Opening> {
    let name: PersonName = params.name.parse().map_err(invalid)?;
    // The tables have two names; a single word is the first one.
    let (first_name, last_name) = name.as_str().split_once(' ').unwrap_or((name.as_str(), ""));
    let aadhaar = params.aadhar_num.map(|text| text.parse::<Aadhaar>().map_err(invalid)).transpose()?;
    let phone = params.phone_num.map(|text| text.parse::<Phone>().map_err(invalid)).transpose()?;
    Ok(Opening {
        number: params.account_no,
        first_name: first_name.to_string(),
        last_name: last_name.trim_start().to_string(),
        aadhaar: aadhaar.map(|aadhaar| aadhaar.as_str().to_string()),
        phone: phone.map(|phone| phone.as_str().to_string()),
        sms: params.sms.unwrap_or(false),
        password_hash: None,
        opening_balance: params.balance.map_or(Ok(Money::ZERO), protocol::request::Amount::get)?,
    })
}

/// A customer sets the own password by the present one: a session alone is no proof of who sits there.
fn confirmation(caller: Caller, params: &SetPassword) -> Result<Option<String>> {
    match (caller, &params.present_password) {
        (Caller::KeyHolder | Caller::Open, _) => Ok(None),
        (Caller::Customer(_), Some(present)) => Ok(Some(present.clone())),
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
