//! Snapshots: a whole database copied while it is in use, checked, and put in the place of another.
//!
//! A copy is made with SQLite's backup interface under one read transaction that is held from the first page to the
//! last. So it is of one instant, the backup never has to begin anew however much is written meanwhile, and no writer
//! waits for it. What it costs the branch is that the WAL can't begin anew until the copy is done.
//! (<https://www.sqlite.org/c3ref/backup_finish.html>, and <https://www.sqlite.org/wal.html> on long readers.)
//!
//! Two are asked for: one for a replica, which leaves out the replication log but for the last row, which says where the
//! copy stands ([`DbsExec::copy_to`]); and one for a backup, which is brought to this program's version before anybody
//! judges or uses it, because an older one has tables missing ([`copy_database`]).
//!
//! A copy takes a database's place as any other does (`replace.rs`): what was there before is kept under another name,
//! with its log, and at every instant, also in a crash, the next start finds the one or the other.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use crate::dbs_exec::DbsExec;
use crate::dbs_exec::commit_log::group_log::Position;
use crate::dbs_exec::connection::{open_connection, storage_error};
use crate::dbs_exec::files::database_file::{DatabaseFile, PRIVATE, remove_database};
use crate::dbs_exec::files::read_only::ReadOnlyDatabase;
use crate::dbs_exec::files::replace::{lock_to_replace, replace};
use crate::dbs_exec::files::temporary_file::TemporaryFile;
use crate::dbs_exec::open_error::OpenError;
use crate::dbs_exec::replication_log::copy_state::{CopyRole, CopyState, last_position};
use crate::dbs_exec::schema::{self, APPLICATION_ID, newest_version};
use crate::error::{Error, Result};
use crate::limits::{BUSY_TIMEOUT, COPY_PAGES, COPY_PAUSE};

