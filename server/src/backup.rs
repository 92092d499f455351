//! `backup` and `restore`: a copy of a branch's database while it runs, and the way back.
//!
//! A file gets its final name only when it is whole, forced to disk, and its books were audited; until then it is
//! called something else. So whatever lies under a backup's name is one, and a restore that is
//! interrupted leaves the old database or the new one, never none and never half.
//!
//! What a restore can't do is make the other branches forget: [`AFTER_A_RESTORE`] says what that means.
//! Left out: the branch key is not in a backup (a secret of the whole bank is kept apart from each branch's data).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use protocol::BranchName;
use protocol::answer::Audit;
use protocol::key_file::KEY_FILE;

use crate::arguments::{AFTER_A_RESTORE, DatabaseArguments};
use crate::audit::audit_at_rest;
use crate::bank::Bank;
use crate::clock::{iso_utc, unix_ms_now};
use crate::dbs_exec::{FileLock, copy_database, look_into, put_log_away};
use crate::limits::{COPY_PROGRESS_AFTER, COPY_PROGRESS_EVERY};

/// Copies the database to `to`, which must not exist; in a folder, under a name with branch and time.
///
/// # Errors
/// One sentence for the operator, when there is no backup.
pub fn backup(database: &DatabaseArguments, to: &Path) -> Result<ExitCode, String> {
    let from = database.path();
    if !from.exists() {
        return Err(format!("{}: there is no such database; name it with --db or --name", from.display()));
    }
    let to = match to.is_dir() {
        true => to.join(format!("{}-{}.db", stem(&from), stamp())),
        false => to.to_path_buf(),
    };
    if to.exists() {
        return Err(format!("{} exists; name a new file, or a folder", to.display()));
    }
    let draft = Draft::copy(&from, &to)?;
    let (name, audit) = inspect(&draft.path)?;
    let path = match audit.ok {
        true => to,
        // A file that is found under the backup's name must be one to rely on.
        false => beside(&to, "unclean"),
    };
    draft.publish(&path)?;
    for finding in &audit.findings {
        println!("finding: {finding}");
    }
    println!("backup of branch {name} in {}: {}, Rs {}", path.display(), rows(&audit), audit.balances);
    println!("the branch key is not in it: keep a copy of {KEY_FILE} elsewhere, where nobody else can read it");
    if audit.ok {
        println!("the books in it are clean");
        return Ok(ExitCode::SUCCESS);
    }
    println!("the books in it are NOT clean, therefore the name; the branch's own books are likely no better");
    Ok(ExitCode::FAILURE)
}

/// Puts a backup in the place of the database. The old file is kept aside.
///
/// # Errors
/// One sentence for the operator; then the database is as it was.
pub fn restore(database: &DatabaseArguments, from: &Path, force: bool) -> Result<ExitCode, String> {
    let to = database.path();
    let trouble = |error: &dyn std::fmt::Display| format!("{}: {error}", to.display());
    if !from.is_file() {
        return Err(format!("{}: there is no such backup", from.display()));
    }
    let _lock = FileLock::acquire(&to).map_err(|error| trouble(&error))?;
    if to.exists() && !force {
        return Err(trouble(&"there is a database already; --force puts the backup in its place and keeps it aside"));
    }
    if let (Ok(from), Ok(to)) = (from.canonicalize(), to.canonicalize())
        && from == to
    {
        return Err(trouble(&"the backup and the database are the same file"));
    }
    let draft = Draft::copy(from, &to)?;
    let (name, audit) = inspect(&draft.path)?;
    for finding in &audit.findings {
        println!("finding: {finding}");
    }
    if !audit.ok && !force {
        return Err(format!(
            "{}: the books in this backup are not clean; --force restores it all the same",
            from.display()
        ));
    }
    refuse_another_branch(&name, database, &to)?;
    let kept = if to.exists() { Some(keep_aside(&to)?) } else { None };
    draft.publish(&to)?;
    println!("branch {name} restored to {}: {}, Rs {}", to.display(), rows(&audit), audit.balances);
    if let Some(kept) = kept {
        println!("the database that was there is {}", kept.display());
    }
    if !crate::key::key_path(&to).exists() {
        println!(
            "there is no {KEY_FILE} beside it: copy the bank's before the start, or name it with --key; else the branch makes one of its own"
        );
    }
    println!("\n{AFTER_A_RESTORE}");
    Ok(ExitCode::SUCCESS)
}

