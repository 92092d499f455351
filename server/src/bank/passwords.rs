//! Passwords: hashed with Argon2id, a few at a time.
//!
//! The parameters are OWASP's minimum for Argon2id (19 MiB of memory, 2 passes, 1 lane; OWASP Password
//! Storage Cheat Sheet), stored in each PHC string, so that they can be raised later without locking
//! anyone out. A hash takes tens of milliseconds of one core by design, therefore at most
//! [`HASHING_THREADS`] run at once and the rest wait their turn: a crowd of logins can't starve the bank.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::limits::HASHING_THREADS;

/// Memory of one hash in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory.
const PASSES: u32 = 2;
/// Lanes, computed one after another.
const LANES: u32 = 1;

/// Hashes and verifies passwords, [`HASHING_THREADS`] at a time.
pub struct Hasher {
    argon2: Argon2<'static>,
    free: Mutex<usize>,
    freed: Condvar,
    /// A hash of nothing that anyone knows, verified in place of an unknown account's.
    decoy: String,
}

impl Hasher {
    /// A hasher.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system gives no randomness.
    pub fn new() -> Result<Self> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("OWASP's parameters are valid ones");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut hasher =
            Self { argon2, free: Mutex::new(HASHING_THREADS), freed: Condvar::new(), decoy: String::new() };
        hasher.decoy = hasher.hash("a decoy that is no account's password")?;
        Ok(hasher)
    }

    /// The PHC string of a password, with a salt of its own.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system gives no randomness or no memory.
    pub fn hash(&self, password: &str) -> Result<String> {
        let _turn = self.wait_for_turn();
        let hash = self.argon2.hash_password(password.as_bytes());
        Ok(hash.map_err(|error| Error::Database(format!("a password could not be hashed: {error}")))?.to_string())
    }

    /// Whether `password` is the one that `stored` was made of. Without a stored hash the answer is no, at
    /// the same cost.
    #[must_use]
    pub fn verify(&self, password: &str, stored: Option<&str>) -> bool {
        let _turn = self.wait_for_turn();
        let Ok(hash) = PasswordHash::new(stored.unwrap_or(&self.decoy)) else {
            log::error!("a stored password hash is not a PHC string");
            return false;
        };
        self.argon2.verify_password(password.as_bytes(), &hash).is_ok() && stored.is_some()
    }

    fn wait_for_turn(&self) -> HashingTurn<'_> {
        let mut free = self.free.lock();
        while *free == 0 {
            self.freed.wait(&mut free);
        }
        *free -= 1;
        HashingTurn(self)
    }
}

/// One of the places for hashing; given back when dropped.
struct HashingTurn<'h>(&'h Hasher);

impl Drop for HashingTurn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_a_known_account_is_right() {
        let hasher = Hasher::new().unwrap();
        let stored = hasher.hash("मेरा पासवर्ड").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(hasher.verify("मेरा पासवर्ड", Some(&stored)));
        assert!(!hasher.verify("मेरा पासवर्ड ", Some(&stored)));
        assert!(!hasher.verify("मेरा पासवर्ड", None));
        assert!(!hasher.verify("x", Some("not a hash")));
        assert_ne!(stored, hasher.hash("मेरा पासवर्ड").unwrap(), "each hash has a salt of its own");
    }
}
