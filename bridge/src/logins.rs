//! Which password opened what: a login that lasts as long as its password does.
//!
//! Sessions, remembered passwords of scripts and streams of events hold an `Arc<Login>`. A thread (`password_check`)
//! asks each branch again and again which passwords these accounts have now. Where it is another one, or the account has
//! no login any more, the login ends, and with it everything that holds it; wherever the password was changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use protocol::BranchName;
use protocol::request::LoginNum;

use crate::who::Who;

/// Someone's right password, at one moment.
#[derive(Debug)]
pub struct Login {
    /// Whose.
    pub who: Who,
    branch: BranchName,
    number: LoginNum,
    /// None at a branch of an older version, which does not tell; there a login ends by its time alone.
    version: Option<String>,
    has_ended: AtomicBool,
}

impl Login {
    /// Whether the password was changed since, or the account closed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Which password it was, as the branch names it.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// It is worth nothing from now on.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

/// All logins that something holds.
#[derive(Default)]
pub struct Logins {
    all: Mutex<Vec<Weak<Login>>>,
}

impl Logins {
    /// A password was right.
    pub fn add(&self, branch: &BranchName, number: LoginNum, version: Option<String>) -> Arc<Login> {
        let branch = branch.clone();
        let who = match number {
            LoginNum::Administrator => Who::Administrator { branch: branch.clone() },
            LoginNum::Customer(account) => Who::Customer { branch: branch.clone(), account },
        };
        let login = Arc::new(Login { who, branch, number, version, has_ended: AtomicBool::new(false) });
        let mut all = self.all.lock();
        // Whoever is let in by another password than these shows that theirs was changed: no look at the branch is
        // needed, which may have been away when it was.
        for other in all.iter().filter_map(Weak::upgrade) {
            let is_of_the_account = other.branch == login.branch && other.number == login.number;
            if is_of_the_account && login.version.is_some() && other.version != login.version {
                other.end();
            }
        }
        // What nothing holds any more goes when the list has doubled since, so that adding stays cheap.
        if all.len() == all.capacity() {
            all.retain(|login| login.strong_count() > 0);
        }
        all.push(Arc::downgrade(&login));
        login
    }

    /// Those of one branch that last, by account.
    #[must_use]
    pub fn of(&self, branch: &BranchName) -> HashMap<LoginNum, Vec<Arc<Login>>> {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for login in self.all.lock().iter().filter_map(Weak::upgrade) {
            if login.branch == *branch && login.version.is_some() && !login.has_ended() {
                found.entry(login.number).or_default().push(login);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_by_a_new_password_ends_those_by_the_old_one() {
        let (logins, mumbai, delhi) = (Logins::default(), "Mumbai".parse().unwrap(), "Delhi".parse().unwrap());
        let add = |branch, number, version: &str| logins.add(branch, number, Some(version.into()));
        let customer = LoginNum::Customer(protocol::AccountNum::new(1001).unwrap());
        let old = add(&mumbai, LoginNum::Administrator, "1");
        let others = [add(&mumbai, customer, "3"), add(&delhi, LoginNum::Administrator, "4")];
        let same = add(&mumbai, LoginNum::Administrator, "1");
        assert!(!old.has_ended());
        let new = add(&mumbai, LoginNum::Administrator, "2");
        assert!(old.has_ended() && same.has_ended() && !new.has_ended());
        assert!(!others.iter().any(|other| other.has_ended()));
    }

    #[test]
    fn what_nothing_holds_is_forgotten() {
        let (logins, mumbai) = (Logins::default(), "Mumbai".parse().unwrap());
        let kept = logins.add(&mumbai, LoginNum::Administrator, Some("1".into()));
        for _ in 0..10_000 {
            drop(logins.add(&mumbai, LoginNum::Administrator, Some("1".into())));
        }
        assert!(logins.all.lock().capacity() < 64);
        assert_eq!(logins.of(&mumbai)[&LoginNum::Administrator].len(), 1);
        assert!(logins.of(&"Delhi".parse().unwrap()).is_empty());
        kept.end();
        assert!(logins.of(&mumbai).is_empty());
    }
}
