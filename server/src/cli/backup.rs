//! `backup` and `restore`: a copy of a branch's database while it runs, and the way back.
//!
//! A file gets its final name only when it is whole, forced to disk, and its books were audited; until then it is
//! called something else. So whatever lies under a backup's name is one. How a restore replaces a database so that a
//! stop at any moment leaves the old one or the new one is told in `dbs_exec/files/replace.rs`.
//!
//! Owner, group and mode of a database that is replaced stay as they are, and a link to it stays a link.
//!
//! What a restore can't do is make the other branches forget: [`AFTER_A_RESTORE`] says what that means.
//! Left out: the branch key is not in a backup (a secret of the whole bank is kept apart from each branch's data).

use protocol::io_words::IoWords;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use protocol::BranchName;
use protocol::answer::Audit;
use protocol::key_file::KEY_FILE;

use super::audit::audit_at_rest;
use crate::bank::Bank;
use crate::cli::arguments::{AFTER_A_RESTORE, DatabaseArguments};
use crate::cli::report::{Report, complain};
use crate::clock::{iso_utc, unix_ms_now};
use crate::dbs_exec::{
    DatabaseFile, ReadOnlyDatabase, TemporaryFile, copy_database, lock_to_replace, replace_database,
};
use crate::limits::{COPY_PROGRESS_AFTER, COPY_PROGRESS_EVERY};

/// Copies the database to `to`, which must not exist; in a folder, under a name with branch and time.
///
/// # Errors
/// One sentence for the operator, when there is no backup.
pub fn backup(database: &DatabaseArguments, to: &Path) -> Result<ExitCode, String> {
    let from = database.path();
    let source = ReadOnlyDatabase::open(&from).map_err(|error| format!("{}: {error}", from.display()))?;
    let to = match to.is_dir() {
        true => to.join(format!("{}-{}.db", stem(&from), stamp())),
        false => to.to_path_buf(),
    };
    // A link that leads nowhere is something too.
    if to.symlink_metadata().is_ok() {
        return Err(format!("{} exists; name a new file, or a folder", to.display()));
    }
    let temporary = copy(&source, &from, &to)?;
    let (name, audit) = inspect(&temporary, &from)?;
    let path = match audit.ok {
        true => to,
        // A file that is found under the backup's name must be one to rely on.
        false => beside(&to, "unclean"),
    };
    temporary.publish(&path).map_err(|error| format!("{}: {}", path.display(), IoWords(&error)))?;
    let mut report = Report::default();
    for finding in &audit.findings {
        report.line(format_args!("finding: {finding}"));
    }
    report.line(format_args!("backup of branch {name} in {}: {}, Rs {}", path.display(), rows(&audit), audit.balances));
    report.line(format_args!(
        "the branch key is not in it: keep a copy of {KEY_FILE} elsewhere, where nobody else can read it"
    ));
    if audit.ok {
        report.line("the books in it are clean");
        return Ok(report.print(&format!("the backup is made, in {}", path.display()), ExitCode::SUCCESS));
    }
    report.line("the books in it are NOT clean, therefore the name; the branch's own books are likely no better");
    let done = format!("the backup is made, in {}, and the books in it are NOT clean", path.display());
    Ok(report.print(&done, ExitCode::FAILURE))
}

/// Puts a backup in the place of the database, and says so. The old file is kept aside.
///
/// # Errors
/// One sentence for the operator; then the database is as it was.
pub fn restore(database: &DatabaseArguments, from: &Path, force: bool) -> Result<ExitCode, String> {
    let to = database.path();
    let Restored { name, audit, kept, had_old, had_log } = put_back(database, from, force)?;
    let mut report = Report::default();
    for finding in &audit.findings {
        report.line(format_args!("finding: {finding}"));
    }
    report.line(format_args!("branch {name} restored to {}: {}, Rs {}", to.display(), rows(&audit), audit.balances));
    match (had_old, had_log) {
        (true, false) => report.line(format_args!("the database that was there is {}", kept.display())),
        (true, true) => report.line(format_args!(
            "the database that was there is {0}, and {0}-wal, its log, belongs to it: keep the two together",
            kept.display()
        )),
        (false, true) => report.line(format_args!("the log that was left there is {}-wal", kept.display())),
        (false, false) => {}
    }
    // Beside the name that the branch is started with.
    if !crate::key::key_path(&to).exists() {
        report.line(format_args!(
            "there is no {KEY_FILE} beside it: copy the bank's before the start, or name it with --key; else the branch makes one of its own"
        ));
    }
    report.line(format_args!("\n{AFTER_A_RESTORE}"));
    Ok(report.print(&format!("branch {name} is restored to {}", to.display()), ExitCode::SUCCESS))
}

/// What a restore has found and done.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The branch.
    pub name: BranchName,
    /// The books in the backup.
    pub audit: Audit,
    /// Where what was there before is kept.
    pub kept: PathBuf,
    /// Whether there was a database.
    pub had_old: bool,
    /// Whether there was a log of one.
    pub had_log: bool,
}