impl DbsExec {
    /// Copies the database to a new file at `to`, as it is at one instant, while it is in use. Returns where the copy
    /// stands in the replication log.
    ///
    /// # Errors
    /// [`Error::Stopping`] when `should_stop` says so, or what the file fails with.
    pub fn copy_to(&self, to: &Path, should_stop: &dyn Fn() -> bool) -> Result<Option<Position>> {
        let failed = |error: &dyn std::fmt::Display| Error::Database(format!("{}: {error}", to.display()));
        let opened = open_connection(self.path(), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let source = opened.map_err(|error| failed(&error))?;
        // What a copy that was broken off has left under this name.
        remove_database(to).map_err(|error| failed(&error))?;
        // Private whatever the umask.
        OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(to).map_err(|error| failed(&error))?;
        let copied = copy(&source, to, |_, _| !should_stop()).map_err(|error| match error {
            // A full disk is told as one: the primary goes on when there is space again.
            OpenError::Sqlite(error) => storage_error(error),
            OpenError::DiskFull => Error::DiskFull,
            other => failed(&other),
        })?;
        let target = copied.ok_or(Error::Stopping)?;
        drop(source);
        // In the copy, not here: the branch has gone on meanwhile.
        let position = last_position(&target).map_err(storage_error)?;
        strip(&target).map_err(|error| failed(&error))?;
        target.close().map_err(|(_, error)| failed(&error))?;
        File::open(to).and_then(|file| file.sync_all()).map_err(|error| failed(&error))?;
        Ok(position)
    }
}

/// Copies the database that `source` reads to a temporary file beside `to`, in this program's version, and forces it to
/// disk. The copy is one file: it needs no log beside it. `progress` is told how many pages are done, of how many.
///
/// # Errors
/// [`OpenError`]: the file can't be made, or a disk failed.
pub fn copy_database(
    source: &ReadOnlyDatabase,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<TemporaryFile, OpenError> {
    let file = TemporaryFile::make(to)?;
    let copied = copy(source.connection(), file.path(), |done, all| {
        progress(done, all);
        true
    })?;
    let mut target = copied.expect("nobody ends it before its end");
    schema::migrate(&mut target)?;
    target.close().map_err(|(_, error)| error)?;
    file.sync()?;
    Ok(file)
}

/// Copies a database, as it is at one instant, over the empty file at `to`. `go_on` is told how many pages are done, of
/// how many, and may end it: then there is no copy.
fn copy(source: &Connection, to: &Path, go_on: impl FnMut(u64, u64) -> bool) -> Result<Option<Connection>, OpenError> {
    let mut target = open_connection(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // A crash leaves a file that nobody uses; so it is forced to disk once, by the caller, at the end.
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    // The read transaction keeps the source at one instant, whatever is committed meanwhile.
    source.execute_batch("BEGIN")?;
    if !copy_pages(source, &mut target, go_on)? {
        return Ok(None);
    }
    // The copied header says that there is a log beside the file.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    Ok(Some(target))
}

/// Copies every page. Returns whether `go_on` let it come to its end.
///
/// # Errors
/// SQLite's, also when another program keeps a lock on one of the files for [`BUSY_TIMEOUT`].
fn copy_pages(
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

/// Takes the replication log out of a copy, but for the last row, and gives the space back where it was much.
fn strip(copy: &Connection) -> rusqlite::Result<()> {
    copy.execute("DELETE FROM replication_log WHERE sequence < (SELECT max(sequence) FROM replication_log)", [])?;
    let pages = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0));
    // To write the whole copy once more is worth it only where an eighth of what is sent would be empty.
    if pages("PRAGMA freelist_count")? * 8 > pages("PRAGMA page_count")? {
        copy.execute_batch("VACUUM")?;
    }
    Ok(())
}

/// Checks a copy that came from elsewhere, and makes it a replica of the primary at `primary`, to take the place of one
/// that stands as `replaced`. Returns where it stands.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn check_copy(path: &Path, branch: &str, primary: &str, replaced: &CopyState) -> Result<Position, String> {
    let failed = |error: rusqlite::Error| format!("the snapshot cannot be used: {error}");
    let copy = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let number = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    // From the cheapest look to the most expensive one; the first that fails has said enough.
    if number("PRAGMA application_id")? != i64::from(APPLICATION_ID) {
        return Err("the snapshot is no database of a bank".into());
    }
    let version = number("PRAGMA user_version")?;
    // Statements of another version's tables could not be executed on these.
    if version != i64::from(newest_version()) {
        return Err(format!("the snapshot has version {version} and this program {}", newest_version()));
    }
    let verdict: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(format!("the snapshot is damaged: {verdict}"));
    }
    let name: Option<String> =
        copy.query_row("SELECT name FROM branch", [], |row| row.get(0)).optional().map_err(failed)?;
    // Another branch's books under this name would be answered from as if they were this one's.
    // One without a name is of a branch that was never open: a log elsewhere begins with that.
    if name.as_deref().is_some_and(|name| name != branch) {
        return Err(format!(
            "the snapshot is of the branch {}, not of {branch}",
            name.as_deref().unwrap_or("without a name")
        ));
    }
    let position = last_position(&copy).map_err(failed)?.ok_or("the snapshot does not say where it stands")?;
    let theirs = CopyState::read(&copy).map_err(failed)?;
    // What the primary's row says of its role is true of the primary. The epochs are the primary's; how this copy was
    // started is its own.
    let copy_state = CopyState {
        role: CopyRole::Replica,
        is_logging: true,
        primary: Some(primary.to_string()),
        promoted_from: None,
        diverged: None,
        wants_snapshot: false,
        started_with: replaced.started_with.clone(),
        ..theirs
    };
    copy_state.write(&copy).map_err(failed)?;
    copy.close().map_err(|(_, error)| failed(error))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| format!("the snapshot: {error}"))?;
    Ok(position)
}

/// Puts the checked copy at `copy` in the place of the database at `path`, which must be closed. What was there is
/// kept beside it, under the name that is given back.
///
/// # Errors
/// One sentence; the old database is then in its place still.
pub fn put_in_place(copy: &Path, path: &Path, aside_suffix: &str) -> Result<Option<PathBuf>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = DatabaseFile::resolve(path).map_err(|error| failed(&error))?;
    let _lock = lock_to_replace(&file).map_err(|error| failed(&error))?;
    let kept = file.beside(aside_suffix);
    let had_old = replace(&file, copy, &kept)?;
    Ok(had_old.then_some(kept))
}
