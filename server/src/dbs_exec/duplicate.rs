//! Copying a whole database, also one that a running branch is writing to.
//!
//! The copy is one snapshot: a read transaction is held from the first page to the last, so SQLite's backup
//! never has to begin anew however much is written meanwhile, and no writer waits for it. What it costs the
//! branch is that the log can't be wholly put away until the copy is done.
//! (<https://www.sqlite.org/c3ref/backup_finish.html>, and <https://www.sqlite.org/wal.html> on long readers.)

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::readers::Readers;
use super::{OpenError, Reader, open_connection, schema};
use crate::error::Result;
use crate::limits::{BUSY_TIMEOUT, COPY_PAGES, COPY_PAUSE};

/// Copies the database at `from` to the new file `to`, which only this user may read, and forces it to disk.
/// The copy is one file: it needs no log beside it. `progress` is told how many pages are done, of how many.
///
/// # Errors
/// [`OpenError`]: `from` is no database of this bank, `to` exists, or a disk failed. A file that was begun is left.
pub fn copy_database(from: &Path, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), OpenError> {
    // Opened for writing where that is allowed, so that a database at rest is left without a log again.
    let source = open_connection(from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    source.execute_batch("PRAGMA query_only = ON; BEGIN")?;
    schema::recognise(&source)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut target = open_connection(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // A crash leaves a file that nobody uses; so it is forced to disk once, at the end.
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    copy_pages(&source, &mut target, |done, all| {
        progress(done, all);
        true
    })?;
    // The copied header says that there is a log beside the file.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    target.close().map_err(|(_, error)| error)?;
    file.sync_all()?;
    Ok(())
}

/// Copies every page. `go_on` is told how many are done, of how many, and may end it; gives whether it let it finish.
///
/// # Errors
/// SQLite's, also when another program keeps a lock on one of the files for [`BUSY_TIMEOUT`].
pub(super) fn copy_pages(
    source: &Connection,
    target: &mut Connection,
    mut go_on: impl FnMut(u64, u64) -> bool,
) -> rusqlite::Result<bool> {
    let backup = Backup::new(source, target)?;
    let mut pauses_left = BUSY_TIMEOUT.as_millis() / COPY_PAUSE.as_millis();
    loop {
        let step = backup.step(COPY_PAGES)?;
        let pages = backup.progress();
        let count = |pages: std::ffi::c_int| u64::try_from(pages).unwrap_or_default();
        let may_go_on = go_on(count(pages.pagecount - pages.remaining), count(pages.pagecount));
        match step {
            StepResult::Done => return Ok(true),
            _ if !may_go_on => return Ok(false),
            StepResult::More => {}
            // The enum is another crate's; the rest of it means that a lock is held for a moment.
            _ if pauses_left > 0 => {
                pauses_left -= 1;
                std::thread::sleep(COPY_PAUSE);
            }
            _ => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, Some("another program has locked the file".into())));
            }
        }
    }
}

/// Runs `look` on a database that no branch serves, such as a copy.
///
/// # Errors
/// `look`'s own, or [`crate::error::Error::Database`].
pub fn look_into<T>(path: &Path, look: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
    Readers::new(path.to_path_buf()).read(look)
}

/// Moves the log of a database at rest into its file, as a clean stop does, so that the file is whole by itself.
///
/// # Errors
/// [`OpenError`] when SQLite can't use the file.
pub fn put_log_away(path: &Path) -> Result<(), OpenError> {
    let connection = open_connection(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}
