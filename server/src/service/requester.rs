//! Who asks over the branch protocol: by which connection, from which address, and as whom.
//!
//! A connection begins as a stranger's (or as anyone's, at an open branch) and becomes a customer's by a password or a
//! key holder's by a proof. What it may take of what clients share goes by who it is ([`Requester::owner`]).

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use protocol::AccountNum;
use protocol::actions::{Access, Action};

use super::Service;
use super::access::{self, Caller};
use crate::allowance::Owner;
use crate::bank::hashing::Orderer;
use crate::bank::passwords::PasswordVersion;
use crate::error::{Error, Result};
use crate::lockout::Origin;
use crate::logins::LoggedIn;

/// Whoever asks.
pub struct Requester<'s> {
    /// The branch that is asked.
    pub service: &'s Service,
    address: IpAddr,
    /// The connection's number.
    connection: u64,
    stream: Arc<TcpStream>,
    caller: Caller,
    /// The login of a customer.
    login: Option<LoggedIn>,
}

impl<'s> Requester<'s> {
    /// Whoever is at the other end of the connection with this number, from this address, over this socket.
    #[must_use]
    pub fn new(service: &'s Service, address: IpAddr, connection: u64, stream: Arc<TcpStream>) -> Self {
        let caller = if service.is_open { Caller::Open } else { Caller::Anonymous };
        Self { service, address, connection, stream, caller, login: None }
    }

    /// As whom.
    #[must_use]
    pub const fn caller(&self) -> Caller {
        self.caller
    }

    /// From where.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// To whom a wrong password is counted.
    pub(super) const fn origin(&self) -> Origin {
        Origin::Address(self.address)
    }

    /// Whose its work is. A customer has one share however many connections they open, and strangers one for each
    /// address: connections cost nothing.
    #[must_use]
    pub fn owner(&self) -> Owner {
        match self.caller {
            Caller::Anonymous => Owner::stranger(self.address),
            Caller::Customer(account) => Owner::Account(account.as_i64()),
            // A branch or an operator's program, which may be the bridge with many people behind it: each connection is
            // one.
            Caller::KeyHolder | Caller::Open => Owner::Connection(self.connection),
        }
    }

    /// For whom a password is hashed.
    pub(super) fn orderer(&self) -> Orderer<'_> {
        match self.caller {
            Caller::Customer(account) => Orderer::of_account(account.as_i64(), self.origin(), Some(&self.stream)),
            Caller::Anonymous | Caller::KeyHolder | Caller::Open => {
                Orderer { owner: self.owner(), address: None, connection: Some(&self.stream) }
            }
        }
    }

    /// The key was proved: an operator, or another branch.
    pub fn become_key_holder(&mut self) {
        (self.caller, self.login) = (Caller::KeyHolder, None);
    }

    /// Becomes the customer of this account.
    ///
    /// # Errors
    /// As [`crate::bank::Bank::log_in`].
    pub fn log_in(&mut self, account: AccountNum, password: &str) -> Result<()> {
        let (bank, stream) = (&self.service.bank, Arc::clone(&self.stream));
        // The login first: until the password is right, the caller stays whoever they were.
        let login = bank.open_login(account.as_i64(), password, self.origin(), stream, true)?;
        (self.caller, self.login) = (Caller::Customer(account), Some(login));
        Ok(())
    }

    /// Whether this caller may ask for the action, here and now.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], or [`Error::SessionEnded`].
    pub fn check(&mut self, action: Action) -> Result<()> {
        self.check_login(action)?;
        access::check(self.caller, action)
    }

    /// A customer's login ends with the password that opened it; from then on the caller is a stranger. It is looked at
    /// before each request, so that whoever has changed a password because it was stolen is rid of the thief at once.
    fn check_login(&mut self, action: Action) -> Result<()> {
        let Some(login) = &self.login else { return Ok(()) };
        // What a stranger may do needs no login, and one of it is to log in again.
        if action.access() == Access::Anyone {
            return Ok(());
        }
        let checked = self.service.bank.check_login(login);
        if matches!(checked, Err(Error::SessionEnded(_))) {
            (self.caller, self.login) = (Caller::Anonymous, None);
        }
        checked
    }

    /// Goes on with a password that this connection itself has set: it has just shown that it knows it.
    pub(super) fn renew_login(&self, set: Option<PasswordVersion>) {
        if let (Some(login), Some(set)) = (&self.login, set) {
            self.service.bank.renew_login(login, set);
        }
    }

    /// Runs something that reads much.
    ///
    /// # Errors
    /// As [`Service::read_long`].
    pub fn read_long<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        let asked = Instant::now();
        self.service.read_long(self.owner(), || {
            // Where many wait for their turn, nothing is read for who has gone meanwhile.
            if self.orderer().has_gone(asked) { Err(Error::Busy) } else { read() }
        })
    }
}
