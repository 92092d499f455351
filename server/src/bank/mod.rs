//! The bank's operations: what a branch does for its customers and its administrator.
//!
//! The rules are functions on an open transaction, one file for each family: [`accounts`], [`movements`],
//! [`history`]. [`Bank`] is the handle that sessions hold: each of its methods reads the clock
//! and hashes passwords *outside* the transaction, then hands one operation to `dbs_exec` and returns when
//! it is on disk.

pub mod account_state;
pub mod accounts;
pub mod customer;
pub mod hashing;
pub mod history;
pub mod movements;
mod name_characters;
pub mod outbox;
pub mod passwords;
pub mod suspense;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use protocol::{AccountNum, BranchName, Money};

use crate::allowance::Owner;
use crate::clock::unix_ms_now;
use crate::dbs_exec::{DbsExec, Query, Tx, params};
use crate::error::{Error, Result};
use crate::lockout::{Lockout, Origin};
use crate::logins::{LoggedIn, Logins};
use crate::sms::Notifier;
use accounts::{Account, Opening};
use hashing::Orderer;
use movements::Booking;
use passwords::{HashCost, Hasher, PasswordVersion};

/// The administrator's number in `auth`; no account has it.
pub const ADMINISTRATOR: i64 = 0;
/// The administrator's first password; it works only while every listener is on loopback.
pub const DEFAULT_ADMINISTRATOR_PASSWORD: &str = "root";
/// The number of the first account that a branch opens by itself.
pub const FIRST_ACCOUNT_NUM: i64 = 1001;

/// The sample accounts of `--preload`: number, first name, last name. The password is the number.
pub const SAMPLE_ACCOUNTS: [(u64, &str, &str); 2] = [(1001, "Asha", "Rao"), (1002, "Vikram", "Shah")];
/// What each sample account starts with.
pub const SAMPLE_BALANCE: Money = Money::from_rupees(1000);

/// What a branch is told at its start.
#[derive(Clone, Debug)]
pub struct BankSettings {
    /// The branch's name.
    pub name: BranchName,
    /// What an account opened at the menu is credited.
    pub opening_balance: Money,
    /// What the hash of a new password costs.
    pub hash_cost: HashCost,
}

/// A branch's operations. Cheap to share: sessions hold it in an `Arc`.
pub struct Bank {
    dbs: Arc<DbsExec>,
    hasher: Hasher,
    lockout: Lockout,
    logins: Arc<Logins>,
    settings: BankSettings,
    /// Rung after each movement, when the branch sends text messages.
    sms: Option<Notifier>,
}

impl Bank {
    /// Takes a branch into service: writes its name at the first start and makes the administrator.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the database is of a branch with another name, or as [`DbsExec::execute`].
    pub fn open(dbs: Arc<DbsExec>, settings: BankSettings, sms: Option<Notifier>) -> Result<Self> {
        let bank = Self::new(dbs, settings, sms)?;
        let (name, now_unix_ms) = (bank.settings.name.to_string(), unix_ms_now());
        let has_administrator = bank.dbs.read(|reader| accounts::password_hash(reader, ADMINISTRATOR))?.is_some();
        let default_hash = match has_administrator {
            true => None,
            false => Some(bank.hasher.hash(DEFAULT_ADMINISTRATOR_PASSWORD, Orderer::BRANCH)?),
        };
        bank.dbs.execute(move |tx| {
            let stored = tx.query_opt("SELECT name FROM branch", params![], |row| row.get::<_, String>(0))?;
            match stored {
                None => {
                    tx.execute(
                        "INSERT INTO branch (id, name, created_unix_ms, next_account_num) VALUES (1, ?1, ?2, ?3)",
                        params![name, now_unix_ms, FIRST_ACCOUNT_NUM],
                    )?;
                }
                Some(stored) if stored == name => {}
                Some(stored) => {
                    return Err(Error::Invalid(format!(
                        "this database belongs to the branch {stored}, not {name}: start it with --name {stored} and --db naming this file, or name another database with --db"
                    )));
                }
            }
            if let Some(hash) = &default_hash {
                accounts::set_password_hash(tx, ADMINISTRATOR, hash)?;
            }
            Ok(())
        })?;
        Ok(bank)
    }

    /// The operations over a copy of a branch that is not written: nothing is made.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the database is of a branch with another name, or failure of the database.
    pub fn attach(dbs: Arc<DbsExec>, settings: BankSettings) -> Result<Self> {
        match Self::stored_name(&dbs)? {
            Some(stored) if stored != settings.name => Err(Error::Invalid(format!(
                "this database belongs to the branch {stored}, not {}: name another one with --db",
                settings.name
            ))),
            Some(_) | None => Self::new(dbs, settings, None),
        }
    }

    fn new(dbs: Arc<DbsExec>, settings: BankSettings, sms: Option<Notifier>) -> Result<Self> {
        let (hasher, lockout, logins) = (Hasher::new(settings.hash_cost)?, Lockout::default(), Arc::default());
        Ok(Self { dbs, hasher, lockout, logins, settings, sms })
    }

