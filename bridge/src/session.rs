//! Who is signed in: cookie sessions, passwords of scripts, and how often a wrong one may be tried.
//!
//! A session's token is 32 random bytes and is kept as its hash alone. Sessions end by being idle, by their age, by
//! signing out, and when there are too many. Passwords are the branch's to judge; a right one is remembered for a
//! minute by a keyed hash, so that a script does not pay for Argon2id at each call. A wrong one never is: the branch
//! slows guesses at an account down, and this module those from an address, which the branch does not see.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use protocol::proof::to_hex;
use protocol::{AccountNum, BranchName};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::limits::{
    LOGIN_CACHE, LOGIN_CACHE_TIME, LOGIN_COUNTERS, LOGIN_FAILURES_PER_ADDRESS, LOGIN_WINDOW, SESSION_IDLE,
    SESSION_LIFE, SESSIONS,
};

/// The cookie's name.
pub const COOKIE: &str = "bank_session";

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Someone who is not signed in.
    Nobody,
    /// Anyone, at an open bridge. They may do all.
    Open,
    /// The administrator of a branch; at the bridge they may do all.
    Administrator {
        /// Where they signed in.
        branch: BranchName,
    },
    /// The customer of one account.
    Customer {
        /// The branch.
        branch: BranchName,
        /// The account.
        account: AccountNum,
    },
}

/// The sessions.
#[derive(Default)]
pub struct Sessions {
    by_hash: Mutex<HashMap<[u8; 32], Session>>,
}

#[derive(Clone, Debug)]
struct Session {
    who: Who,
    csrf: String,
    began: Instant,
    used: Instant,
}

/// A session that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub who: Who,
    /// The token that its writes must carry.
    pub csrf: String,
}

