//! Opening a branch's database for writing: the order in which files are locked, looked at and touched.
//!
//! Nothing is written before the lock is held, an interrupted restore is finished, and what is left beside the file is
//! known to belong to it. A new file is made empty and private first, and gets its tables through the write-ahead log,
//! so that a stop in between leaves a file that the next start takes as new.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::bounded;
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};

use crate::dbs_exec::checkpoint::Checkpointer;
use crate::dbs_exec::commit_log::CommitLog;
use crate::dbs_exec::commit_log::elsewhere::{ElsewhereLog, RemoteLog};
use crate::dbs_exec::connection::open_connection;
use crate::dbs_exec::files::database_file::DatabaseFile;
use crate::dbs_exec::files::file_lock::FileLock;
use crate::dbs_exec::files::file_watch::{FileWatch, FileWatcher};
use crate::dbs_exec::files::wal_ownership::{self, Leftover};
use crate::dbs_exec::files::{replace, temporary_file};
use crate::dbs_exec::group::Queue;
use crate::dbs_exec::open_error::OpenError;
use crate::dbs_exec::readers::Readers;
use crate::dbs_exec::replication_log::ReplicationLog;
use crate::dbs_exec::replication_log::copy_state::CopyRole;
use crate::dbs_exec::tx::Reader;
use crate::dbs_exec::wal_gate::WalGate;
use crate::dbs_exec::writer::Writer;
use crate::dbs_exec::{DbsExec, schema};
use crate::error::{Error, Result};

/// Finds what is wrong with books that a log of unknown origin would make; nothing when they are right.
pub type Judge = dyn Fn(&Reader<'_>) -> Result<Vec<String>>;

/// How a database is to be opened.
pub struct Opening<'j> {
    /// Whether none is made where there is none.
    pub must_exist: bool,
    /// Asked before a log is played in of which nobody knows whose it is.
    pub judge: &'j Judge,
    /// The commit log elsewhere, where there is one.
    pub remote_log: Option<Arc<dyn RemoteLog>>,
}

impl Default for Opening<'_> {
    fn default() -> Self {
        Self { must_exist: false, judge: &|_| Ok(Vec::new()), remote_log: None }
    }
}

/// Why the process must stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A commit's outcome is unknown.
    Disk(Error),
    /// The open files are no longer those under their names; how so.
    FilesLost(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::FilesLost(text) => f.write_str(text),
        }
    }
}

impl DbsExec {
    /// Opens the database at `path`, makes it when there is none, and brings it to this version.
    ///
    /// `on_failure` is called once, when nothing may be written any more; it must start the shutdown of the process.
    ///
    /// # Errors
    /// [`OpenError`]: the file is another server's, another program's, newer, read-only, or no database.
    pub fn open(path: &Path, on_failure: impl Fn(&Failure) + Send + Sync + 'static) -> Result<Self, OpenError> {
        Self::open_as(path, &Opening::default(), on_failure)
    }

    /// As [`DbsExec::open`], in the way that `opening` says.
    ///
    /// # Errors
    /// As [`DbsExec::open`].
    pub fn open_as(
        path: &Path,
        opening: &Opening<'_>,
        on_failure: impl Fn(&Failure) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let file = DatabaseFile::resolve(path)?;
        let file_lock = lock_and_check(&file, opening)?;
        // Nothing is ever sent: the end is that the sender is dropped.
        let (ended, end) = bounded(0);
        let connection = connect(&file)?;
        // What is kept in memory beside the database is read before anybody else has the connection.
        let wal_gate = Arc::new(WalGate::default());
        let replication_log = Arc::new(ReplicationLog::open(&connection)?);
        let mut writer = Writer::new(connection, Arc::clone(&wal_gate))?;
        let file_lock = Arc::new(file_lock);
        writer.stamp = Some(wal_ownership::Stamp::new(&file, Arc::clone(&file_lock)));
        // SQLite has made the files beside it by now, and keeps them as long as it is open.
        let watch = Arc::new(FileWatch::new(&file)?);
        writer.watch = Some(Arc::clone(&watch));
        let logins_written = Arc::clone(&writer.logins_written);
        let elsewhere = opening.remote_log.clone();
        let elsewhere = elsewhere.map(|remote| Arc::new(ElsewhereLog { table: Arc::clone(&replication_log), remote }));
        if elsewhere.is_some() {
            // The log elsewhere has each commit before this file does: see `elsewhere.rs`.
            writer.connection.pragma_update(None, "synchronous", "NORMAL")?;
        }
        let writer = Arc::new(Mutex::new(writer));
        // The threads come last: what fails above leaves none behind.
        let checkpointer = Checkpointer::start(&file, Arc::clone(&writer), Arc::clone(&wal_gate))?;
        let (closed, on_failure) = (Arc::new(AtomicBool::new(false)), Arc::new(on_failure) as OnFailure);
        let watcher = watch_files(&watch, &writer, &closed, &on_failure)?;
        Ok(Self {
            watcher,
            queue: Mutex::new(Queue::default()),
            handed_in: OnceLock::new(),
            writer,
            hand_over_ended: Condvar::new(),
            readers: Readers::new(file.path().to_path_buf(), Arc::clone(&wal_gate)),
            wal_gate,
            checkpointer,
            closed,
            commit_log: match &elsewhere {
                Some(elsewhere) => Arc::clone(elsewhere) as Arc<dyn CommitLog>,
                None => Arc::clone(&replication_log) as _,
            },
            elsewhere,
            is_primary: replication_log.copy_state().role == CopyRole::Primary,
            replication_log,
            logins_written,
            on_failure,
            watch,
            path: file.path().to_path_buf(),
            file_lock: Mutex::new(Some(file_lock)),
            end,
            ended: Mutex::new(Some(ended)),
        })
    }
}

