//! The passwords of people who sign in: whether one was right a moment ago, whose turn it is, and how many were wrong.
//!
//! Passwords are the branch's to judge. A right one is remembered for a minute by a keyed hash, so that a script does
//! not pay for Argon2id at each call; a wrong one never is. The branch slows guesses at an account down, and this
//! module those at many accounts from one address, which the branch does not see. Each account has its turn: however
//! often one signs in, it has one password at the branch at a time, so that nobody else waits behind it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use protocol::BranchName;
use protocol::network::network_of;
use sha2::Sha256;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use crate::error::Error;
use crate::limits::{
    LOGIN_CACHE, LOGIN_CACHE_TIME, LOGIN_COUNTERS, LOGIN_FAILURES_PER_ADDRESS, LOGIN_WINDOW, QUOTA_TIME,
};
use crate::logins::Login;

/// Whose password: the branch and the account's number, 0 for the administrator.
type Account = (BranchName, u64);

/// What is known of passwords.
pub struct Passwords {
    key: [u8; 32],
    right: Mutex<HashMap<[u8; 32], Right>>,
    turns: Mutex<HashMap<Account, Weak<tokio::sync::Mutex<()>>>>,
    wrong: Mutex<HashMap<IpAddr, Wrong>>,
}

/// Until when a right password is taken as right, and what it opened.
type Right = (Instant, Arc<Login>);

/// The accounts at which an address has been wrong since a moment.
struct Wrong {
    began: Instant,
    accounts: HashSet<Account>,
}

