//! Copying a whole database, also one that a running branch is writing to.
//!
//! The copy is one snapshot: a read transaction is held from the first page to the last, so SQLite's backup
//! never has to begin anew however much is written meanwhile, and no writer waits for it. What it costs the
//! branch is that the log can't be wholly put away until the copy is done.
//! (<https://www.sqlite.org/c3ref/backup_finish.html>, and <https://www.sqlite.org/wal.html> on long readers.)
//!
//! The copy is brought to this program's version before anybody judges or uses it: an older one has tables missing.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{OpenError, open_connection, schema};
use crate::dbs_exec::files::read_only::ReadOnlyDatabase;
use crate::dbs_exec::files::temporary_file::TemporaryFile;
use crate::limits::{BUSY_TIMEOUT, COPY_PAGES, COPY_PAUSE};

/// Copies the database that `source` looks at to a temporary file beside `to`, in this program's version, and forces it to disk.
/// The copy is one file: it needs no log beside it. `progress` is told how many pages are done, of how many.
///
/// # Errors
/// [`OpenError`]: the file can't be made, or a disk failed.
pub fn copy_database(
    source: &ReadOnlyDatabase,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<TemporaryFile, OpenError> {
    source.connection().execute_batch("BEGIN")?;
    let copy = TemporaryFile::make(to)?;
    let mut target = open_connection(copy.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // A crash leaves a file that nobody uses; so it is forced to disk once, at the end.
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    copy_pages(source.connection(), &mut target, |done, all| {
        progress(done, all);
        true
    })?;
    // The copied header says that there is a log beside the file.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    schema::migrate(&mut target)?;
    target.close().map_err(|(_, error)| error)?;
    copy.sync()?;
    Ok(copy)
}

/// Copies every page. `go_on` is told how many are done, of how many, and may end it; returns whether it let it finish.
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