/// Told once that nothing may be written any more.
type OnFailure = Arc<dyn Fn(&Failure) + Send + Sync>;

/// Starts the thread that stops the branch when its files are no longer those under their names.
fn watch_files(
    watch: &Arc<FileWatch>,
    writer: &Arc<Mutex<Writer>>,
    closed: &Arc<AtomicBool>,
    on_failure: &OnFailure,
) -> Result<FileWatcher, OpenError> {
    let (writer, closed, on_failure) = (Arc::clone(writer), Arc::clone(closed), Arc::clone(on_failure));
    FileWatcher::start(Arc::clone(watch), move |lost| {
        // With the mutex held no commit is under way, and after it none begins.
        let mut writer = writer.lock();
        if !closed.swap(true, Ordering::SeqCst) {
            let text = writer.abandon(lost);
            drop(writer);
            log::error!("{text}");
            on_failure(&Failure::FilesLost(text));
        }
    })
}

fn lock_and_check(file: &DatabaseFile, opening: &Opening<'_>) -> Result<FileLock, OpenError> {
    // Where nothing is to be made, no lock is left beside nothing either.
    if opening.must_exist && !file.exists() && !replace::is_interrupted(file) {
        wal_ownership::check(file, "")?;
        return Err(OpenError::Missing);
    }
    // The name first: from here on no other program changes which file has it.
    let mut lock = FileLock::acquire_name(file)?;
    // A restore that was broken off is the newer will of whoever ordered it; the old file may be half moved away.
    if let Some(kept) = replace::finish(file)? {
        log::warn!(
            "{}: another database was being put in its place when that was broken off; it is done now, and the one before is {}",
            file.path().display(),
            kept.display()
        );
    }
    // Now the file, which a hard link elsewhere leads to as well, and before SQLite opens it.
    lock.lock_file(file)?;
    // Before SQLite opens it, too: it would play in any log that it finds there.
    match wal_ownership::check(file, &lock.text()?)? {
        Leftover::Nothing => {}
        Leftover::Own => log::info!("the branch was not closed: its newest commits are taken from the log beside it"),
        Leftover::Unknown => wal_ownership::judge(file, opening.judge)?,
    }
    if !file.exists() {
        // What the lock file says is of a database that is gone for good.
        wal_ownership::forget(&lock)?;
        file.make()?;
        lock.lock_file(file)?;
    }
    file.shut_out_others();
    clear_away(file);
    Ok(lock)
}

/// Opens the connection that will write, in WAL mode, with the newest tables.
fn connect(file: &DatabaseFile) -> Result<Connection, OpenError> {
    let mut connection = open_connection(file.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(OpenError::ReadOnly);
    }
    // Another program's file stays as it is.
    if !schema::is_empty(&connection)? {
        schema::recognise(&connection)?;
    }
    // Only in this mode do readers and the writer not wait for each other; it stays with the file.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// Removes what killed processes have left in the database's folder, and the copies for replicas that a killed branch
/// has left: under the lock, nobody makes one.
fn clear_away(file: &DatabaseFile) {
    temporary_file::sweep(file.folder());
    let outgoing = file.beside(".outgoing-");
    let Some(prefix) = outgoing.file_name().and_then(|name| name.to_str()) else { return };
    let Ok(entries) = fs::read_dir(file.folder()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))
            && let Err(error) = fs::remove_file(entry.path())
        {
            log::warn!("{}: {error}", entry.path().display());
        }
    }
}
