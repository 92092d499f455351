//! Why a database could not be opened. Each message says what to do next.

use protocol::io_words::IoWords;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rusqlite::ffi;

/// Why a database could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another program of the bank has this database open; the file that it has locked.
    InUse(PathBuf),
    /// The file is a database of another program.
    Foreign,
    /// The file is of a newer version of this program.
    Newer {
        /// The file's version.
        version: u32,
        /// The newest version that this program knows.
        newest: u32,
    },
    /// There is no such database, and none is to be made.
    Missing,
    /// The file can be read and not written.
    ReadOnly,
    /// The file holds something else than a database.
    NotADatabase,
    /// The name doesn't name a plain file; how so.
    Unusable(String),
    /// The file has so many names (hard links).
    SeveralNames(u64),
    /// The file is empty, and a bank was in it.
    Emptied,
    /// The database was removed while a branch had it open; its lock file says so.
    Lost(PathBuf),
    /// There is no database, and this log or journal of one.
    LogAlone(PathBuf),
    /// This log or journal is of another database, or of another state of this one.
    StrangeLog(PathBuf),
    /// A restore was broken off here, and only who may write can finish it.
    Interrupted,
    /// A copy to look at has no room in this folder.
    NoRoom(PathBuf),
    /// The disk is full; nothing was changed.
    DiskFull,
    /// The file, or its folder, may not be used so by this user.
    Permission,
    /// The file or its folder cannot be opened.
    Io(io::Error),
    /// SQLite failed.
    Sqlite(rusqlite::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(lock) => write!(
                f,
                "another program of the bank has this database open (it holds {}); stop it first, or name another database with --db",
                lock.display()
            ),
            Self::Foreign => f.write_str("this is another program's SQLite database; name another file with --db"),
            Self::Newer { version, newest } => write!(
                f,
                "this database has version {version}, made by a newer program; this one knows versions up to {newest}: use the newer program"
            ),
            Self::Missing => f.write_str("there is no such database; name it with --db or --name"),
            Self::ReadOnly => f.write_str("this database cannot be written; check the permissions of the file and its folder"),
            Self::NotADatabase => {
                f.write_str("this file is no SQLite database; name another with --db, or move it away")
            }
            Self::Unusable(what) => write!(f, "{what}; name a database file with --db"),
            Self::SeveralNames(count) => write!(
                f,
                "this file has {count} names (hard links), and the newest commits stand beside one of them only: remove the other names, or copy the file, so that it has one"
            ),
            Self::Emptied => f.write_str(
                "this file is empty, and a bank was in it: put a backup in its place (bank-server restore --force), or remove the file to begin a new bank",
            ),
            Self::Lost(lock) => write!(
                f,
                "the database was removed or renamed while the branch had it open: put it back, or restore a backup in its place; remove {} to begin a new bank",
                lock.display()
            ),
            Self::LogAlone(log) => write!(
                f,
                "the database is gone, and its log {} is left, which holds its newest commits: bring the database back beside it; or move the log elsewhere, to restore a backup or to begin a new bank",
                log.display()
            ),
            Self::StrangeLog(log) => write!(
                f,
                "the log {} is not of this database as it is: it is another database's, or this file was put in the place of the one that it belongs to. Bring that one back beside it; or move the log elsewhere, to go on with this file without what is in the log",
                log.display()
            ),
            Self::Interrupted => f.write_str(
                "a restore was broken off here, and is finished by the next start of the branch, or by the same restore once more",
            ),
            Self::NoRoom(folder) => write!(
                f,
                "a copy is needed to look at it without changing it, and {} has no room for one: name another folder with TMPDIR",
                folder.display()
            ),
            Self::DiskFull => f.write_str("the disk is full, and nothing was changed: make room and try again"),
            Self::Permission => f.write_str(
                "permission denied: this user may not use this file or its folder; run this as the user that the database belongs to",
            ),
            Self::Io(error) => write!(f, "{}; check the path", IoWords(error)),
            Self::Sqlite(error) => {
                write!(f, "SQLite cannot use this file ({error}); if no other program has it open, it is damaged: put a backup in its place (bank-server restore --force)")
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // What the operator can mend is told as that; the rest keeps SQLite's own words.
            Some(ffi::ErrorCode::NotADatabase) => Self::NotADatabase,
            Some(ffi::ErrorCode::DiskFull) => Self::DiskFull,
            Some(ffi::ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ffi::ErrorCode::PermissionDenied | ffi::ErrorCode::CannotOpen) => Self::Permission,
            Some(_) | None => Self::Sqlite(error),
        }
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error),
        }
    }
}