    /// The name of the branch whose database this is; `None` before its first start.
    ///
    /// # Errors
    /// [`Error::Database`] when SQLite fails.
    pub fn stored_name(dbs: &DbsExec) -> Result<Option<BranchName>> {
        dbs.read(|reader| Self::name_in(reader))
    }

    /// As [`Bank::stored_name`], for whoever looks into the database already.
    ///
    /// # Errors
    /// [`Error::Database`] when SQLite fails.
    pub fn name_in(query: &impl Query) -> Result<Option<BranchName>> {
        let name = query.query_opt("SELECT name FROM branch", params![], |row| row.get::<_, String>(0))?;
        Ok(name.and_then(|name| name.parse().ok()))
    }

    /// The branch's name.
    #[must_use]
    pub fn name(&self) -> &BranchName {
        &self.settings.name
    }

    /// What an account opened at the menu is credited.
    #[must_use]
    pub fn opening_balance(&self) -> Money {
        self.settings.opening_balance
    }

    /// Checks a password; `account_num` 0 is the administrator. Returns which one it is.
    ///
    /// # Errors
    /// [`Error::WrongLogin`] for an unknown or closed account and for a wrong password, at the same cost;
    /// [`Error::LockedOut`] after too many of them.
    pub fn log_in(&self, account_num: i64, password: &str, origin: Origin) -> Result<PasswordVersion> {
        self.try_password(account_num, password, origin, None)?.ok_or(Error::WrongLogin)
    }

    /// Checks a password and opens a session over this connection. Whether its end also ends the checking is the
    /// caller's to say: a menu's client may send all its lines ahead and close its side.
    ///
    /// # Errors
    /// As [`Bank::log_in`].
    pub fn open_login(
        &self,
        account_num: i64,
        password: &str,
        origin: Origin,
        stream: Arc<TcpStream>,
        is_watched: bool,
    ) -> Result<LoggedIn> {
        // Counted before the look at the password: a change that falls between the two is looked at again.
        let seen = self.dbs.logins_written();
        let version = self
            .try_password(account_num, password, origin, is_watched.then_some(&*stream))?
            .ok_or(Error::WrongLogin)?;
        Ok(self.logins.enter(account_num, version, seen, stream))
    }

    /// Whether a session goes on: its account still has the password that opened it.
    ///
    /// # Errors
    /// [`Error::SessionEnded`]; [`Error::AccountClosed`] when the account has no login any more.
    pub fn check_login(&self, session: &LoggedIn) -> Result<()> {
        if session.is_displaced() {
            return Err(Error::SessionEnded("this account has logged in elsewhere too often; log in again"));
        }
        let logins_written = self.dbs.logins_written();
        if session.has_seen(logins_written) {
            return Ok(());
        }
        let account_num = session.account_num();
        let present = self.dbs.read(|reader| accounts::password_version(reader, account_num))?;
        let ended = Error::SessionEnded("the password was changed; log in again");
        match (present, accounts::account_num(account_num)) {
            (Some(present), _) if session.compare(present, logins_written) => Ok(()),
            (None, Some(account)) => Err(Error::AccountClosed(account)),
            (Some(_), _) | (None, None) => Err(ended),
        }
    }

    /// Goes on with a session that has set this password itself, if it is the account's.
    pub fn renew_login(&self, session: &LoggedIn, set: PasswordVersion) {
        // A password that could not be stored, or was replaced meanwhile, is not the account's: then the next request
        // finds out.
        match self.dbs.read(|reader| accounts::password_version(reader, session.account_num())) {
            Ok(Some(present)) if present == set => session.renew(set),
            Ok(_) => {}
            Err(error) => log::warn!("account {}: {error}", session.account_num()),
        }
    }

    /// Checks a password that confirms an operation; `account_num` 0 is the administrator.
    ///
    /// # Errors
    /// [`Error::WrongPassword`]; [`Error::LockedOut`] after too many of them.
    pub fn confirm(&self, account_num: i64, password: &str, origin: Origin) -> Result<()> {
        self.try_password(account_num, password, origin, None)?.map(drop).ok_or(Error::WrongPassword)
    }

    /// One try at a password, counted when it is wrong. Returns which one it is when it is right.
    fn try_password(
        &self,
        account_num: i64,
        password: &str,
        origin: Origin,
        connection: Option<&TcpStream>,
    ) -> Result<Option<PasswordVersion>> {
        if let Some(wait) = self.lockout.wait(account_num, origin, Instant::now()) {
            return Err(Error::LockedOut(wait));
        }
        let orderer = Orderer::of_account(account_num, origin, connection);
        let right = self.compare_password(account_num, password, orderer)?;
        self.lockout.settle(account_num, origin, right.is_some(), Instant::now()).map_err(Error::LockedOut)?;
        Ok(right)
    }

    /// Whether this is the password of that account, or of the administrator for 0, and which one. Not for clients: it
    /// counts nothing.
    fn compare_password(
        &self,
        account_num: i64,
        password: &str,
        orderer: Orderer<'_>,
    ) -> Result<Option<PasswordVersion>> {
        let stored = self.dbs.read(|reader| accounts::password_hash(reader, account_num))?;
        let is_right = self.hasher.verify(password, stored.as_deref(), orderer)?;
        Ok(stored.filter(|_| is_right).map(|hash| PasswordVersion::of(&hash)))
    }

