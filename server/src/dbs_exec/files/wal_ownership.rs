//! What an earlier process has left beside a database, and whether it belongs to it.
//!
//! SQLite plays any sound log into the file beside which it stands: after a crash that is what saves the last commits,
//! and after somebody has put another file in the database's place it makes one bank of two. Nothing in SQLite's
//! formats ties the two together, so it is done here: with the first commit of each generation of logs, the branch
//! writes an id that it draws into the database, where it reaches the file before the log begins anew, and into the
//! lock file. A log is played in without a further question only when
//! - the id in the file itself, read without the log, is the one of the lock file: the file is the one that was open;
//! - the log's generation is one of that opening's: its first salt and its sequence grow together with each restart of
//!   the log, so their difference stays (<https://www.sqlite.org/fileformat2.html#walformat>, `walRestartHdr`).
//!
//! Where the lock file says nothing (a bank that was moved together with its log) the books decide, before anything is
//! written; where it contradicts, a person does. A log without a database is never touched.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use crate::dbs_exec::connection::open_immutable;
use crate::dbs_exec::files::database_file::{Companion, DatabaseFile, length};
use crate::dbs_exec::files::file_lock::FileLock;
use crate::dbs_exec::open_error::OpenError;

/// The log's header, in bytes: without more than that it holds nothing.
const LOG_HEADER: usize = 32;
/// How a rollback journal begins that is to be played back.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// Stands for the id of a database that has none yet.
const NO_ID: &str = "-";

/// What is beside a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dbs_exec) enum Leftover {
    /// Nothing that SQLite would play in.
    Nothing,
    /// What the database's last opening has left.
    Own,
    /// A log of which nobody knows: the books must tell.
    Unknown,
}

/// What the lock file says about the log: the ids that the file may have, and the difference of the log's first salt and
/// its sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LockRecord {
    ids: Vec<String>,
    generation: Option<u32>,
    /// The database was removed or replaced while it was open.
    is_lost: bool,
}

impl LockRecord {
    fn parse(text: &str) -> Self {
        let mut mark = Self::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("opened", ids)) => mark.ids = ids.split(' ').map(ToOwned::to_owned).collect(),
                Some(("lost", _)) => mark.is_lost = true,
                Some(("log", generation)) => mark.generation = generation.parse().ok(),
                Some(_) | None => {}
            }
        }
        mark
    }

    fn text(&self) -> String {
        let generation = self.generation.map_or_else(String::new, |generation| format!("log {generation}\n"));
        let lost = if self.is_lost { "lost while open\n" } else { "" };
        format!("opened {}\n{generation}{lost}", self.ids.join(" "))
    }
}

/// Looks at what is beside the database, before anything opens it. `lock_text` is what its lock file says.
///
/// # Errors
/// [`OpenError::LogAlone`], [`OpenError::Emptied`], [`OpenError::StrangeLog`]; [`OpenError::Io`] when the files fail.
pub(in crate::dbs_exec) fn check(file: &DatabaseFile, lock_text: &str) -> Result<Leftover, OpenError> {
    let (log, journal) = (file.companion(Companion::Log), file.companion(Companion::Journal));
    let mark = LockRecord::parse(lock_text);
    let has_log = length(&log)?.is_some_and(|length| length > 0);
    let is_journal_hot = starts_with(&journal, &JOURNAL_MAGIC)?;
    match length(file.path())? {
        // It holds pages of a database that somebody has taken away, and will want to play back.
        None if is_journal_hot => return Err(OpenError::LogAlone(journal)),
        // SQLite deletes the log of an empty file.
        None | Some(0) if has_log => return Err(OpenError::LogAlone(log)),
        // A new bank in its place would look as if all money were gone.
        None if mark.is_lost => return Err(OpenError::Lost(file.beside(".lock"))),
        // A new file is empty too, but nothing is known of it yet.
        Some(0) if !mark.ids.is_empty() => return Err(OpenError::Emptied),
        None | Some(0) => return Ok(Leftover::Nothing),
        Some(_) => {}
    }
    if is_journal_hot {
        if !is_of_a_change_of_mode(file.path(), &journal)? {
            return Err(OpenError::StrangeLog(journal));
        }
        return Ok(Leftover::Own);
    }
    let Some(header) = log_header(&log)? else { return Ok(Leftover::Nothing) };
    // Moved here together with its log, or brought back: nothing here tells whose the log is.
    if mark.ids.is_empty() || mark.is_lost {
        return Ok(Leftover::Unknown);
    }
    match id_in_file(file.path()) {
        Ok(id) if mark.ids.contains(&id) => {}
        // The file is another one than was open: the log would make one bank of two.
        Ok(_) => return Err(OpenError::StrangeLog(log)),
        // The books will say it better.
        Err(_) => return Ok(Leftover::Unknown),
    }
    Ok(if mark.generation == Some(header) { Leftover::Own } else { Leftover::Unknown })
}

