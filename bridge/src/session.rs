//! Who is signed in: cookie sessions, and how scripts say who they are.
//!
//! A session's token is 32 random bytes and is kept as its hash alone. Sessions end by being idle, by their age, by
//! signing out, and with the password that opened them. Their number is bounded by account, and whoever signs in too
//! often ends only the own oldest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use parking_lot::Mutex;
use protocol::proof::to_hex;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::limits::{SESSION_IDLE, SESSION_LIFE, SESSIONS, SESSIONS_PER_ADMINISTRATOR, SESSIONS_PER_CUSTOMER};
use crate::logins::Login;
use crate::who::Who;

/// As RFC 4648, section 4, has it, with or without padding: programs disagree on that.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The cookie's name at a port. Cookies know no ports (RFC 6265, section 8.5), and two bridges on one host must not sign
/// each other's people out; so the name has the port by which the browser asks.
#[must_use]
pub fn cookie_name(port: u16) -> String {
    format!("bank_session_{port}")
}

/// The sessions.
#[derive(Default)]
pub struct Sessions {
    by_hash: Mutex<HashMap<[u8; 32], Session>>,
}

#[derive(Clone, Debug)]
struct Session {
    login: Arc<Login>,
    csrf: String,
    began: Instant,
    used: Instant,
}

/// A session that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The password that opened it.
    pub login: Arc<Login>,
    /// The token that its writes must carry.
    pub csrf: String,
}

impl Sessions {
    /// Begins a session. Returns the cookie's value.
    ///
    /// # Errors
    /// [`Error::Busy`] when there are too many of others, [`Error::Internal`] when the system gives no random bytes.
    pub fn begin(&self, login: Arc<Login>) -> Result<(String, Found), Error> {
        let (token, csrf) = (random_hex()?, random_hex()?);
        let now = Instant::now();
        let mut sessions = self.by_hash.lock();
        sessions.retain(|_, session| session.is_alive(now));
        let most = match login.who {
            Who::Administrator { .. } | Who::Open | Who::Nobody => SESSIONS_PER_ADMINISTRATOR,
            Who::Customer { .. } => SESSIONS_PER_CUSTOMER,
        };
        let own = sessions.iter().filter(|(_, session)| session.login.who == login.who);
        let (count, idle) =
            own.fold((0, None), |(count, idle): (usize, Option<([u8; 32], Instant)>), (hash, session)| {
                let is_longer = idle.is_none_or(|(_, used)| session.used < used);
                (count + 1, if is_longer { Some((*hash, session.used)) } else { idle })
            });
        // The own oldest goes, also where all together are too many: nobody is signed out by another's signing in.
        let is_full = count >= most || sessions.len() >= SESSIONS;
        match idle {
            Some((oldest, _)) if is_full => {
                sessions.remove(&oldest);
            }
            None if is_full => return Err(Error::Busy("too many people are signed in; try again later")),
            Some(_) | None => {}
        }
        let session = Session { login: Arc::clone(&login), csrf: csrf.clone(), began: now, used: now };
        sessions.insert(hash(&token), session);
        Ok((token, Found { login, csrf }))
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
        Some(Found { login: Arc::clone(&session.login), csrf: session.csrf.clone() })
    }

    /// Ends a session.
    pub fn end(&self, token: &str) {
        self.by_hash.lock().remove(&hash(token));
    }

    /// Ends every session of this kind, as when an account is closed.
    pub fn end_all_of(&self, who: &Who) {
        self.by_hash.lock().retain(|_, session| session.login.who != *who);
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        let is_young = now.duration_since(self.used) < SESSION_IDLE && now.duration_since(self.began) < SESSION_LIFE;
        is_young && !self.login.has_ended()
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    // Hashing first makes both the same length, and what the time could tell is about the hashes.
    let (one, other) = (Sha256::digest(one.as_bytes()), Sha256::digest(other.as_bytes()));
    one.iter().zip(other.iter()).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

/// Name and password of an `Authorization: Basic` header.
#[must_use]
pub fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, coded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(coded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_string(), password.to_string()))
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
    use protocol::AccountNum;
    use protocol::request::LoginNum;

    use super::*;
    use crate::logins::Logins;

    fn customer(number: u64) -> Arc<Login> {
        let account = LoginNum::Customer(AccountNum::new(number).unwrap());
        Logins::default().add(&"Mumbai".parse().unwrap(), account, Some("1".into()))
    }

    #[test]
    fn a_session_lasts_until_it_is_ended_or_its_password_is_changed() {
        let sessions = Sessions::default();
        let (token, found) = sessions.begin(customer(1001)).unwrap();
        assert_eq!(sessions.find(&token).unwrap().csrf, found.csrf);
        assert_ne!(token, found.csrf);
        assert!(sessions.find(&found.csrf).is_none());
        sessions.end(&token);
        assert!(!sessions.lasts(&token));
        let (token, _) = sessions.begin(customer(1001)).unwrap();
        let (other, found) = sessions.begin(customer(1002)).unwrap();
        sessions.end_all_of(&customer(1001).who);
        assert!(!sessions.lasts(&token) && sessions.lasts(&other));
        found.login.end();
        assert!(!sessions.lasts(&other));
    }

    #[test]
    fn who_signs_in_too_often_ends_the_own_oldest_session() {
        let sessions = Sessions::default();
        let (other, _) = sessions.begin(customer(1001)).unwrap();
        let own: Vec<_> = (0..SESSIONS_PER_CUSTOMER + 2).map(|_| sessions.begin(customer(1002)).unwrap().0).collect();
        assert!(sessions.lasts(&other), "it was idle longest, and is another's");
        let lasting: Vec<_> = own.iter().map(|token| sessions.lasts(token)).collect();
        assert_eq!(lasting.iter().filter(|lasts| **lasts).count(), SESSIONS_PER_CUSTOMER);
        assert!(!lasting[0] && !lasting[1] && lasting[2]);
    }

    #[test]
    fn all_sessions_together_are_bounded_and_those_that_are_there_stay() {
        let sessions = Sessions::default();
        let tokens: Vec<_> = (1..=SESSIONS as u64).map(|number| sessions.begin(customer(number)).unwrap().0).collect();
        assert!(matches!(sessions.begin(customer(1_000_000)), Err(Error::Busy(_))));
        assert!(tokens.iter().all(|token| sessions.lasts(token)));
        let (again, _) = sessions.begin(customer(1)).unwrap();
        assert!(sessions.lasts(&again) && !sessions.lasts(&tokens[0]), "in place of the own one");
    }

    #[test]
    fn sessions_grow_old() {
        let now = Instant::now();
        let session = Session { login: customer(1001), csrf: String::new(), began: now, used: now };
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
