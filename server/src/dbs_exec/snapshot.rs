//! Copying a whole database while it is in use, checking such a copy, and putting it in the place of a database.
//!
//! The copy is made with SQLite's backup interface under one read transaction, so it is of one instant and no writer
//! waits for it. It comes without the replication log, except for the last row, which says where the copy stands.
//!
//! A copy takes a database's place as any other does (`replace.rs`): what was there before is kept under another name,
//! with its log, and at every instant, also in a crash, the next start finds the one or the other.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::duplicate::copy_pages;
use super::schema::{APPLICATION_ID, newest_version};
use super::{DbsExec, Position, open_connection, storage_error};
use crate::dbs_exec::files::database_file::{DatabaseFile, PRIVATE, remove_database};
use crate::dbs_exec::files::replace::{lock_to_replace, replace};
use crate::dbs_exec::replication_log::copy_state::{CopyRole, CopyState, last_position};
use crate::error::{Error, Result};

impl DbsExec {
    /// Copies the database to a new file at `to`, as it is at one instant, while it is in use. Returns where the copy
    /// stands in the replication log.
    ///
    /// # Errors
    /// [`Error::Stopping`] when `should_stop` says so, or what the file fails with.
    pub fn copy_to(&self, to: &Path, should_stop: &dyn Fn() -> bool) -> Result<Option<Position>> {
        let trouble = |error: &dyn std::fmt::Display| Error::Database(format!("{}: {error}", to.display()));
        let opened = open_connection(self.path(), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let from = opened.map_err(|error| trouble(&error))?;
        remove_database(to).map_err(|error| trouble(&error))?;
        // Private whatever the umask.
        OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(to).map_err(|error| trouble(&error))?;
        let mut copy = open_connection(to, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| trouble(&error))?;
        // The read transaction keeps the source at one instant, whatever is committed meanwhile.
        from.execute_batch("BEGIN").map_err(storage_error)?;
        let position = last_position(&from).map_err(storage_error)?;
        if !copy_pages(&from, &mut copy, |_, _| !should_stop()).map_err(storage_error)? {
            return Err(Error::Stopping);
        }
        from.execute_batch("COMMIT").map_err(storage_error)?;
        drop(from);
        strip(&copy).map_err(|error| trouble(&error))?;
        copy.close().map_err(|(_, error)| trouble(&error))?;
        File::open(to).and_then(|file| file.sync_all()).map_err(|error| trouble(&error))?;
        Ok(position)
    }
}

/// Makes the copy one file, without a log of its own, and takes the replication log out.
fn strip(copy: &Connection) -> rusqlite::Result<()> {
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    copy.execute("DELETE FROM replication_log WHERE sequence < (SELECT max(sequence) FROM replication_log)", [])?;
    let (free, all): (i64, i64) = (
        copy.query_row("PRAGMA freelist_count", [], |row| row.get(0))?,
        copy.query_row("PRAGMA page_count", [], |row| row.get(0))?,
    );
    if free * 8 > all {
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
    let trouble = |error: rusqlite::Error| format!("the snapshot cannot be used: {error}");
    let copy = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(trouble)?;
    let number = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(trouble);
    if number("PRAGMA application_id")? != i64::from(APPLICATION_ID) {
        return Err("the snapshot is no database of a bank".into());
    }
    let version = number("PRAGMA user_version")?;
    if version != i64::from(newest_version()) {
        return Err(format!("the snapshot has version {version} and this program {}", newest_version()));
    }
    let verdict: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(trouble)?;
    if verdict != "ok" {
        return Err(format!("the snapshot is damaged: {verdict}"));
    }
    let name: Option<String> =
        copy.query_row("SELECT name FROM branch", [], |row| row.get(0)).optional().map_err(trouble)?;
    if name.as_deref() != Some(branch) {
        return Err(format!(
            "the snapshot is of the branch {}, not of {branch}",
            name.as_deref().unwrap_or("without a name")
        ));
    }
    let position = last_position(&copy).map_err(trouble)?.ok_or("the snapshot does not say where it stands")?;
    let theirs = CopyState::read(&copy).map_err(trouble)?;
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
    copy_state.write(&copy).map_err(trouble)?;
    copy.close().map_err(|(_, error)| trouble(error))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| format!("the snapshot: {error}"))?;
    Ok(position)
}

/// Puts the checked copy at `copy` in the place of the database at `path`, which must be closed. What was there is
/// kept beside it, under the name that is given back.
///
/// # Errors
/// One sentence; the old database is then in its place still.
pub fn put_in_place(copy: &Path, path: &Path, aside_suffix: &str) -> Result<Option<PathBuf>, String> {
    let trouble = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = DatabaseFile::resolve(path).map_err(|error| trouble(&error))?;
    let _lock = lock_to_replace(&file).map_err(|error| trouble(&error))?;
    let kept = file.beside(aside_suffix);
    let had_old = replace(&file, copy, &kept)?;
    Ok(had_old.then_some(kept))
}
