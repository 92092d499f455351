//! A lock against a second program on the same database, whatever name it gives it.
//!
//! Two locks of the operating system, which releases them when the process ends, however it ends: one on a file of its
//! own beside the database, which also guards a database that doesn't exist yet and the change from one file to
//! another; and one on the database file itself, which a hard link or a mount elsewhere leads to as well. The second
//! one is taken before SQLite opens the file and given back after SQLite has closed it: closing any handle of the file
//! would drop the POSIX locks that SQLite holds on it. (<https://www.sqlite.org/howtocorrupt.html>, 2.2)
//!
//! The file beside the database also holds the mark that tells whose the log beside it is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::dbs_exec::files::database_file::DatabaseFile;
use crate::dbs_exec::open_error::OpenError;

/// More than a lock file of ours holds, in bytes.
const LOCK_FILE_BYTES: u64 = 4_096;

/// Held as long as the database is open.
#[derive(Debug)]
pub struct FileLock {
    name: File,
    inode: Option<File>,
}

/// Held while a database at rest is looked at; no server starts on it meanwhile.
#[derive(Debug)]
pub(in crate::dbs_exec) struct SharedLock {
    _name: Option<File>,
    _inode: File,
}

impl FileLock {
    /// Locks the name of a database, which need not exist: the file that has it once an interrupted change of files is
    /// finished is still to be locked ([`FileLock::lock_file`]).
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process has it, [`OpenError::Io`] when the lock file can't be made.
    pub(in crate::dbs_exec) fn acquire_name(file: &DatabaseFile) -> Result<Self, OpenError> {
        let path = file.beside(".lock");
        let name = file.open_beside(&path)?;
        // At once or not at all: whoever has it serves the bank, and that may last for years.
        try_lock(&name, &path)?;
        Ok(Self { name, inode: None })
    }

    /// Locks the database's file itself, if there is one.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process has it, [`OpenError::SeveralNames`] when it is hard-linked.
    pub(in crate::dbs_exec) fn lock_file(&mut self, file: &DatabaseFile) -> Result<(), OpenError> {
        let inode = match File::open(file.path()) {
            Ok(inode) => inode,
            // The name is locked, so nobody makes the file before this one does.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // SQLite's log stands beside one name only: opened by another, the newest commits would be missing.
        let names = inode.metadata()?.nlink();
        if names > 1 {
            return Err(OpenError::SeveralNames(names));
        }
        try_lock(&inode, file.path())?;
        self.inode = Some(inode);
        Ok(())
    }

    /// What was written into the lock file.
    pub(in crate::dbs_exec) fn text(&self) -> io::Result<String> {
        let mut file = &self.name;
        file.rewind()?;
        read_text(file)
    }

    /// Writes into the lock file, durably.
    pub(in crate::dbs_exec) fn set_text(&self, text: &str) -> io::Result<()> {
        let mut file = &self.name;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
        file.sync_all()
    }
}

impl SharedLock {
    /// Locks a database that exists against being served, without making anything; nothing when it is served just now.
    pub(in crate::dbs_exec) fn acquire(file: &DatabaseFile) -> Result<Option<Self>, OpenError> {
        let name = match OpenOptions::new().read(true).open(file.beside(".lock")) {
            Ok(name) => Some(name),
            // Whoever may read the database and not the lock has the other lock still.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => None,
            Err(error) => return Err(error.into()),
        };
        let inode = File::open(file.path())?;
        for one in name.iter().chain([&inode]) {
            match one.try_lock_shared() {
                Ok(()) => {}
                // Served just now: then it is read as any of its server's readers does.
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Ok(Some(Self { _name: name, _inode: inode }))
    }
}

/// What the lock file of a database says, for who holds no lock.
pub(in crate::dbs_exec) fn lock_text(file: &DatabaseFile) -> io::Result<String> {
    match File::open(file.beside(".lock")) {
        Ok(lock) => read_text(&lock),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(String::new())
        }
        Err(error) => Err(error),
    }
}

fn read_text(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(LOCK_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn try_lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(OpenError::Io(error)),
    }
}

/// Whether nobody holds a lock on this file, so that whoever made it is gone.
pub(in crate::dbs_exec) fn is_abandoned(path: &PathBuf) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
        && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}
