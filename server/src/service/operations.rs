//! Actions on this branch's own ledger.
//!
//! An [`Operation`] is a function of an open transaction and of what was asked for; hashing and the clock come before.
//! It runs alone, in a pipeline's group, or inside a batch, and always with its `request_id`, if it has one, in the same
//! transaction. It is made, then made ready ([`Operation::make_ready`]: a password is hashed, or held against what a
//! first request under the same id has set), then run.

use protocol::actions::Action;
use protocol::answer::{Balance, Closed, Created, LocalTransferred, NewBalance, SuspenseCleared, TransferSide};
use protocol::{AccountNum, Money};
use serde::Serialize;

use super::access::Caller;
use super::{Service, by_hand};
use crate::allowance::Owner;
use crate::bank::Bank;
use crate::bank::accounts::{self, Opening};
use crate::bank::customer::NewPassword;
use crate::bank::hashing::Orderer;
use crate::bank::movements::{self, Booking};
use crate::bank::passwords::PasswordVersion;
use crate::bank::suspense::Clearing;
use crate::dbs_exec::{Query, Tx};
use crate::error::{Error, Result};
use crate::idempotency::{KeptAnswer, Meaning, RequestKey, Stored};
use crate::lockout::Origin;

/// One action on the ledger.
#[derive(Clone)]
pub struct Operation {
    kind: OperationKind,
    key: Option<RequestKey>,
    password: Option<Password>,
}

/// What it does.
#[derive(Clone, Debug)]
pub enum OperationKind {
    /// Opens an account. A password that is still to be hashed is given apart.
    Create(Box<Opening>),
    /// Closes one.
    Close(AccountNum),
    /// Looks at one.
    Balance(AccountNum),
    /// Takes cash in.
    Deposit(AccountNum, Money),
    /// Pays cash out.
    Withdraw(AccountNum, Money),
    /// Moves money between two accounts of this branch.
    Transfer {
        /// Who pays.
        from: AccountNum,
        /// Who is paid.
        to: AccountNum,
        /// How much.
        amount: Money,
    },
    /// Sets an account's password, which is given apart.
    SetPassword(AccountNum),
    /// Moves a difference out of suspense.
    ClearSuspense(Box<Clearing>),
}

/// A password that an operation sets.
#[derive(Clone)]
pub struct Password {
    new: NewPassword,
    /// The account's present password, where it has to be given.
    confirmation: Option<String>,
    /// What is stored of it, once the operation is ready.
    hash: Option<String>,
    /// Whether the operation was carried out before, with this very password: only its answer is wanted.
    is_known: bool,
}

/// What an operation has done or found.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum OperationResult {
    /// An account was opened.
    Created(Created),
    /// One was closed.
    Closed(Closed),
    /// What an account holds.
    Balance(Balance),
    /// Cash came in or went out.
    NewBalance(NewBalance),
    /// Money was moved.
    Transferred(LocalTransferred),
    /// A password was set; always true.
    PasswordSet(bool),
    /// A difference was moved out of suspense.
    SuspenseCleared(SuspenseCleared),
}

/// What a request for an operation is answered with.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum OperationAnswer {
    /// The result.
    Result(OperationResult),
    /// The result of a request with an id, as it is kept: the first one gets what each repeat will get.
    Kept(KeptAnswer),
}

impl Password {
    /// A password to be set. With `confirmation`, only if that is the account's present one.
    #[must_use]
    pub const fn new(new: NewPassword, confirmation: Option<String>) -> Self {
        Self { new, confirmation, hash: None, is_known: false }
    }
}

impl OperationKind {
    /// The parameters as they were understood, without the password. The action's name is not of them.
    fn meaning(&self, has_password: bool) -> Meaning {
        match self {
            // Field by field: the password's hash, which an opening has too, is another one each time.
            Self::Create(opening) => Meaning::of(&(
                opening.number,
                &opening.first_name,
                &opening.last_name,
                &opening.aadhaar,
                &opening.phone,
                opening.sms,
                has_password,
                opening.opening_balance,
            )),
            Self::Close(account) | Self::Balance(account) | Self::SetPassword(account) => Meaning::of(&[account]),
            Self::Deposit(account, amount) | Self::Withdraw(account, amount) => Meaning::of(&(account, amount)),
            Self::Transfer { from, to, amount } => Meaning::of(&(from, to, amount)),
            Self::ClearSuspense(clearing) => {
                let Clearing { txid, account, amount, not_booked_by, reason } = &**clearing;
                Meaning::of(&(txid, account, amount, not_booked_by, reason))
            }
        }
    }
}