impl Sessions {
    /// Begins a session. Gives the cookie's value.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn begin(&self, who: Who) -> Result<(String, Found), Error> {
        let (token, csrf) = (random_hex()?, random_hex()?);
        let now = Instant::now();
        let mut sessions = self.by_hash.lock();
        sessions.retain(|_, session| session.is_alive(now));
        if sessions.len() >= SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.used).map(|(hash, _)| *hash)
        {
            sessions.remove(&oldest);
        }
        let session = Session { who: who.clone(), csrf: csrf.clone(), began: now, used: now };
        sessions.insert(hash(&token), session);
        Ok((token, Found { who, csrf }))
    }

    /// The session of a cookie, which is used by that.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Found> {
        self.look(token, true)
    }

    /// Whether the session still lasts; looking is no use of it.
    #[must_use]
    pub fn lasts(&self, token: &str) -> bool {
        self.look(token, false).is_some()
    }

    fn look(&self, token: &str, is_use: bool) -> Option<Found> {
        let now = Instant::now();
        let mut sessions = self.by_hash.lock();
        let session = sessions.get_mut(&hash(token)).filter(|session| session.is_alive(now))?;
        if is_use {
            session.used = now;
        }
        Some(Found { who: session.who.clone(), csrf: session.csrf.clone() })
    }

    /// Ends a session.
    pub fn end(&self, token: &str) {
        self.by_hash.lock().remove(&hash(token));
    }

    /// Ends every session of this kind, as when an account is closed.
    pub fn end_all_of(&self, who: &Who) {
        self.by_hash.lock().retain(|_, session| session.who != *who);
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.duration_since(self.used) < SESSION_IDLE && now.duration_since(self.began) < SESSION_LIFE
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    // Hashing first makes both the same length, and what the time could tell is about the hashes.
    let (one, other) = (Sha256::digest(one.as_bytes()), Sha256::digest(other.as_bytes()));
    one.iter().zip(other.iter()).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

/// Passwords that were right a moment ago, and how many were wrong.
pub struct Logins {
    key: [u8; 32],
    right: Mutex<HashMap<[u8; 32], Instant>>,
    wrong_by_address: Counters<IpAddr>,
}

impl Logins {
    /// Nobody has tried yet.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn new() -> Result<Self, Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| Error::Internal(format!("no random bytes: {error}")))?;
        Ok(Self { key, right: Mutex::default(), wrong_by_address: Counters::new(LOGIN_FAILURES_PER_ADDRESS) })
    }

    /// Whether this password was right a moment ago.
    #[must_use]
    pub fn was_right(&self, branch: &BranchName, account: u64, password: &str) -> bool {
        let now = Instant::now();
        let right = self.right.lock();
        let until = right.get(&self.fingerprint(branch, account, password));
        until.is_some_and(|until| now < *until)
    }

    /// Takes a place for a password that is about to be checked: it counts as wrong until [`Logins::right`].
    ///
    /// # Errors
    /// [`Error::TooManyLogins`].
    pub fn begin(&self, address: IpAddr) -> Result<(), Error> {
        self.wrong_by_address.count(address)
    }

    /// The password was right, or was not judged at all: the place is given back.
    pub fn give_back(&self, address: IpAddr) {
        self.wrong_by_address.give_back(&address);
    }

    /// Remembers a right password for a moment.
    pub fn remember(&self, branch: &BranchName, account: u64, password: &str) {
        let now = Instant::now();
        let mut right = self.right.lock();
        right.retain(|_, until| now < *until);
        if right.len() < LOGIN_CACHE {
            right.insert(self.fingerprint(branch, account, password), now + LOGIN_CACHE_TIME);
        }
    }

    fn fingerprint(&self, branch: &BranchName, account: u64, password: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        // A branch's name has no blank, so no two inputs run together.
        mac.update(format!("{branch} {account} {password}").as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// How many there were of each within the window.
struct Counters<K> {
    most: u32,
    counts: Mutex<HashMap<K, (Instant, u32)>>,
}

impl<K: Hash + Eq + Clone> Counters<K> {
    fn new(most: u32) -> Self {
        Self { most, counts: Mutex::default() }
    }

    fn count(&self, key: K) -> Result<(), Error> {
        let now = Instant::now();
        let mut counts = self.counts.lock();
        counts.retain(|_, (began, _)| now.duration_since(*began) < LOGIN_WINDOW);
        if !counts.contains_key(&key)
            && counts.len() >= LOGIN_COUNTERS
            && let Some(oldest) = counts.iter().min_by_key(|(_, (began, _))| *began).map(|(key, _)| key.clone())
        {
            counts.remove(&oldest);
        }
        let (began, count) = counts.entry(key).or_insert((now, 0));
        if *count >= self.most {
            let left = LOGIN_WINDOW.saturating_sub(now.duration_since(*began));
            return Err(Error::TooManyLogins { retry_seconds: (left + Duration::from_secs(1)).as_secs() });
        }
        *count += 1;
        Ok(())
    }

    fn give_back(&self, key: &K) {
        if let Some((_, count)) = self.counts.lock().get_mut(key) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Name and password of an `Authorization: Basic` header.
#[must_use]
pub fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, coded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64(coded.trim())?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_string(), password.to_string()))
}

/// Decodes base64 (RFC 4648, section 4), with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn random_hex() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Internal(format!("no random bytes: {error}")))?;
    Ok(to_hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(number: u64) -> Who {
        Who::Customer { branch: "Mumbai".parse().unwrap(), account: AccountNum::new(number).unwrap() }
    }

    #[test]
    fn a_session_lasts_until_it_is_ended() {
        let sessions = Sessions::default();
        let (token, found) = sessions.begin(customer(1001)).unwrap();
        assert_eq!(sessions.find(&token), Some(found.clone()));
        assert_ne!(token, found.csrf);
        assert_eq!(sessions.find(&found.csrf), None);
        sessions.end(&token);
        assert!(!sessions.lasts(&token));
        let (token, _) = sessions.begin(customer(1001)).unwrap();
        let (other, _) = sessions.begin(customer(1002)).unwrap();
        sessions.end_all_of(&customer(1001));
        assert!(!sessions.lasts(&token) && sessions.lasts(&other));
    }

    #[test]
    fn sessions_grow_old_and_their_number_is_bounded() {
        let sessions = Sessions::default();
        let (first, _) = sessions.begin(customer(1001)).unwrap();
        for _ in 0..SESSIONS {
            sessions.begin(customer(1002)).unwrap();
        }
        assert!(!sessions.lasts(&first), "the one that was idle longest has ended");
        assert_eq!(sessions.by_hash.lock().len(), SESSIONS);
        let now = Instant::now();
        let session = Session { who: Who::Open, csrf: String::new(), began: now, used: now };
        assert!(session.is_alive(now) && !session.is_alive(now + SESSION_IDLE));
        let used = Session { used: now + SESSION_LIFE, ..session };
        assert!(!used.is_alive(now + SESSION_LIFE), "used all the time, and still");
    }

    #[test]
    fn texts_are_compared_whole() {
        assert!(is_same("abc", "abc"));
        assert!(!is_same("abc", "abd") && !is_same("abc", "ab") && !is_same("", "a"));
    }

    #[test]
    fn right_passwords_are_remembered_and_wrong_ones_counted() {
        let logins = Logins::new().unwrap();
        let (address, branch) = ("10.0.0.1".parse().unwrap(), "Mumbai".parse().unwrap());
        logins.remember(&branch, 1001, "secret");
        assert!(logins.was_right(&branch, 1001, "secret"));
        assert!(!logins.was_right(&branch, 1001, "other") && !logins.was_right(&branch, 1002, "secret"));
        for _ in 0..LOGIN_FAILURES_PER_ADDRESS {
            logins.begin(address).unwrap();
        }
        assert!(matches!(logins.begin(address), Err(Error::TooManyLogins { retry_seconds: 1.. })));
        logins.begin("10.0.0.2".parse().unwrap()).unwrap();
        logins.give_back(address);
        logins.begin(address).unwrap();
    }

    #[test]
    fn basic_headers_are_read() {
        let check = |header: &str, expected: Option<(&str, &str)>| {
            assert_eq!(basic(header), expected.map(|(name, word)| (name.into(), word.into())), "{header}");
        };
        check("Basic MDpyb290", Some(("0", "root")));
        check("basic TXVtYmFpLzEwMDE6YTpi", Some(("Mumbai/1001", "a:b")));
        check("Basic MTAwMTo=", Some(("1001", "")));
        for wrong in ["Bearer MDpyb290", "Basic", "Basic !!", "Basic MDA=", "Basic /w=="] {
            check(wrong, None);
        }
    }
}
