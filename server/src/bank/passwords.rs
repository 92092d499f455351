//! Passwords: hashed with Argon2id, a few at a time.
//!
//! The parameters are OWASP's minimum for Argon2id (19 MiB of memory, 2 passes, 1 lane; OWASP Password
//! Storage Cheat Sheet), stored in each PHC string, so that they can be raised later without locking
//! anyone out. A hash takes tens of milliseconds of one core by design, therefore at most
//! [`HASHING_THREADS`] run at once and the rest wait their turn: a crowd of logins can't starve the bank.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, Result};
use crate::limits::HASHING_THREADS;

/// Memory of one hash in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory.
const PASSES: u32 = 2;
/// Lanes, computed one after another.
const LANES: u32 = 1;

/// Hashes and verifies passwords on [`HASHING_THREADS`] threads of its own.
///
/// The threads are its own for the sake of memory: an allocator keeps the 19 MiB of a hash for the thread
/// that used them, and hundreds of sessions would each come to keep some.
pub struct Hasher {
    jobs: Sender<Job>,
    /// A hash of nothing that anyone knows, verified in place of an unknown account's.
    decoy: String,
}

/// What a hashing thread is asked to do. Whoever asks waits at the other end of the channel.
enum Job {
    Hash { password: String, done: Sender<Result<String>> },
    Verify { password: String, stored: String, done: Sender<bool> },
}

impl Hasher {
    /// Starts the threads; they end when the hasher is dropped.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system gives no thread or no randomness.
    pub fn new() -> Result<Self> {
        // Each waiting session has one job in the queue, so the clients' limit bounds it; a rendezvous is enough.
        let (jobs, queue) = bounded::<Job>(0);
        for number in 1..=HASHING_THREADS {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || work(&queue))
                .map_err(|error| Error::Database(format!("there is no thread for hashing: {error}")))?;
        }
        let mut hasher = Self { jobs, decoy: String::new() };
        hasher.decoy = hasher.hash("a decoy that is no account's password")?;
        Ok(hasher)
    }

    /// The PHC string of a password, with a salt of its own.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system gives no randomness or no memory.
    pub fn hash(&self, password: &str) -> Result<String> {
        let (done, hash) = bounded(1);
        let job = Job::Hash { password: password.to_string(), done };
        let failed = || Error::Database("a password could not be hashed".into());
        self.jobs.send(job).map_err(|_| failed())?;
        hash.recv().map_err(|_| failed())?
    }

    /// Whether `password` is the one that `stored` was made of. Without a stored hash the answer is no, at
    /// the same cost.
    #[must_use]
    pub fn verify(&self, password: &str, stored: Option<&str>) -> bool {
        let (done, verified) = bounded(1);
        let compared = stored.unwrap_or(&self.decoy).to_string();
        let job = Job::Verify { password: password.to_string(), stored: compared, done };
        let is_equal = self.jobs.send(job).is_ok() && verified.recv().unwrap_or(false);
        is_equal && stored.is_some()
    }
}

/// One hashing thread.
fn work(queue: &Receiver<Job>) {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("OWASP's parameters are valid ones");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    // The one who asked may have gone; then nobody misses the answer.
    for job in queue {
        match job {
            Job::Hash { password, done } => {
                let hash = argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string());
                let hash = hash.map_err(|error| Error::Database(format!("a password could not be hashed: {error}")));
                let _ = done.send(hash);
            }
            Job::Verify { password, stored, done } => {
                let _ = done.send(is_password(&argon2, &password, &stored));
            }
        }
    }
}

fn is_password(argon2: &Argon2<'_>, password: &str, stored: &str) -> bool {
    match PasswordHash::new(stored) {
        Ok(hash) => argon2.verify_password(password.as_bytes(), &hash).is_ok(),
        Err(error) => {
            log::error!("a stored password hash is not a PHC string: {error}");
            false
        }
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