    /// Sets the password of an open account, or of the administrator for 0. Returns which one it is.
    ///
    /// # Errors
    /// [`Error::NoSuchAccount`], [`Error::AccountClosed`].
    pub fn set_password(&self, account_num: i64, password: &str, orderer: Orderer<'_>) -> Result<PasswordVersion> {
        let hash = self.hasher.hash(password, orderer)?;
        let version = PasswordVersion::of(&hash);
        self.dbs.execute(move |tx| {
            if account_num != ADMINISTRATOR {
                let number = accounts::account_num(account_num);
                let number = number.ok_or_else(|| Error::Invalid(protocol::ids::IdError::AccountNum.to_string()))?;
                accounts::find_open(tx, number)?;
            }
            accounts::set_password_hash(tx, account_num, &hash)
        })?;
        Ok(version)
    }

    /// Changes a customer's password, who has to know the present one. Returns which one it is then.
    ///
    /// # Errors
    /// As [`Bank::confirm`] or [`Bank::set_password`].
    pub fn change_password(
        &self,
        number: AccountNum,
        present: &str,
        new: &str,
        origin: Origin,
    ) -> Result<PasswordVersion> {
        self.confirm(number.as_i64(), present, origin)?;
        self.set_password(number.as_i64(), new, Orderer::of_account(number.as_i64(), origin, None))
    }

    /// The hash of a new account's password.
    ///
    /// # Errors
    /// As [`Hasher::hash`].
    pub fn hash_password(&self, password: &str, orderer: Orderer<'_>) -> Result<String> {
        self.hasher.hash(password, orderer)
    }

    /// Whether `hash` was made of this password. Not for log-ins: it counts no wrong ones.
    ///
    /// # Errors
    /// As [`Hasher::verify`].
    pub fn is_hash_of(&self, password: &str, hash: &str, orderer: Orderer<'_>) -> Result<bool> {
        self.hasher.verify(password, Some(hash), orderer)
    }

    /// An open account.
    ///
    /// # Errors
    /// As [`accounts::find_open`].
    pub fn account(&self, number: AccountNum) -> Result<Account> {
        self.dbs.read(|reader| accounts::find_open(reader, number))
    }

    /// The branch's database.
    #[must_use]
    pub fn dbs(&self) -> &Arc<DbsExec> {
        &self.dbs
    }

    /// What a movement booked now needs to know.
    #[must_use]
    pub fn booking(&self) -> Booking {
        Booking { date_unix_ms: unix_ms_now(), sms: self.sms.is_some() }
    }

    /// Tells the sender of text messages, if there is one, that there may be some.
    pub fn moved(&self) {
        if let Some(sms) = &self.sms {
            sms.notify();
        }
    }

    /// Makes the sample accounts, if the branch has no account yet. Returns their numbers, which are also
    /// their passwords.
    ///
    /// # Errors
    /// As [`accounts::open`].
    pub fn preload(&self) -> Result<Vec<AccountNum>> {
        let is_empty = self
            .dbs
            .read(|reader| Ok(reader.query_opt("SELECT 1 FROM accounts LIMIT 1", params![], |_| Ok(()))?.is_none()))?;
        if !is_empty {
            return Ok(Vec::new());
        }
        let mut openings = Vec::new();
        for (number, first_name, last_name) in SAMPLE_ACCOUNTS {
            openings.push(Opening {
                number: AccountNum::new(number),
                first_name: first_name.into(),
                last_name: last_name.into(),
                aadhaar: None,
                phone: None,
                sms: false,
                password_hash: Some(self.hasher.hash(&number.to_string(), Orderer::BRANCH)?),
                opening_balance: SAMPLE_BALANCE,
            });
        }
        self.book(Owner::Branch, move |tx, booking| {
            openings.iter().map(|opening| accounts::open(tx, opening, booking)).collect()
        })
    }

    /// Who still has a password that this program made and everyone knows: 0 for the administrator.
    ///
    /// # Errors
    /// [`Error::Database`] when SQLite fails.
    pub fn default_passwords(&self) -> Result<Vec<i64>> {
        let mut found = Vec::new();
        if self.compare_password(ADMINISTRATOR, DEFAULT_ADMINISTRATOR_PASSWORD, Orderer::BRANCH)?.is_some() {
            found.push(ADMINISTRATOR);
        }
        for (number, _, _) in SAMPLE_ACCOUNTS {
            if self.compare_password(number.cast_signed(), &number.to_string(), Orderer::BRANCH)?.is_some() {
                found.push(number.cast_signed());
            }
        }
        Ok(found)
    }

    /// Executes a movement: reads the clock here, outside, and rings the sender of text messages after it.
    fn book<T, F>(&self, owner: Owner, mut operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>, &Booking) -> Result<T> + Send + 'static,
    {
        let booking = self.booking();
        let result = self.dbs.execute_whole(owner, 1, move |tx| operation(tx, &booking));
        if result.is_ok() {
            self.moved();
        }
        result
    }
}

#[cfg(test)]
mod tests;