impl Operation {
    /// An operation that may not be repeated.
    #[must_use]
    pub const fn new(kind: OperationKind, password: Option<Password>) -> Self {
        Self { kind, key: None, password }
    }

    /// The same under an id of this caller's; `params_text` is what came. One that only looks has no use for an id:
    /// looking twice does no harm, and should see what is there now.
    #[must_use]
    pub fn with_id(mut self, caller: Caller, id: &str, action: Action, params_text: &str) -> Self {
        if !self.is_read() {
            self.key = Some(RequestKey::new(caller.id_owner(), id, action, &self.meaning(), params_text));
        }
        self
    }

    /// What it means, for its own fingerprint and for that of a batch that it is in.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        self.kind.meaning(self.password.is_some())
    }

    /// Checks the present password and hashes a new one, which takes tens of milliseconds each and so comes before the
    /// transaction. Where the request was carried out before, its password is held against the one that was set then:
    /// the present one is another since.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`] for another password under the id, as [`Bank::confirm`], or failure of the database.
    pub fn make_ready(&mut self, bank: &Bank, origin: Origin, orderer: Orderer<'_>) -> Result<()> {
        let Some(password) = &mut self.password else { return Ok(()) };
        let stored = match &self.key {
            Some(key) => bank.dbs().read(|reader| key.find(reader))?,
            None => None,
        };
        if let Some(stored) = stored {
            check_passwords(bank, orderer, &stored, &[password.new.as_str()])?;
            password.is_known = true;
            password.hash = stored.password_hashes.into_iter().next();
            return Ok(());
        }
        if let (OperationKind::SetPassword(account), Some(present)) = (&self.kind, &password.confirmation) {
            // Before the new one is hashed: a guess costs one hash, and is counted.
            bank.confirm(account.as_i64(), present, origin)?;
        }
        password.hash = Some(bank.hash_password(password.new.as_str(), orderer)?);
        Ok(())
    }

    /// The answer of an earlier request with this id, for an operation that can't be carried out here and now.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`], [`Error::Unconfirmed`], or failure of the database.
    pub fn answer_before(&self, bank: &Bank, orderer: Orderer<'_>) -> Result<Option<OperationAnswer>> {
        let Some(key) = &self.key else { return Ok(None) };
        let Some(stored) = key.look_up(bank.dbs())? else { return Ok(None) };
        if let Some(password) = self.given_password() {
            check_passwords(bank, orderer, &stored, &[password])?;
        }
        Ok(Some(OperationAnswer::Kept(stored.answer)))
    }

    /// The password that it sets, as it came.
    #[must_use]
    pub fn given_password(&self) -> Option<&str> {
        self.password.as_ref().map(|password| password.new.as_str())
    }

    /// The hash of the password that it sets, once that is made.
    #[must_use]
    pub fn password_hash(&self) -> Option<&str> {
        self.password.as_ref().and_then(|password| password.hash.as_deref())
    }

    /// Which password of an account that is there already the operation sets, if it sets one.
    #[must_use]
    pub fn new_password(&self) -> Option<PasswordVersion> {
        let sets = matches!(self.kind, OperationKind::SetPassword(_)) && !self.is_known();
        self.password_hash().filter(|_| sets).map(PasswordVersion::of)
    }

    fn is_known(&self) -> bool {
        self.password.as_ref().is_some_and(|password| password.is_known)
    }

    /// Whether this only looks.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self.kind, OperationKind::Balance(_))
    }

    /// Carries the operation out, once: a repeat gets the first one's answer.
    ///
    /// # Errors
    /// The ledger's refusal, [`Error::RequestIdReused`], or [`Error::RequestRepeated`] where a first request under the
    /// id came in between and has set a password: that is looked at outside of a transaction.
    pub fn run(&self, tx: &mut Tx<'_>, booking: &Booking) -> Result<OperationAnswer> {
        let Some(key) = &self.key else { return self.run_once(tx, booking).map(OperationAnswer::Result) };
        match key.find(tx)? {
            // Done before, and no password is left to compare.
            Some(stored) if self.is_known() || stored.password_hashes.is_empty() => {
                return Ok(OperationAnswer::Kept(stored.answer));
            }
            // The ordinary case: nobody has used the id.
            None if !self.is_known() => {}
            // Either the first one came in between, or its answer has been forgotten since.
            Some(_) | None => return Err(Error::RequestRepeated),
        }
        // A refusal is not kept: nothing was changed, so a repeat may find that it can be done now.
        let answer = KeptAnswer::of(&self.run_once(tx, booking)?);
        let password_hashes = self.password_hash().map(str::to_string).into_iter().collect();
        key.store(tx, &Stored { password_hashes, ..Stored::answer(answer.clone()) })?;
        Ok(OperationAnswer::Kept(answer))
    }

    fn run_once(&self, tx: &mut Tx<'_>, booking: &Booking) -> Result<OperationResult> {
        Ok(match &self.kind {
            OperationKind::Create(opening) => {
                let mut opening = Opening::clone(opening);
                if let Some(hash) = self.password_hash() {
                    opening.password_hash = Some(hash.to_string());
                }
                OperationResult::Created(Created { account_no: accounts::open(tx, &opening, booking)? })
            }
            OperationKind::Close(account_no) => {
                let paid_out = accounts::close(tx, *account_no, booking)?;
                OperationResult::Closed(Closed { account_no: *account_no, paid_out })
            }
            OperationKind::Balance(_) => self.look(tx)?,
            OperationKind::Deposit(account, amount) => {
                OperationResult::NewBalance(NewBalance { balance: movements::deposit(tx, *account, *amount, booking)? })
            }
            OperationKind::Withdraw(account, amount) => OperationResult::NewBalance(NewBalance {
                balance: movements::withdraw(tx, *account, *amount, booking)?,
            }),
            OperationKind::Transfer { from, to, amount } => {
                let after = movements::transfer(tx, *from, *to, *amount, booking)?;
                OperationResult::Transferred(LocalTransferred {
                    from: TransferSide { account: *from, balance: after.from_balance },
                    to: TransferSide { account: *to, balance: after.to_balance },
                    amount: *amount,
                })
            }
            OperationKind::ClearSuspense(clearing) => {
                OperationResult::SuspenseCleared(by_hand::clear_suspense(tx, clearing, booking)?)
            }
            OperationKind::SetPassword(account) => {
                // A login without an account would be a finding of the audit.
                accounts::find_open(tx, *account)?;
                let hash = self.password_hash().expect("an operation is made ready before it is run");
                accounts::set_password_hash(tx, account.as_i64(), hash)?;
                OperationResult::PasswordSet(true)
            }
        })
    }

    /// Carries out an operation that only looks.
    ///
    /// # Errors
    /// [`Error::NoSuchAccount`], [`Error::AccountClosed`].
    ///
    /// # Panics
    /// When the operation writes: the caller's mistake.
    pub fn look(&self, query: &impl Query) -> Result<OperationResult> {
        let OperationKind::Balance(number) = self.kind else { unreachable!("only a balance is looked at") };
        let account = accounts::find_open(query, number)?;
        let (balance, available, name) = (account.balance, account.available(), account.name());
        Ok(OperationResult::Balance(Balance { balance, available, name }))
    }
}

impl Service {
    /// Carries out one operation by itself, as the menu asks for it: there nothing is repeated by a program, so it has no
    /// id, and a password is hashed before.
    ///
    /// # Errors
    /// The ledger's refusal.
    pub fn operate(&self, owner: Owner, kind: OperationKind) -> Result<OperationResult> {
        let (operation, booking) = (Operation::new(kind, None), self.bank.booking());
        let result = self.bank.dbs().execute_whole(owner, 1, move |tx| operation.run_once(tx, &booking));
        if result.is_ok() {
            self.bank.moved();
        }
        result
    }
}

/// Whether a repeated request sets the passwords that the first one has set.
///
/// # Errors
/// [`Error::RequestIdReused`] when it does not; as [`Bank::is_hash_of`].
pub fn check_passwords(bank: &Bank, orderer: Orderer<'_>, stored: &Stored, passwords: &[&str]) -> Result<()> {
    // The same id with and without a password are two requests.
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