impl Passwords {
    /// Nobody has tried yet.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn new() -> Result<Self, Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| Error::Internal(format!("no random bytes: {error}")))?;
        Ok(Self { key, right: Mutex::default(), turns: Mutex::default(), wrong: Mutex::default() })
    }

    /// The login of a password that was right a moment ago, and is still.
    #[must_use]
    pub fn was_right(&self, branch: &BranchName, account: u64, password: &str) -> Option<Arc<Login>> {
        let now = Instant::now();
        let right = self.right.lock();
        let (until, login) = right.get(&self.fingerprint(branch, account, password))?;
        (now < *until && !login.has_ended()).then(|| Arc::clone(login))
    }

    /// Remembers a right password for a moment.
    pub fn remember(&self, branch: &BranchName, account: u64, password: &str, login: &Arc<Login>) {
        let now = Instant::now();
        let mut right = self.right.lock();
        right.retain(|_, (until, login)| now < *until && !login.has_ended());
        if right.len() < LOGIN_CACHE {
            let until = now + LOGIN_CACHE_TIME;
            right.insert(self.fingerprint(branch, account, password), (until, Arc::clone(login)));
        }
    }

    /// Waits for an account's turn.
    ///
    /// # Errors
    /// [`Error::Busy`] when it does not come.
    pub async fn turn(&self, branch: &BranchName, account: u64) -> Result<OwnedMutexGuard<()>, Error> {
        let turn = {
            let mut turns = self.turns.lock();
            if turns.len() == turns.capacity() {
                turns.retain(|_, turn| turn.strong_count() > 0);
            }
            let turn = turns.entry((branch.clone(), account)).or_default();
            turn.upgrade().unwrap_or_else(|| {
                let new = Arc::default();
                *turn = Arc::downgrade(&new);
                new
            })
        };
        timeout(QUOTA_TIME, turn.lock_owned())
            .await
            .map_err(|_| Error::Busy("this account is signing in too often at once; try again in a moment"))
    }

    /// Takes a place for a password that is about to be checked: its account counts as wrong until
    /// [`Passwords::give_back`]. Further guesses at the same account are the branch's to slow down.
    ///
    /// # Errors
    /// [`Error::TooManyLogins`].
    pub fn begin(&self, address: IpAddr, branch: &BranchName, account: u64) -> Result<(), Error> {
        let (address, now) = (network_of(address), Instant::now());
        let mut all = self.wrong.lock();
        all.retain(|_, wrong| now.duration_since(wrong.began) < LOGIN_WINDOW);
        if !all.contains_key(&address)
            && all.len() >= LOGIN_COUNTERS
            && let Some(oldest) = all.iter().min_by_key(|(_, wrong)| wrong.began).map(|(address, _)| *address)
        {
            all.remove(&oldest);
        }
        let wrong = all.entry(address).or_insert_with(|| Wrong { began: now, accounts: HashSet::new() });
        let account = (branch.clone(), account);
        if !wrong.accounts.contains(&account) && wrong.accounts.len() >= LOGIN_FAILURES_PER_ADDRESS {
            let left = LOGIN_WINDOW.saturating_sub(now.duration_since(wrong.began));
            return Err(Error::TooManyLogins { retry_seconds: (left + Duration::from_secs(1)).as_secs() });
        }
        wrong.accounts.insert(account);
        Ok(())
    }

    /// The password was right, or was not judged at all: the place is given back.
    pub fn give_back(&self, address: IpAddr, branch: &BranchName, account: u64) {
        if let Some(wrong) = self.wrong.lock().get_mut(&network_of(address)) {
            wrong.accounts.remove(&(branch.clone(), account));
        }
    }

    fn fingerprint(&self, branch: &BranchName, account: u64, password: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        // A branch's name has no blank, so no two inputs run together.
        mac.update(format!("{branch} {account} {password}").as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use protocol::AccountNum;
    use protocol::request::LoginNum;

    use super::*;
    use crate::logins::Logins;

    #[test]
    fn right_passwords_are_remembered_until_they_are_changed() {
        let (passwords, branch) = (Passwords::new().unwrap(), "Mumbai".parse().unwrap());
        let account = LoginNum::Customer(AccountNum::new(1001).unwrap());
        let login = Logins::default().add(&branch, account, Some("1".into()));
        passwords.remember(&branch, 1001, "secret", &login);
        assert!(passwords.was_right(&branch, 1001, "secret").is_some());
        assert!(passwords.was_right(&branch, 1001, "other").is_none());
        assert!(passwords.was_right(&branch, 1002, "secret").is_none());
        login.end();
        assert!(passwords.was_right(&branch, 1001, "secret").is_none());
    }

    #[test]
    fn an_address_is_slowed_down_that_guesses_at_many_accounts() {
        let (passwords, branch) = (Passwords::new().unwrap(), "Mumbai".parse().unwrap());
        let (address, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let most = LOGIN_FAILURES_PER_ADDRESS as u64;
        for _ in 0..10 * most {
            passwords.begin(address, &branch, 1).unwrap();
        }
        for number in 2..=most {
            passwords.begin(address, &branch, number).unwrap();
        }
        let refused = passwords.begin(address, &branch, most + 1);
        assert!(matches!(refused, Err(Error::TooManyLogins { retry_seconds: 1.. })));
        passwords.begin(other, &branch, most + 1).unwrap();
        // The addresses of one network of IPv6 are one.
        let neighbour = |number: u64| format!("2001:db8::{number:x}").parse().unwrap();
        for number in 1..=most {
            passwords.begin(neighbour(number), &branch, number).unwrap();
        }
        assert!(passwords.begin(neighbour(most + 1), &branch, most + 1).is_err());
        passwords.give_back(address, &branch, 1);
        passwords.begin(address, &branch, most + 1).unwrap();
    }

    #[test]
    fn an_account_has_one_turn_at_a_time() {
        let (passwords, branch) = (Passwords::new().unwrap(), "Mumbai".parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let turn = passwords.turn(&branch, 1001).await.unwrap();
            assert!(matches!(passwords.turn(&branch, 1001).await, Err(Error::Busy(_))));
            passwords.turn(&branch, 1002).await.unwrap();
            drop(turn);
            passwords.turn(&branch, 1001).await.unwrap();
        });
    }
}