/// Puts a backup in the place of the database. The old file is kept aside.
///
/// # Errors
/// One sentence for the operator; then the database is as it was.
pub fn put_back(database: &DatabaseArguments, from: &Path, force: bool) -> Result<Restored, String> {
    let to = database.path();
    let trouble = |error: &dyn std::fmt::Display| format!("{}: {error}", to.display());
    if !from.is_file() {
        return Err(format!("{}: there is no such backup", from.display()));
    }
    let file = DatabaseFile::resolve(&to).map_err(|error| trouble(&error))?;
    // Before the lock, which would keep a look at the same file away.
    if is_same(from, file.path()) {
        return Err(trouble(&"the backup and the database are the same file"));
    }
    let lock = lock_to_replace(&file).map_err(|error| trouble(&error))?;
    if file.exists() && !force {
        return Err(trouble(&"there is a database already; --force puts the backup in its place and keeps it aside"));
    }
    if file.has_log() && !force {
        return Err(trouble(
            &"the database is gone, and its log is left, which holds its newest commits; --force puts it aside",
        ));
    }
    let source = ReadOnlyDatabase::open(from).map_err(|error| format!("{}: {error}", from.display()))?;
    let temporary = copy(&source, from, file.path())?;
    drop(source);
    let (name, audit) = inspect(&temporary, from)?;
    if !audit.ok && !force {
        for finding in &audit.findings {
            complain(&format!("finding: {finding}"));
        }
        return Err(format!(
            "{}: the books in this backup are not clean; --force restores it all the same",
            from.display()
        ));
    }
    refuse_another_branch(&name, database, &file)?;
    let kept = file.beside(&format!(".before-{}", stamp()));
    let had_log = file.has_log();
    let had_old = replace_database(&file, &lock, temporary, &kept)?;
    Ok(Restored { name, audit, kept, had_old, had_log })
}

/// Copies what `source` looks at beside `to`, and says how far it is.
fn copy(source: &ReadOnlyDatabase, from: &Path, to: &Path) -> Result<TemporaryFile, String> {
    let mut progress = Progress::new(Instant::now());
    let copied = copy_database(source, to, |done, total| {
        if let Some(line) = progress.line(done, total, Instant::now()) {
            complain(&line);
        }
    });
    copied.map_err(|error| format!("{} could not be copied to {}: {error}", from.display(), to.display()))
}

/// Whether two names lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

fn rows(audit: &Audit) -> String {
    match audit.transactions {
        1 => "1 transaction".into(),
        count => format!("{count} transactions"),
    }
}

/// Whose database it is, and its books.
fn inspect(temporary: &TemporaryFile, from: &Path) -> Result<(BranchName, Audit), String> {
    let trouble = |error: &dyn std::fmt::Display| format!("{}: {error}", from.display());
    let database = ReadOnlyDatabase::open_alone(temporary.path()).map_err(|error| trouble(&error))?;
    let looked = database.read(|reader| {
        let name = Bank::name_in(reader)?;
        Ok((name, audit_at_rest(reader, None)?))
    });
    let (name, audit) = looked.map_err(|error| trouble(&error))?;
    let name = name.ok_or_else(|| trouble(&"no branch was ever opened with this database"))?;
    Ok((name, audit))
}

/// The name that was given, and the database that is replaced, must be of the branch that is restored.
fn refuse_another_branch(name: &BranchName, database: &DatabaseArguments, to: &DatabaseFile) -> Result<(), String> {
    let refuse = |other: &BranchName| Err(format!("this is a backup of the branch {name}, not of {other}"));
    if let Some(given) = database.name.as_ref().filter(|given| *given != name) {
        return refuse(given);
    }
    // A database that can't be read may be the very reason for the restore.
    let replaced = ReadOnlyDatabase::open_alone(to.path())
        .ok()
        .and_then(|database| database.read(|reader| Bank::name_in(reader)).ok().flatten());
    match replaced {
        Some(replaced) if replaced != *name => refuse(&replaced),
        Some(_) | None => Ok(()),
    }
}

/// `bank.db` with `x` gives `bank.db.x`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "bank".into(), |stem| stem.to_string_lossy().into_owned())
}

/// The time, fit for a file's name.
fn stamp() -> String {
    iso_utc(unix_ms_now()).replace([':', '.'], "-")
}

/// Says how far the copy is, once it takes its time.
struct Progress {
    next: Instant,
}

impl Progress {
    fn new(now: Instant) -> Self {
        Self { next: now + COPY_PROGRESS_AFTER }
    }

    fn line(&mut self, done: u64, total: u64, now: Instant) -> Option<String> {
        if now < self.next {
            return None;
        }
        self.next = now + COPY_PROGRESS_EVERY;
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        Some(format!("{percent} % copied ({done} of {total} pages)"))
    }
}

const _: () = assert!(COPY_PROGRESS_AFTER.as_millis() >= Duration::from_secs(1).as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_when_it_takes_long_and_not_too_often() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        assert_eq!(progress.line(1, 10, start), None);
        let late = start + COPY_PROGRESS_AFTER;
        assert_eq!(progress.line(5, 10, late).as_deref(), Some("50 % copied (5 of 10 pages)"));
        assert_eq!(progress.line(6, 10, late), None);
        assert_eq!(progress.line(7, 10, late + COPY_PROGRESS_EVERY).as_deref(), Some("70 % copied (7 of 10 pages)"));
        assert!(progress.line(0, 0, late + COPY_PROGRESS_EVERY * 2).is_some());
    }
}
