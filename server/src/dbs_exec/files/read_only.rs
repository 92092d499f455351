//! Reading a database that this process doesn't serve, without leaving a trace.
//!
//! SQLite makes an index beside a database that has a log, and moves the log into the file when it closes; a migration
//! changes the file altogether. A reader must do none of it: an audit of a backup leaves the backup as it is, on a disk
//! that can't be written too. So a database at rest is opened as a file that never changes (`immutable=1`), under a
//! lock that keeps servers away; and where that isn't enough, because a log is left beside it or its version is an
//! older one, a copy in a temporary folder of its own is read. A database that is served just now is read
//! through the log, as any reader does.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::dbs_exec::connection::{open_connection, open_immutable};
use crate::dbs_exec::files::database_file::{Companion, DatabaseFile, PRIVATE};
use crate::dbs_exec::files::file_lock::{SharedLock, lock_text};
use crate::dbs_exec::files::{replace, wal_ownership};
use crate::dbs_exec::open_error::OpenError;
use crate::dbs_exec::schema::{self, newest_version};
use crate::dbs_exec::tx::Reader;
use crate::error::Result;

/// How the folders of copies that are read begin, in the system's folder of temporary files.
const SCRATCH_PREFIX: &str = "bank-look-";

/// A database that is only read.
pub struct ReadOnlyDatabase {
    connection: Connection,
    // In this order: the connection is closed before the files go and the lock is given back.
    scratch: Option<Scratch>,
    lock: Option<SharedLock>,
}

impl ReadOnlyDatabase {
    /// Opens the database, in whatever version it is.
    ///
    /// # Errors
    /// [`OpenError`]: there is none, it is another program's, newer, or somebody has to see to its files first.
    pub fn open(path: &Path) -> std::result::Result<Self, OpenError> {
        let file = DatabaseFile::resolve(path)?;
        if !file.exists() {
            // A log without a database is worth a better sentence than that there is none.
            wal_ownership::check(&file, "")?;
            return Err(OpenError::Missing);
        }
        let database = match SharedLock::acquire(&file)? {
            None => {
                let connection = open_connection(file.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                // SQLite needs a connection that may write to take part in its server's log; this keeps it from
                // writing.
                connection.execute_batch("PRAGMA query_only = ON")?;
                Self { connection, scratch: None, lock: None }
            }
            Some(lock) => Self::at_rest(&file, lock)?,
        };
        schema::recognise(&database.connection)?;
        Ok(database)
    }

    /// As [`ReadOnlyDatabase::open`], in this program's version, for who asks more than an older one can answer.
    ///
    /// # Errors
    /// As [`ReadOnlyDatabase::open`].
    pub fn open_newest(path: &Path) -> std::result::Result<Self, OpenError> {
        let database = Self::open(path)?;
        let version: u32 = database.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == newest_version() {
            return Ok(database);
        }
        let scratch = match database.scratch {
            Some(scratch) => scratch,
            None => Scratch::copy(&DatabaseFile::resolve(path)?)?,
        };
        // Before the copy is opened to be changed: the two may be of one file.
        drop(database.connection);
        let mut connection = open_connection(&scratch.database(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::migrate(&mut connection)?;
        Ok(Self { connection, scratch: Some(scratch), lock: database.lock })
    }

    /// Opens a file without what may stand beside it, and without a lock, which the caller has: for what never changes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_alone(path: &Path) -> std::result::Result<Self, OpenError> {
        Ok(Self { connection: open_immutable(path)?, scratch: None, lock: None })
    }

    fn at_rest(file: &DatabaseFile, lock: SharedLock) -> std::result::Result<Self, OpenError> {
        if replace::is_interrupted(file) {
            return Err(OpenError::Interrupted);
        }
        let (connection, scratch) = match wal_ownership::check(file, &lock_text(file)?)? {
            // The file is the whole database.
            wal_ownership::Leftover::Nothing => (open_immutable(file.path())?, None),
            // The newest commits are in the log, which SQLite plays in where it opens it: so into a copy.
            wal_ownership::Leftover::Own | wal_ownership::Leftover::Unknown => {
                let scratch = Scratch::copy(file)?;
                (open_connection(&scratch.database(), OpenFlags::SQLITE_OPEN_READ_WRITE)?, Some(scratch))
            }
        };
        Ok(Self { connection, scratch, lock: Some(lock) })
    }

    /// Whether a server has it open.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.lock.is_none()
    }

    pub(in crate::dbs_exec) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs `read` on one snapshot.
    ///
    /// # Errors
    /// `read`'s own, or [`crate::error::Error::Database`].
    pub fn read<T>(&self, read: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        let snapshot = self.connection.unchecked_transaction().map_err(crate::dbs_exec::connection::storage_error)?;
        read(&Reader::new(&snapshot))
    }
}

/// A copy in a folder of its own, which goes with it.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Copies a database at rest with what is beside it.
    fn copy(file: &DatabaseFile) -> std::result::Result<Self, OpenError> {
        // A copy of the books must not stay in the folder of temporary files because somebody was killed.
        sweep_scratch();
        let folder = std::env::temp_dir();
        let number = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
        let folder = folder.join(format!("{SCRATCH_PREFIX}{}-{number:08x}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let scratch = Self { folder };
        let full = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::NoRoom(std::env::temp_dir()),
            _ => error.into(),
        };
        for (from, ending) in [
            (file.path().to_path_buf(), ""),
            (file.companion(Companion::Log), Companion::Log.ending()),
            (file.companion(Companion::Journal), Companion::Journal.ending()),
        ] {
            match File::open(&from) {
                Ok(mut from) => {
                    let to = crate::dbs_exec::files::database_file::beside(&scratch.database(), ending);
                    let mut to = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(to)?;
                    io::copy(&mut from, &mut to).map_err(full)?;
                }
                // Most databases at rest have neither log nor journal.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !ending.is_empty() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(scratch)
    }

    fn database(&self) -> PathBuf {
        self.folder.join("copy.db")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            log::warn!("{}: {error}", self.folder.display());
        }
    }
}

/// Removes the copies of processes that were killed.
fn sweep_scratch() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX)) else { continue };
        let Some(process) = number.split('-').next().and_then(|process| process.parse().ok()) else { continue };
        // Another user's can't be removed, and are not ours.
        if !crate::dbs_exec::files::temporary_file::is_running(process)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
