//! A lock against a second server on the same database.
//!
//! The lock is on a file of its own beside the database: closing any handle of the database file itself
//! would drop the POSIX locks that SQLite holds on it. The operating system releases the lock when the
//! process ends, however it ends, so a crash leaves nothing to clean up; the empty file stays.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::OpenError;

/// Held as long as the database is open.
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Locks the database at `path`, which need not exist.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process has it, [`OpenError::Io`] when the lock file can't be made.
    pub fn acquire(path: &Path) -> Result<Self, OpenError> {
        let lock_path = lock_path(path)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(lock_path)),
            Err(TryLockError::Error(error)) => Err(OpenError::Io(error)),
        }
    }
}

/// `bank.db` gives `bank.db.lock`, after links are followed: two names of one file have one lock.
fn lock_path(path: &Path) -> std::io::Result<PathBuf> {
    let resolved = match path.canonicalize() {
        Ok(resolved) => resolved,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => path.to_path_buf(),
        Err(error) => return Err(error),
    };
    let mut name = resolved.into_os_string();
    name.push(".lock");
    Ok(name.into())
}
