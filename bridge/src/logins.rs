//! Which password opened what: a login that lasts as long as its password does.
//!
//! Sessions, remembered passwords of scripts and streams of events hold an `Arc<Login>`. A thread (`watch`) asks each
//! branch every [`LOGIN_CHECK_INTERVAL`] which passwords these accounts have now. Where it is another one, or the
//! account has no login any more, the login has ended, and with it everything that holds it; wherever the password was
//! changed. While a branch gives no answer, nothing can have been changed there, and nothing ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use protocol::BranchName;
use protocol::answer::PasswordVersionOf;
use protocol::request::{Action, LoginNum, PASSWORD_VERSIONS_MAX, PasswordVersions};

use crate::branch::{Branch, Repeat};
use crate::bridge::Bridge;
use crate::limits::{LOGIN_CHECK_INTERVAL, STATUS_TIMEOUT};
use crate::session::Who;

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
    fn of(&self, branch: &BranchName) -> HashMap<LoginNum, Vec<Arc<Login>>> {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for login in self.all.lock().iter().filter_map(Weak::upgrade) {
            if login.branch == *branch && login.version.is_some() && !login.has_ended() {
                found.entry(login.number).or_default().push(login);
            }
        }
        found
    }
}

/// Ends logins whose password was changed, until the bridge stops.
pub fn watch(bridge: &Bridge) {
    while !bridge.stop.wait(LOGIN_CHECK_INTERVAL) {
        for branch in bridge.branches.all() {
            if branch.state.is_up() {
                check(bridge, &branch);
            }
        }
    }
}

fn check(bridge: &Bridge, branch: &Branch) {
    let logins = bridge.logins.of(branch.name());
    let accounts: Vec<_> = logins.keys().copied().collect();
    for account_nos in accounts.chunks(PASSWORD_VERSIONS_MAX) {
        let params = PasswordVersions { account_nos: account_nos.to_vec() };
        let reply = branch.call_blocking(Action::PasswordVersions, &params, &Repeat::Read, STATUS_TIMEOUT);
        let versions = reply.and_then(|reply| reply.read::<Vec<PasswordVersionOf>>(branch));
        let versions = match versions {
            Ok(versions) => versions,
            Err(error) => {
                log::debug!("the passwords of {}: {error}", branch.name());
                return;
            }
        };
        for now in versions {
            let of_account = logins.get(&now.account_no).into_iter().flatten();
            of_account.filter(|login| login.version != now.password_version).for_each(|login| login.end());
        }
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