/// Writes a new id into the database and the lock file, with the first commit of each generation of logs.
#[derive(Debug)]
pub(in crate::dbs_exec) struct Stamp {
    lock: Arc<FileLock>,
    log: PathBuf,
    mark: LockRecord,
    /// Whether the id is in the log, perhaps not in the file; else nothing was written since the log began.
    is_written: bool,
}

impl Stamp {
    pub(in crate::dbs_exec) fn new(file: &DatabaseFile, lock: Arc<FileLock>) -> Self {
        Self { lock, log: file.companion(Companion::Log), mark: LockRecord::default(), is_written: false }
    }

    /// Within a transaction that is about to be committed: writes the id along, if none was written since the opening.
    pub(in crate::dbs_exec) fn before_commit(&mut self, connection: &Connection) -> Result<(), OpenError> {
        if self.is_written {
            return Ok(());
        }
        let before = connection.query_row("SELECT opened FROM replication_opening", [], |row| row.get(0)).optional()?;
        let before = before.unwrap_or_else(|| NO_ID.to_string());
        let mut mark = LockRecord::parse(&self.lock.text()?);
        // The one in the file may be older than the one in the log.
        if !mark.ids.contains(&before) {
            mark.ids = vec![before];
        }
        let id = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let id = format!("{id:016x}");
        // Until the id is in the file, the ones before it are right too.
        mark.ids.push(id.clone());
        mark.generation = None;
        self.lock.set_text(&mark.text())?;
        connection.execute(
            "INSERT INTO replication_opening (id, opened) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET opened = ?1",
            [&id],
        )?;
        mark.is_lost = false;
        self.mark = mark;
        Ok(())
    }

    /// After that commit: notes which generation of logs it went to.
    pub(in crate::dbs_exec) fn after_commit(&mut self) -> io::Result<()> {
        if !self.is_written {
            self.is_written = true;
            self.mark.generation = log_header(&self.log)?;
            self.lock.set_text(&self.mark.text())?;
        }
        Ok(())
    }

    /// The file is no longer the one under its name.
    pub(in crate::dbs_exec) fn file_is_lost(&mut self) -> io::Result<()> {
        let mut mark = LockRecord::parse(&self.lock.text()?);
        mark.is_lost = true;
        self.lock.set_text(&mark.text())
    }

    /// Everything in the log was moved into the file.
    pub(in crate::dbs_exec) fn log_was_moved(&mut self) -> io::Result<()> {
        if self.is_written {
            // The next generation gets an id of its own: a copy of the file from before it does not fit its log.
            self.is_written = false;
            self.mark.ids.drain(..self.mark.ids.len().saturating_sub(1));
            self.lock.set_text(&self.mark.text())?;
        }
        Ok(())
    }
}

/// Forgets what was said about an earlier database of this name.
pub(in crate::dbs_exec) fn forget(lock: &FileLock) -> io::Result<()> {
    lock.set_text("")
}