/// A copy that has not got its name yet; removed when it is dropped before that.
struct Draft {
    path: PathBuf,
    is_published: bool,
}

impl Draft {
    /// Copies `from` into the folder of `to`.
    fn copy(from: &Path, to: &Path) -> Result<Self, String> {
        let draft = Self { path: beside(to, &format!("{}.part", std::process::id())), is_published: false };
        // What an earlier process with this number has left when it was killed.
        let _ = fs::remove_file(&draft.path);
        let mut progress = Progress::new(Instant::now());
        let copied = copy_database(from, &draft.path, |done, total| {
            if let Some(line) = progress.line(done, total, Instant::now()) {
                eprintln!("bank-server: {line}");
            }
        });
        copied
            .map_err(|error| format!("{} could not be copied to {}: {error}", from.display(), draft.path.display()))?;
        Ok(draft)
    }

    /// Gives the copy its name, durably.
    fn publish(mut self, path: &Path) -> Result<(), String> {
        let renamed = fs::rename(&self.path, path).and_then(|()| sync_folder(path));
        renamed.map_err(|error| format!("{}: {error}", path.display()))?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_published {
            // The sentence that the operator gets says what went wrong before.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn rows(audit: &Audit) -> String {
    match audit.transactions {
        1 => "1 transaction".into(),
        count => format!("{count} transactions"),
    }
}

/// Whose database it is, and its books.
fn inspect(path: &Path) -> Result<(BranchName, Audit), String> {
    let looked = look_into(path, |reader| {
        let name = Bank::name_in(reader)?;
        Ok((name, audit_at_rest(reader, None)?))
    });
    let (name, audit) = looked.map_err(|error| format!("{}: {error}", path.display()))?;
    let name = name.ok_or_else(|| format!("{}: no branch was ever opened with this database", path.display()))?;
    Ok((name, audit))
}

/// The name that was given, and the database that is replaced, must be of the branch that is restored.
fn refuse_another_branch(name: &BranchName, database: &DatabaseArguments, to: &Path) -> Result<(), String> {
    let refuse = |other: &BranchName| Err(format!("this is a backup of the branch {name}, not of {other}"));
    if let Some(given) = database.name.as_ref().filter(|given| *given != name) {
        return refuse(given);
    }
    // A database that can't be read may be the very reason for the restore.
    let replaced = to.exists().then(|| look_into(to, |reader| Bank::name_in(reader)).ok().flatten()).flatten();
    match replaced {
        Some(replaced) if replaced != *name => refuse(&replaced),
        Some(_) | None => Ok(()),
    }
}

/// Gives the old database a second name, and leaves the first for the new one to take over at once.
fn keep_aside(path: &Path) -> Result<PathBuf, String> {
    let kept = beside(path, &format!("before-{}", stamp()));
    let trouble = |error: io::Error| format!("{} could not be kept as {}: {error}", path.display(), kept.display());
    if let Err(error) = put_log_away(path) {
        eprintln!("bank-server: {}: {error}; it is kept as it is", path.display());
    }
    // Only a database that can't be read still has a log now. It would be taken for the new one's.
    let log = beside(path, "-wal");
    if log.exists() {
        fs::rename(&log, beside(&kept, "-wal")).map_err(trouble)?;
    }
    fs::hard_link(path, &kept).map_err(trouble)?;
    sync_folder(path).map_err(trouble)?;
    Ok(kept)
}

/// `bank.db` with `x` gives `bank.db.x`; with SQLite's own endings, such as `-wal`, `bank.db-wal`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if !ending.starts_with('-') {
        name.push(".");
    }
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

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
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
