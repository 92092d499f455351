//! Passwords: hashed with Argon2id, a few at a time.
//!
//! The parameters are OWASP's minimum for Argon2id (19 MiB of memory, 2 passes, 1 lane; OWASP Password
//! Storage Cheat Sheet), stored in each PHC string, so that they can be raised later without locking
//! anyone out. A hash takes tens of milliseconds of one core by design, therefore at most
//! [`HASHING_THREADS`] run at once and the rest wait their turn: a crowd of logins can't starve the bank.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, Result};
use crate::limits::HASHING_THREADS;

/// Memory of one hash in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory.
const PASSES: u32 = 2;
/// Lanes, computed one after another.
const LANES: u32 = 1;
/// The salt's length, as the PHC string format recommends it.
const SALT_BYTES: usize = 16;

/// Hashes and verifies passwords on [`HASHING_THREADS`] threads of its own.
///
/// The threads are its own for the sake of memory: each keeps the 19 MiB of a hash, and no session does.
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
    let mut memory = Memory::default();
    // The one who asked may have gone; then nobody misses the answer.
    for job in queue {
        match job {
            Job::Hash { password, done } => {
                let hash = memory.hash(&password);
                let hash = hash.map_err(|error| Error::Database(format!("a password could not be hashed: {error}")));
                let _ = done.send(hash);
            }
            Job::Verify { password, stored, done } => {
                let _ = done.send(memory.is_password(&password, &stored));
            }
        }
    }
}

/// The memory in which one thread hashes, kept from one hash to the next: given back and taken anew each time, an
/// aligned block of this size leaves holes in the allocator that come to several times as much.
#[derive(Default)]
struct Memory(Vec<Block>);

impl Memory {
    fn hash(&mut self, password: &str) -> password_hash::Result<String> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| password_hash::Error::Crypto)?;
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(Salt::new(&salt)?),
            hash: Some(self.compute(password, &salt, Algorithm::Argon2id, Version::V0x13, params)?),
        };
        Ok(hash.to_string())
    }

    fn is_password(&mut self, password: &str, stored: &str) -> bool {
        self.verify(password, stored).unwrap_or_else(|error| {
            log::error!("a stored password hash cannot be verified: {error}");
            false
        })
    }

    fn verify(&mut self, password: &str, stored: &str) -> password_hash::Result<bool> {
        let stored = PasswordHash::new(stored)?;
        let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else { return Ok(false) };
        let algorithm = Algorithm::try_from(stored.algorithm.as_str())?;
        let version = stored.version.map(Version::try_from).transpose()?.unwrap_or_default();
        let computed = self.compute(password, salt, algorithm, version, Params::try_from(&stored)?)?;
        // Outputs compare in the same time wherever they differ.
        Ok(computed == *expected)
    }

    fn compute(
        &mut self,
        password: &str,
        salt: &[u8],
        algorithm: Algorithm,
        version: Version,
        params: Params,
    ) -> password_hash::Result<Output> {
        self.0.resize(params.block_count(), Block::new());
        let mut bytes = [0; Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let output = bytes.get_mut(..length).ok_or(password_hash::Error::OutputSize)?;
        let argon2 = Argon2::new(algorithm, version, params);
        argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut self.0)?;
        Ok(Output::new(output)?)
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

    #[test]
    fn hashes_are_those_of_the_argon2_crate_whatever_their_parameters() {
        use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
        let hasher = Hasher::new().unwrap();
        let ours = hasher.hash("four").unwrap();
        assert!(Argon2::default().verify_password(b"four", &PasswordHash::new(&ours).unwrap()).is_ok());
        for (algorithm, memory_kib, passes, output) in [
            (Algorithm::Argon2id, 19 * 1024, 2, None),
            (Algorithm::Argon2i, 64, 3, Some(16)),
            (Algorithm::Argon2id, 65_536, 1, None),
        ] {
            let params = Params::new(memory_kib, passes, 1, output).unwrap();
            let theirs = Argon2::new(algorithm, Version::V0x13, params).hash_password(b"four").unwrap().to_string();
            assert!(hasher.verify("four", Some(&theirs)), "{theirs}");
            assert!(!hasher.verify("five", Some(&theirs)), "{theirs}");
        }
    }
}