/// The id in the file as it is without its log. The page that holds it never changes while the file is open.
fn id_in_file(path: &Path) -> rusqlite::Result<String> {
    let connection = open_immutable(path)?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'replication_opening'";
    if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(NO_ID.into());
    }
    let id = connection.query_row("SELECT opened FROM replication_opening", [], |row| row.get(0)).optional()?;
    Ok(id.unwrap_or_else(|| NO_ID.into()))
}

/// Which generation of logs this one is of; nothing when there is nothing in it.
fn log_header(path: &Path) -> io::Result<Option<u32>> {
    if length(path)?.is_none_or(|length| length <= LOG_HEADER as u64) {
        return Ok(None);
    }
    let mut header = [0; LOG_HEADER];
    File::open(path)?.read_exact_at(&mut header, 0)?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    // At 12 the sequence, at 16 the first salt.
    Ok(Some(number(16).wrapping_sub(number(12))))
}

fn starts_with(path: &Path, magic: &[u8]) -> io::Result<bool> {
    let mut found = vec![0; magic.len()];
    match File::open(path) {
        Ok(file) => Ok(file.read_exact_at(&mut found, 0).is_ok() && found == magic),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a rollback journal is what the only use of one in this program leaves when it is broken off: making the
/// first page, or turning a file that has no log (such as a backup) into one that has. It holds the first page alone,
/// which is the file's but for the header's fields that this changes.
fn is_of_a_change_of_mode(database: &Path, journal: &Path) -> io::Result<bool> {
    let journal = std::fs::read(journal)?;
    let number = |at: usize| {
        journal.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let (pages, sector, page) = (number(16), number(20) as usize, number(24) as usize);
    let length = length(database)?.unwrap_or_default();
    if pages == 0 {
        return Ok(length <= page as u64);
    }
    // Each record is the page's number, the page, and a checksum.
    let Some(kept) = journal.get(sector + 4..sector + 4 + page) else { return Ok(false) };
    if journal.len() > sector + page + 8 || number(sector) != 1 || u64::from(pages) * page as u64 != length {
        return Ok(false);
    }
    let mut now = vec![0; page];
    File::open(database)?.read_exact_at(&mut now, 0)?;
    // The versions of the file format at 18, the counter of changes at 24, the size at 28, the last writer at 92.
    let may_differ = |at: usize| matches!(at, 18..20 | 24..32 | 92..100);
    Ok(kept.iter().zip(&now).enumerate().all(|(at, (kept, now))| kept == now || may_differ(at)))
}

/// Opens the database that has a log beside it of which nobody knows, and lets the file and then `judge` say whether
/// the two fit. Nothing is written.
///
/// # Errors
/// [`OpenError::StrangeLog`] when they don't.
pub(in crate::dbs_exec) fn judge(
    file: &DatabaseFile,
    judge: &dyn Fn(&crate::dbs_exec::tx::Reader<'_>) -> crate::error::Result<Vec<String>>,
) -> Result<(), OpenError> {
    let log = file.companion(Companion::Log);
    let connection = crate::dbs_exec::connection::open_connection(file.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Closing this connection must leave the log where it is.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    crate::dbs_exec::schema::recognise(&connection)?;
    let verdict: rusqlite::Result<String> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    let is_newest = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))?
        == crate::dbs_exec::schema::newest_version();
    let finding = match verdict {
        Ok(verdict) if verdict != "ok" => Some(verdict),
        Err(error) => Some(error.to_string()),
        // An older version's books are judged once they are brought up to date.
        Ok(_) if !is_newest => None,
        Ok(_) => match judge(&crate::dbs_exec::tx::Reader::new(&connection)) {
            Ok(findings) => findings.into_iter().next(),
            Err(error) => Some(error.to_string()),
        },
    };
    match finding {
        Some(finding) => {
            log::error!("the log beside {} does not fit it: {finding}", file.path().display());
            Err(OpenError::StrangeLog(log))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = LockRecord { ids: vec!["-".into(), "00ff".into()], generation: Some(7), is_lost: true };
        assert_eq!(LockRecord::parse(&mark.text()), mark);
        assert_eq!(LockRecord::parse(""), LockRecord::default());
    }
}
