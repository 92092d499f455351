//! Passwords: hashed with Argon2id, a few at a time.
//!
//! The parameters are OWASP's minimum for Argon2id (19 MiB of memory, 2 passes, 1 lane; OWASP Password
//! Storage Cheat Sheet), stored in each PHC string, so that they can be raised later without locking
//! anyone out. A hash takes tens of milliseconds of one core by design, therefore at most
//! [`HASHING_THREADS`] run at once and the rest wait their turn, which [`super::hashing`] decides.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use sha2::{Digest as _, Sha256};

use super::hashing::{Debts, Line, Orderer};
use crate::error::{Error, Result};
use crate::limits::{HASH_LOOK, HASHES_WAITING, HASHING_THREADS};

/// Bytes of a salt (RFC 9106, section 3.1, recommends 16 for passwords).
const SALT_BYTES: usize = 16;
/// Lanes, computed one after another.
const LANES: u32 = 1;

/// What one hash costs whoever guesses, and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    /// Memory of one hash in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
}

impl HashCost {
    /// What every branch pays.
    pub const OWASP: Self = Self { memory_kib: 19 * 1024, passes: 2 };
    /// The least that Argon2 computes at all, for a simulation, which keeps no secrets and opens thousands of branches.
    pub const LEAST: Self = Self { memory_kib: Params::MIN_M_COST, passes: Params::MIN_T_COST };

    fn params(self) -> Result<Params> {
        Params::new(self.memory_kib, self.passes, LANES, None).map_err(|error| failed(&error))
    }
}

impl Default for HashCost {
    fn default() -> Self {
        Self::OWASP
    }
}

/// Which password an account has, without saying anything about it: the beginning of the SHA-256 of its PHC string.
///
/// Each password that is set has a salt of its own, so each has a version of its own, also the same one again. The salt
/// is in no version, so a version is nothing to try passwords at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordVersion([u8; 8]);

