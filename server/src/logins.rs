//! Who is logged in, at whichever port: sessions end with the password that opened them.
//!
//! A session remembers which password it was opened with, as a [`PasswordVersion`], and is asked before each request
//! whether the account still has that one. That costs one comparison of two numbers: the database counts the commits
//! that wrote a login, and only after such a commit is the account's password looked up again. So a password that was
//! changed at another port, by an operator, at the primary of this copy, or taken away with its account, ends every
//! session that it opened at the latest with the session's next request.
//!
//! Kept true:
//! - an account has at most [`SESSIONS_PER_ACCOUNT`] sessions; one more ends the account's own oldest, and nobody
//!   else's, so whoever knows the new password gets in beside whoever holds on to many;
//! - a session that has ended never comes back to life: its person logs in again.
//!
//! Left out: the bridge's own logins. It keeps the version that `check_password` gives it, and asks
//! `password_versions` for those that it keeps.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::bank::passwords::PasswordVersion;
use crate::limits::SESSIONS_PER_ACCOUNT;

/// Everyone who is logged in.
///
/// Invariant: each list holds the running sessions of its account, oldest first, and at most [`SESSIONS_PER_ACCOUNT`].
#[derive(Debug, Default)]
pub struct Logins {
    by_account: Mutex<HashMap<i64, VecDeque<Arc<Shared>>>>,
}

/// One person's session; it ends when this is dropped.
#[derive(Debug)]
pub struct LoggedIn {
    logins: Arc<Logins>,
    shared: Arc<Shared>,
    version: Mutex<PasswordVersion>,
    /// How many commits had written a login when the password was last looked at.
    seen: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    account_num: i64,
    is_displaced: AtomicBool,
    /// The connection, to be woken when the session is displaced.
    stream: Arc<TcpStream>,
}

impl Logins {
    /// Enters a session that this password has opened. `seen` is how many commits had written a login before the
    /// password was looked at.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        account_num: i64,
        version: PasswordVersion,
        seen: u64,
        stream: Arc<TcpStream>,
    ) -> LoggedIn {
        let shared = Arc::new(Shared { account_num, is_displaced: AtomicBool::new(false), stream });
        let mut by_account = self.by_account.lock();
        let own = by_account.entry(account_num).or_default();
        if own.len() >= SESSIONS_PER_ACCOUNT
            && let Some(oldest) = own.pop_front()
        {
            log::info!("account {account_num} has logged in {SESSIONS_PER_ACCOUNT} times: its oldest session ends");
            oldest.is_displaced.store(true, Ordering::SeqCst);
            // What it is at is finished and answered; then it finds the end of its input.
            let _ = oldest.stream.shutdown(Shutdown::Read);
        }
        own.push_back(Arc::clone(&shared));
        drop(by_account);
        LoggedIn { logins: Arc::clone(self), shared, version: Mutex::new(version), seen: AtomicU64::new(seen) }
    }
}

impl LoggedIn {
    /// Whose session it is; 0 is the administrator's.
    #[must_use]
    pub fn account_num(&self) -> i64 {
        self.shared.account_num
    }

    /// Whether newer sessions of the account have taken this one's place.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.shared.is_displaced.load(Ordering::SeqCst)
    }

    /// Whether no login was written since the password was last looked at.
    #[must_use]
    pub fn has_seen(&self, logins_written: u64) -> bool {
        self.seen.load(Ordering::SeqCst) == logins_written
    }

    /// Notes the account's present password; `false` when it is not the session's.
    #[must_use]
    pub fn compare(&self, present: PasswordVersion, logins_written: u64) -> bool {
        let is_same = *self.version.lock() == present;
        if is_same {
            self.seen.store(logins_written, Ordering::SeqCst);
        }
        is_same
    }

    /// Goes on with the password that this session itself has set.
    pub fn renew(&self, version: PasswordVersion) {
        *self.version.lock() = version;
    }
}

impl Drop for LoggedIn {
    fn drop(&mut self) {
        let mut by_account = self.logins.by_account.lock();
        if let Some(own) = by_account.get_mut(&self.shared.account_num) {
            own.retain(|other| !Arc::ptr_eq(other, &self.shared));
            if own.is_empty() {
                by_account.remove(&self.shared.account_num);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    fn stream() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), client)
    }

    #[test]
    fn one_session_too_many_ends_the_accounts_own_oldest_and_nobody_elses() {
        let logins = Arc::new(Logins::default());
        let version = PasswordVersion::of("x");
        let (other_stream, _other_client) = stream();
        let other = logins.enter(1002, version, 0, other_stream);
        let (first_stream, _client) = stream();
        let first = logins.enter(1001, version, 0, Arc::clone(&first_stream));
        let (shared, _clients) = stream();
        let more: Vec<_> =
            (1..=SESSIONS_PER_ACCOUNT).map(|_| logins.enter(1001, version, 0, Arc::clone(&shared))).collect();
        assert!(first.is_displaced() && !other.is_displaced() && !more.iter().any(LoggedIn::is_displaced));
        assert_eq!((&*first_stream).read(&mut [0]).unwrap(), 0, "it finds the end of its input");
        drop((first, more, other));
        assert!(logins.by_account.lock().is_empty());
    }

    #[test]
    fn a_session_goes_on_with_its_own_password_alone() {
        let logins = Arc::new(Logins::default());
        let (stream, _client) = stream();
        let session = logins.enter(1001, PasswordVersion::of("old"), 7, stream);
        assert!(session.has_seen(7) && !session.has_seen(8));
        assert!(session.compare(PasswordVersion::of("old"), 8) && session.has_seen(8));
        assert!(!session.compare(PasswordVersion::of("new"), 9));
        session.renew(PasswordVersion::of("new"));
        assert!(session.compare(PasswordVersion::of("new"), 9));
    }
}