impl PasswordVersion {
    /// The version of the password that is stored so.
    #[must_use]
    pub fn of(phc: &str) -> Self {
        let digest = Sha256::digest(phc);
        Self(*digest.first_chunk().expect("a SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for PasswordVersion {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hashes and verifies passwords on [`HASHING_THREADS`] threads of its own.
///
/// The threads are its own for the sake of memory: each keeps the 19 MiB of a hash for the next one, which the
/// sessions' threads, of which there may be thousands, could not.
pub struct Hasher {
    shared: Arc<Shared>,
    /// No password's hash, verified in place of an unknown account's.
    decoy: String,
}

struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

struct State {
    line: Line<Job>,
    debts: Debts,
    is_ended: bool,
}

/// What a hashing thread is asked to do. Whoever asks waits at the other end of the channel; that it is closed without
/// an answer means that the job had to leave the line.
struct Job {
    password: String,
    /// What it is compared with; without it, it is hashed anew.
    stored: Option<String>,
    done: Sender<Result<Hashed>>,
}

/// What comes of a job.
enum Hashed {
    New(String),
    IsEqual(bool),
}

impl Hasher {
    /// Starts the threads; they end when the hasher is dropped.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system gives no thread or no randomness.
    pub fn new(cost: HashCost) -> Result<Self> {
        let state = State { line: Line::new(HASHES_WAITING), debts: Debts::default(), is_ended: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), grown: Condvar::new() });
        // Random bytes in place of a computed hash: no password leads to them, and verifying costs what it always costs.
        let mut random = [0; Params::DEFAULT_OUTPUT_LEN];
        getrandom::fill(&mut random).map_err(|error| failed(&error))?;
        let output = Output::new(&random).map_err(|error| failed(&error))?;
        let decoy = phc_string(&cost.params()?, &new_salt()?, output)?;
        let hasher = Self { shared, decoy };
        for number in 1..=HASHING_THREADS {
            let shared = Arc::clone(&hasher.shared);
            std::thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || work(&shared, cost))
                .map_err(|error| Error::Database(format!("there is no thread for hashing: {error}")))?;
        }
        Ok(hasher)
    }

    /// The PHC string of a password, with a salt of its own.
    ///
    /// # Errors
    /// [`Error::TooManyPasswords`], [`Error::Busy`]; [`Error::Database`] when the operating system gives no randomness
    /// or no memory.
    pub fn hash(&self, password: &str, orderer: Orderer<'_>) -> Result<String> {
        match self.order(password, None, orderer)? {
            Hashed::New(phc) => Ok(phc),
            Hashed::IsEqual(_) => unreachable!("nothing was compared"),
        }
    }

    /// Whether `password` is the one that `stored` was made of. Without a stored hash the answer is no, at
    /// the same cost.
    ///
    /// # Errors
    /// [`Error::TooManyPasswords`], [`Error::Busy`].
    pub fn verify(&self, password: &str, stored: Option<&str>, orderer: Orderer<'_>) -> Result<bool> {
        match self.order(password, Some(stored.unwrap_or(&self.decoy)), orderer)? {
            Hashed::IsEqual(is_equal) => Ok(is_equal && stored.is_some()),
            Hashed::New(_) => unreachable!("it was compared"),
        }
    }

    /// Puts a job into the line and waits for it, as long as its client is there.
    fn order(&self, password: &str, stored: Option<&str>, orderer: Orderer<'_>) -> Result<Hashed> {
        let ordered = Instant::now();
        let (done, hashed) = bounded(1);
        let job = Job { password: password.to_string(), stored: stored.map(ToString::to_string), done };
        let ticket = {
            let mut state = self.shared.state.lock();
            let debt = state.debts.charge(&orderer, ordered).map_err(Error::TooManyPasswords)?;
            // Whoever has to leave the line learns it by the end of its channel.
            let (ticket, _left) = state.line.enter(job, debt, ordered).map_err(|_| Error::Busy)?;
            ticket
        };
        self.shared.grown.notify_one();
        loop {
            match hashed.recv_timeout(HASH_LOOK) {
                Ok(hashed) => return hashed,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Busy),
                Err(RecvTimeoutError::Timeout) if orderer.has_gone(ordered) => {
                    if self.shared.state.lock().line.leave(ticket).is_some() {
                        return Err(Error::Busy);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.shared.state.lock().is_ended = true;
        self.shared.grown.notify_all();
    }
}

/// One hashing thread.
fn work(shared: &Shared, cost: HashCost) {
    let mut bench = Bench { cost, memory: Vec::new() };
    loop {
        let job = {
            let mut state = shared.state.lock();
            loop {
                if state.is_ended {
                    return;
                }
                match state.line.next(Instant::now()) {
                    Some(job) => break job,
                    None => shared.grown.wait(&mut state),
                }
            }
        };
        let hashed = match &job.stored {
            None => bench.hash(&job.password).map(Hashed::New),
            Some(stored) => Ok(Hashed::IsEqual(bench.is_password(&job.password, stored))),
        };
        // The one who asked may have gone; then nobody misses the answer.
        let _ = job.done.send(hashed);
    }
}

/// What one thread hashes with. The memory of a hash is kept for the next: an allocator that is given 19 MiB
/// back again and again comes to hold several times as much.
struct Bench {
    /// Of new hashes; an old one is verified at the cost that it names.
    cost: HashCost,
    memory: Vec<Block>,
}

impl Bench {
    fn hash(&mut self, password: &str) -> Result<String> {
        let (params, salt) = (self.cost.params()?, new_salt()?);
        let output =
            self.compute(&params, password, &salt, Params::DEFAULT_OUTPUT_LEN).map_err(|error| failed(&error))?;
        phc_string(&params, &salt, output)
    }

    fn is_password(&mut self, password: &str, stored: &str) -> bool {
        self.compare(password, stored).unwrap_or_else(|error| {
            log::error!("a stored password hash cannot be used: {error}");
            false
        })
    }

    fn compare(&mut self, password: &str, stored: &str) -> Result<bool, String> {
        let phc = PasswordHash::new(stored).map_err(|error| error.to_string())?;
        let params = Params::try_from(&phc).map_err(|error| error.to_string())?;
        let (Some(salt), Some(hash)) = (&phc.salt, &phc.hash) else { return Err("salt or hash are missing".into()) };
        let computed = self.compute(&params, password, salt, hash.len())?;
        // Two outputs are compared in constant time.
        Ok(phc.algorithm == Algorithm::Argon2id.ident() && computed == *hash)
    }

    fn compute(&mut self, params: &Params, password: &str, salt: &[u8], length: usize) -> Result<Output, String> {
        let blocks = params.block_count();
        if self.memory.len() < blocks {
            self.memory.resize(blocks, Block::new());
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let mut out = vec![0; length];
        argon2
            .hash_password_into_with_memory(password.as_bytes(), salt, &mut out, &mut self.memory[..blocks])
            .map_err(|error| error.to_string())?;
        Output::new(&out).map_err(|error| error.to_string())
    }
}

fn new_salt() -> Result<[u8; SALT_BYTES]> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| failed(&error))?;
    Ok(salt)
}

/// A hash with all that verifying it needs, as text.
fn phc_string(params: &Params, salt: &[u8], output: Output) -> Result<String> {
    let phc = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(|error| failed(&error))?,
        salt: Some(Salt::new(salt).map_err(|error| failed(&error))?),
        hash: Some(output),
    };
    Ok(phc.to_string())
}

fn failed(error: &dyn fmt::Display) -> Error {
    Error::Database(format!("a password could not be hashed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_a_known_account_is_right() {
        let hasher = Hasher::new(HashCost::OWASP).unwrap();
        let stored = hasher.hash("मेरा पासवर्ड", Orderer::BRANCH).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(hasher.verify("मेरा पासवर्ड", Some(&stored), Orderer::BRANCH).unwrap());
        assert!(!hasher.verify("मेरा पासवर्ड ", Some(&stored), Orderer::BRANCH).unwrap());
        assert!(!hasher.verify("मेरा पासवर्ड", None, Orderer::BRANCH).unwrap());
        assert!(!hasher.verify("x", Some("not a hash"), Orderer::BRANCH).unwrap());
        assert_ne!(stored, hasher.hash("मेरा पासवर्ड", Orderer::BRANCH).unwrap(), "each hash has a salt of its own");
    }
}
